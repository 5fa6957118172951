//! One worker: a thread, a socket, an endpoint, and the tasks of the program.

mod ahead;
mod change;
mod conns;
mod core;
mod ingress;
mod leftovers;
mod links;
mod logs;
mod moving;
mod order;
mod rebind;
mod run;
mod signals;
mod spin;
mod strays;
mod waiters;

pub use conns::ConnectionKey;
pub(crate) use conns::{Phase, SendPhase};
pub(crate) use core::{Both, Core};
pub(crate) use leftovers::Tail;
#[cfg(test)]
pub(crate) use links::Message;
pub(crate) use links::{LinkChange, Links, Outbound, Packet};
pub(crate) use logs::LogFolder;
pub(crate) use order::Order;
pub(crate) use rebind::Rebind;
pub(crate) use run::{Loop, Setup};
pub(crate) use waiters::register;
