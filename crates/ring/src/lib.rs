//! The lock-free structures that connect workers, and nothing else that is shared.
//!
//! A worker runs alone: its connections, timers and buffers are its own. What has to cross threads goes through one of
//! these, each with one purpose and its argument for memory order beside the code:
//!
//! | structure | from → to | used for |
//! |---|---|---|
//! | [`spsc`] | one worker → one worker | packets that arrived at the wrong worker, connections that move |
//! | [`mailbox`] | any thread → one worker | commands of the program, wake-ups of tasks |
//! | [`oneshot`] | one thread → one task | the answer to one question |
//! | [`Doorbell`] | any thread → one worker | "look at your queues", with a system call only if it sleeps |
//! | [`WaitList`] | any thread → tasks anywhere | "what you wait for may have happened" |
//! | [`WakeSet`] | any thread → one worker | wake-ups of fibers, which must neither be lost nor refused |
//! | [`pipe`] | one task → one task | a stream's chunks, between a worker and the program |
//! | [`fan_in`] | several workers → tasks anywhere | connections, streams, datagrams to be accepted |
//! | [`Claim`] | any thread, one at a time | what those share who receive from the same place |
//! | [`Flag`] | any thread → one | "something happened" |
//! | [`AtomicWaker`] | any thread → one task | "look again" |
//! | [`Counters`] | one worker → any reader | statistics |
//! | [`EpochCell`] | one publisher → all workers | tables that change rarely and are read for every packet |
//! | [`partition`] | one coordinator ↔ all workers | moving slots between workers |
//! | [`Progress`] | each worker → all others | how far each has come while slots move between workers |
//!
//! Whatever needs a mutex beside that uses [`Lock`], which can be counted. All queues are bounded: their memory is allocated
//! when they are made, and what does not fit comes back to the caller. Read [`spsc::channel`], [`mailbox::mailbox`] and [`Doorbell`] first.
//!
//! ```
//! let (mut producer, mut consumer) = warpline_ring::spsc::channel::<u32>(4);
//! producer.push(7).expect("the ring is empty");
//! assert_eq!(consumer.pop(), Some(7));
//! ```
//!
//! Every structure is model-checked: `RUSTFLAGS="--cfg loom" cargo test -p warpline-ring --release --test loom`.

mod claim;
mod counters;
mod doorbell;
mod epoch;
pub mod fan_in;
mod flag;
mod lock;
pub mod mailbox;
pub mod oneshot;
mod pad;
pub mod partition;
pub mod pipe;
mod progress;
pub mod spsc;
mod sync;
mod wait_list;
mod wakeset;

pub use claim::Claim;
pub use counters::{Counter, Counters};
pub use doorbell::{Doorbell, Notify};
pub use epoch::{EpochCell, EpochReader};
pub use flag::Flag;
pub use lock::Lock;
#[cfg(feature = "count-locks")]
pub use lock::locks_taken;
pub use pad::CachePadded;
pub use progress::Progress;
pub use sync::AtomicWaker;
pub use wait_list::WaitList;
pub use wakeset::WakeSet;
