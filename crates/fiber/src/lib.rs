//! Stackful fibers: many flows of control on one thread, each with a stack of its own.
//!
//! A fiber is written like a thread and switched like a function call: it runs until it waits, and then another one runs.
//! It never moves to another thread, so what it shares with its thread's other fibers needs no locks. The switch itself is
//! that of [`corosensei`]; scheduling, stacks and waiting are this crate's. It knows nothing of QUIC and is no executor of
//! futures, though each side can wait for the other.
//!
//! Read [`Scheduler`] (runs the fibers of a thread), [`Baton`] (the one way to wait) and [`JoinHandle`] (a fiber's end)
//! first; then [`sync`] (channels, locks), [`time`] (sleeps, timers), [`Wait`] (any future in a fiber), [`Guest`] (fibers as one
//! task of an executor) and [`reactor`] (sockets and files by `io_uring` or readiness). All but the last work without a
//! reactor.
//!
//! ```
//! use warpline_fiber::{Scheduler, spawn, yield_now};
//!
//! let scheduler = Scheduler::new(Default::default()).unwrap();
//! let sum = scheduler.run(|| {
//!     let parts: Vec<_> = (1..=10).map(|part| spawn(move || { yield_now(); part * part })).collect();
//!     parts.into_iter().map(|part| part.join().unwrap()).sum::<u32>()
//! });
//! assert_eq!(sum, 385);
//! ```
//!
//! **Panics** end the fiber and reach whoever joins it; the thread and its other fibers go on. **Cancellation** is an
//! unwinding that begins at a wait ([`JoinHandle::cancel`]), so destructors run; both need `panic = "unwind"`.
//! **Stack overflows** hit a guard, are reported with the fiber's name, and end the process. **Memory**: cells and stacks
//! are reused; after warm-up, spawning (with a closure and a result of up to [`limits::INLINE_BYTES`]), switching,
//! waiting and joining allocate nothing.

mod affinity;
mod baton;
mod cancel;
mod future;
mod guest;
mod hog;
pub mod limits;
mod local;
pub mod reactor;
mod remote;
mod sched;
mod stack;
pub mod sync;
pub mod time;

pub use baton::Baton;
pub use cancel::{check_cancelled, is_cancelled, shield};
pub use future::Wait;
pub use guest::Guest;
pub use hog::{HogConfig, HogReport};
pub use local::FiberLocal;
pub use remote::{Remote, RemoteError};
pub use sched::{
    Builder, Config, JoinError, JoinHandle, Scheduler, SetupError, SpawnError, Stats, Turn, current_name, spawn,
    yield_now,
};
pub use stack::{StackClass, StackConfig, StackStats};
