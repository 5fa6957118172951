//! What every program of the comparison shares.
//!
//! A peer is one program with two roles, `server` and `client`, whose arguments and output are the same for every
//! stack (`bench/README.md` has the contract). This crate holds the parts that must not differ between peers, so that
//! a row of the comparison differs in the stack only:
//!
//! - [`Command`] with [`ServerArgs`], [`ClientArgs`] and [`Congestion`]: the command line.
//! - [`Scenario`]: what a client can be asked to do.
//! - [`Counters`] and [`Report`]: what was counted, and the one JSON line that says it.
//! - [`load`] (feature `load`): the load program itself for stacks with an asynchronous API.
//! - [`driven`] (feature `driven`): the same for stacks that are driven by a loop of their caller's.
//! - [`tls`] (feature `tls`): one cipher suite, one key exchange, for stacks that take rustls.
//!
//! It is not a place for anything that a stack wants done in its own way: sockets' event loops, timers and batching
//! belong to the peer.
//!
//! ```
//! use warpline_peer_kit::{Counters, Histogram};
//!
//! let counters = Counters::default();
//! counters.add_op(100);
//! counters.latency.record(1_000);
//! assert_eq!(counters.snapshot().ops, 1);
//! assert!(counters.latency.quantile(0.5).is_some_and(|ns| ns >= 1_000));
//! # let _ = Histogram::default();
//! ```
#![forbid(unsafe_code)]

mod args;
mod counters;
#[cfg(feature = "driven")]
pub mod driven;
mod histogram;
#[cfg(feature = "load")]
pub mod load;
mod process;
mod protocol;
mod report;
mod scenario;
#[cfg(feature = "tls")]
pub mod tls;

pub use args::{ClientArgs, Command, Congestion, ServerArgs};
pub use counters::{Counters, Snapshot};
pub use histogram::Histogram;
pub use process::{announce, exit_on_stdin_eof, hold_until_stdin_eof, udp_socket};
pub use protocol::{
    ALPN, COUNT_EVERY, COUNT_QUERY, DATAGRAM_ECHO, DATAGRAM_SINK, HEADER_LEN, REQUEST_LEN, RESPONSE_LEN, SERVER_NAME,
    WRITE_CHUNK, header,
};
pub use report::{Measurement, Report};
pub use scenario::Scenario;

/// What a peer's fallible steps return; peers print the error and exit with status 1.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;
