//! Other QUIC implementations as peers, and a bad network between them and us.
//!
//! - [`proxy`]: a UDP proxy that delays, drops, reorders, duplicates and damages datagrams of real sockets, with the
//!   same hops that the simulator uses;
//! - [`aioquic`]: servers and clients of aioquic, an implementation in Python, as child processes;
//! - [`quinn_peer`]: servers and clients of quinn in this process, and [`warpline_peer`]: the same of our own;
//! - [`hq`]: the file transfer of the public interop suite (HTTP/0.9 over QUIC), and [`identity`]: certificates.
//!
//! It is not a benchmark: `bench/` compares speeds. The tests are in `tests/`, one file per peer.
//!
//! To read first: [`proxy::Proxy`], [`proxy::Config`], [`aioquic::Server`].
#![forbid(unsafe_code)]

pub mod aioquic;
pub mod endpoint;
pub mod hq;
pub mod identity;
pub mod matrix;
pub mod proxy;
pub mod quinn_peer;
pub mod warpline_peer;
pub mod wire;
