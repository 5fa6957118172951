//! Frames: the memory that packets live in, handed on by value.
//!
//! A worker owns a [`Pool`]: one mapping cut into frames of equal size. The kernel fills a frame, the worker cuts it
//! into datagrams, the cipher opens each in place, and what the program reads is a slice of that same memory. No byte
//! is copied on the way, and nobody has to say when the memory is free again: the last value that refers to a frame
//! returns it when it is dropped, on whatever thread that happens.
//!
//! Three types to read first:
//!
//! - [`Frame`]: unique, writable access to a byte range of one frame. [`Frame::split_to`] cuts it in two that can go
//!   separate ways.
//! - [`Chunk`]: a shared, immutable slice of a frame (or of static or heap bytes), what [`Frame::freeze`] gives.
//! - [`Pool`]: where frames come from. Taking one is O(1) and never allocates.
//!
//! What it costs: a split or a clone is one relaxed increment; a drop is one load when the value is the last one and
//! one release decrement when it is not; a return to the pool is one compare-and-swap.
//!
//! What it is not: a general allocator. There is one size per pool, no growth, and no blocking; a pool that is empty
//! answers `None`, and the caller copies into a [`Spill`] (frames on the heap within a bound), drops the packet, or waits.
//!
//! ```
//! use warpline_frame::{Chunk, Pool, PoolConfig};
//!
//! let mut pool = Pool::new(PoolConfig { frame_size: 2048, frames: 16, huge_pages: false })?;
//! let mut frame = pool.take().expect("the pool is fresh");
//! frame[..5].copy_from_slice(b"hello");
//! let front: Chunk = frame.split_to(5).freeze();
//! drop(frame);
//! assert_eq!(pool.available(), 15); // `front` still holds the frame
//! assert_eq!(&front[..], b"hello");
//! drop(front);
//! assert_eq!(pool.available(), 16);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A pool made by [`Pool::packed`] can share its memory with a device: frames are [lent](Pool::lend) and
//! [taken back](Pool::take_back) by index, and while a frame is lent nobody can reach it.
//!
//! Beside frames there are [`Blocks`]: memory for what a worker keeps of each connection.
//!
//! The memory of a pool lives until the pool and its last frame or chunk are gone, whichever is later.
//!
//! The two lock-free parts (the count and the return stack) are model-checked:
//! `RUSTFLAGS="--cfg loom" cargo test -p warpline-frame --release --lib`.

mod ahead;
mod blocks;
mod chunk;
mod count;
mod frame;
mod heap;
mod hold;
mod lend;
mod memory;
mod pool;
mod returns;
mod spill;
mod sync;

#[cfg(all(test, loom))]
mod model;

pub use ahead::{prefetch, prefetch_line};
pub use blocks::Blocks;
pub use chunk::Chunk;
pub use frame::Frame;
pub use heap::heap_in_use;
pub use memory::Pages;
pub use pool::{Pool, PoolConfig};
pub use spill::Spill;
