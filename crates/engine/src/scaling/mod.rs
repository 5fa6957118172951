//! Workers added and removed while traffic flows.
//!
//! A thread of its own, the coordinator, carries out changes one at a time: it starts workers, publishes a
//! [`Plan`](warpline_ring::partition::Plan), has the kernel steer by the new table, and waits until all workers have
//! settled. Workers that are to go finish everything they have and say so; their packet back ends are kept, to be used
//! again. With a [`ScalingPolicy`] it also decides by itself. `docs/scaling.md` has the protocol.

mod coordinator;
mod crew;
mod judge;
mod ports;
mod starter;

pub(crate) use coordinator::{Coordinator, Signal, coordinate};
pub(crate) use crew::Crew;
pub use judge::ScalingPolicy;
pub use ports::Ports;
pub(crate) use starter::{Program, Role, Starter};
