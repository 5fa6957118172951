//! A deterministic network simulator for the production protocol code.
//!
//! A [`World`](world::World) holds one server, clients, and between them [paths](path::Path) made of [hops](hop::Hop): a
//! bottleneck, a delay, loss, a NAT. Hosts run the production [`Endpoint`](warpline_proto::Endpoint), one or several as the
//! [workers] of an engine, with an [application](app) on top. Time is virtual: it jumps from event to event, so an hour of
//! a slow link costs what its packets cost. All randomness comes from one seed; the same seed gives the same run, which
//! the hash of its event log shows.
//!
//! [Checkers](check) watch from outside: content, delivery, liveness, flow control, buffers, amplification.
//! [Scenarios](scenario) put hosts, hops and checkers together, and [`run`](run::run) runs one with a seed.
//!
//! It is not a model of a protocol and not a benchmark: the protocol code is the real one, and its speed is not measured.
//!
//! [`congestion`] asks how much of a link a controller uses, over the whole range of links.
//!
//! To read first: [`node::Node`], [`hop::Hop`], [`world::World`].
#![forbid(unsafe_code)]

pub mod address;
pub mod app;
pub mod check;
pub mod clock;
pub mod congestion;
pub mod hop;
pub mod host;
pub mod log;
pub mod node;
mod packet;
pub mod path;
pub mod rng;
pub mod run;
pub mod scenario;
pub mod spoofer;
pub mod workers;
pub mod world;

pub use node::{Node, Report, Tally};
pub use packet::{Codepoint, Packet};
pub use rng::Rng;
pub use warpline_proto::Instant;
