//! What fibers of one thread share: channels, locks, permits, events.
//!
//! Everything here is a baton per waiter and a first-in, first-out list of them. Operations that may wait are futures:
//! `.wait()` ([`Wait`](crate::Wait)) in a fiber, `.await` in an async function on the same thread. A waiter's place in the
//! list is in the future itself, so waiting allocates nothing, and dropping the future, by cancellation for instance,
//! gives up the place and hands on what it may have been given already.

mod channel;
mod event;
mod list;
mod mutex;
mod semaphore;

pub use channel::{Closed, Receiver, Recv, Send, SendClosed, Sender, channel};
pub use event::{Event, Waiting};
pub use mutex::{Lock, Mutex, MutexGuard};
pub use semaphore::{Acquire, Permit, Semaphore};
