//! Connection IDs: ours, which the peer puts on packets to us, and the peer's (RFC 9000 section 5.1).

mod local;
mod remote;

pub(crate) use local::{LocalCids, generate};
pub(crate) use remote::{PathCid, RemoteCids};
