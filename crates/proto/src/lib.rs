//! QUIC without I/O: no clock, no socket, no thread.
#![forbid(unsafe_code)]

pub mod congestion;
pub mod ecn;
pub mod mtu;
pub mod pacing;
pub mod recovery;
mod time;

pub use time::Instant;
