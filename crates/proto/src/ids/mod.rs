//! Connection IDs: ours, which the peer puts on packets to us, and the peer's (RFC 9000 section 5.1).

mod generator;
mod local;
mod quic_lb;
mod remote;

pub(crate) use generator::{CidGenerator, guess};
pub(crate) use local::LocalCids;
pub use quic_lb::QuicLb;
pub(crate) use remote::{PathCid, RemoteCids};
