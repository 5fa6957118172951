//! One worker: a thread, a socket, an endpoint, and the tasks of the program.

mod conns;
mod core;
mod leftovers;
mod rebind;
mod run;
mod spin;
mod waiters;

pub use conns::ConnectionKey;
pub(crate) use conns::{ConnSide, Phase, SendPhase};
pub(crate) use core::{Both, Core};
pub(crate) use leftovers::Tail;
pub(crate) use rebind::Rebind;
pub(crate) use run::{Handover, Links, Loop, Setup};
pub(crate) use waiters::register;
