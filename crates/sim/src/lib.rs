//! A deterministic network simulator for the production protocol code.
//!
//! A [`World`](world::World) holds one server, clients, and between them [paths](path::Path) made of
//! [hops](hop::Hop): a bottleneck, a delay, loss, a NAT. Hosts run the production endpoint with an
//! application on top. Time is virtual: it jumps from event to event, so an hour of a slow link costs what its packets
//! cost. All randomness comes from one seed; the same seed gives the same run, which the hash of its event log shows.
//!
//! [Checkers](check) watch from outside: content, delivery, liveness, flow control, amplification.
//!
//! It is not a model of a protocol and not a benchmark: the protocol code is the real one, and its speed is not measured.
//!
//! To read first: [`node::Node`], [`hop::Hop`], [`world::World`].
#![forbid(unsafe_code)]

pub mod address;
pub mod check;
pub mod clock;
pub mod hop;
mod instant;
pub mod log;
pub mod node;
mod packet;
pub mod path;
pub mod rng;
pub mod world;

pub use instant::Instant;
pub use node::{Node, Report};
pub use packet::{Codepoint, Packet};
pub use rng::Rng;
