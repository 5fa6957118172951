//! Workers added and removed while traffic flows.
//!
//! A thread of its own, the coordinator, carries out changes one at a time: it starts workers, publishes a
//! [`Plan`](warpline_ring::partition::Plan), has the kernel steer by the new table, and waits until all workers have
//! settled. Workers that are to go finish everything they have and say so; their packet back ends are kept, to be used
//! again. `docs/scaling.md` has the protocol.

mod coordinator;
mod crew;
mod ports;
mod starter;

pub(crate) use coordinator::{Coordinator, Signal, coordinate};
pub(crate) use crew::Crew;
pub use ports::Ports;
pub(crate) use starter::{Program, Starter};
