//! How datagrams reach memory and leave it.
//!
//! An [`Io`] is one worker's end of the network: it receives trains of datagrams into [frames](warpline_frame::Frame),
//! sends trains that were built in its own buffers, and sleeps until there is something to do. It knows nothing of
//! QUIC.
//!
//! | backend | made by | one system call moves |
//! |---|---|---|
//! | [`uring`] (Linux) | [`Io::bind`], [`Io::bind_group`] | all that there is, in and out, and the wait |
//! | [`udp`] (Linux) | [`Io::bind`], [`Io::bind_group`] | up to 16 GRO trains in, up to 64 GSO trains out |
//! | `xdp` (Linux) | [`Io::xdp_group`] | 64 packets in, any number out; none where the device polls |
//! | [`portable`] | [`Io::portable`] | one datagram |
//! | [`memory`] | [`memory::Hub`] | nothing: queues in the process, for tests |
//!
//! [`Io::bind`] takes the backend that [`IoConfig::backend`] names, or the fastest that works and says why it took no
//! faster one ([`Choice`]). Three types to read first: [`Io`], [`Received`], [`TxMeta`].
//!
//! A worker's turn looks like this:
//!
//! ```
//! use warpline_pktio::{Io, IoConfig, TxMeta};
//! # fn main() -> std::io::Result<()> {
//! let mut io = Io::bind("127.0.0.1:0".parse().unwrap(), &IoConfig::default())?;
//! let to_myself = io.local_addr();
//!
//! let train = io.tx_buffer().expect("nothing is queued yet");
//! train[..4].copy_from_slice(b"ping");
//! io.tx_commit(TxMeta { remote: to_myself, local: None, ecn: None, segment_size: 4, len: 4 });
//! io.flush()?;
//!
//! io.wait(None)?;
//! let mut batch = Vec::new();
//! io.recv(&mut batch)?;
//! for received in batch.drain(..) {
//!     for datagram in received.datagrams() {
//!         assert_eq!(&datagram[..], b"ping");
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! # Where the memory is
//!
//! Reception uses three pools per worker, sized by [`IoConfig`]. The kernel writes into *large* frames (64 KiB, one GRO
//! train each). A train that fills at least a quarter of its frame is handed on in it; anything smaller is copied into
//! a *small* (2 KiB) or *medium* (16 KiB) frame, so that one datagram that the program keeps does not pin 64 KiB. Below
//! the low-water mark of the large pool all is copied, and when nothing is left the datagrams are dropped and counted,
//! never the worker blocked. Transmission builds trains one after the other in one buffer of 256 KiB, small enough to
//! stay in the second-level cache.

mod bell;
mod config;
mod io;
mod kind;
pub mod limits;
pub mod memory;
mod meta;
mod pools;
pub mod portable;
mod select;
#[cfg(target_os = "linux")]
mod selftest;
mod stats;
mod tx;
#[cfg(target_os = "linux")]
pub mod udp;
#[cfg(target_os = "linux")]
pub mod uring;
pub mod xdp;

pub use bell::Doorbell;
pub use config::{Backend, IoConfig};
pub use io::Io;
pub use kind::IoKind;
pub use meta::{Datagrams, Ecn, Received, TxMeta};
pub use select::Choice;
#[cfg(target_os = "linux")]
pub use select::{Growing, growing};
pub use stats::{IoStats, StatsHandle};
