//! Handles for other threads: everything goes to the connection's worker and comes back through rings.
//!
//! Each stream has two tasks on its worker, one per direction, which own the local stream and move chunks between it
//! and a bounded ring. Each connection has one more, the [`keeper`]. What is asked for once (opening a stream, counters)
//! is a command in the worker's mailbox. No thread waits for a lock that a worker holds, or the other way round.

mod call;
mod connection;
mod early;
mod keeper;
mod recv;
mod send;

pub(crate) use call::call_local;
pub use connection::{Connection, SendDatagramError};
pub use recv::RecvStream;
pub use send::SendStream;
