//! The load program for stacks that leave sockets, timers and loops to their caller: sessions that are called when
//! something has happened on a connection, the same work as in [`load`](crate::load). A stack's adapter implements
//! [`Link`] and calls the sessions from its loop; [`Wire`] is a UDP socket with GSO and GRO for that loop.

mod client;
mod link;
mod plan;
mod server;
mod wire;

pub use client::{ClientSession, Step};
pub use link::{Link, Outgoing};
pub use plan::{Plan, Tick};
pub use server::ServerSession;
pub use wire::{Inbox, Train, Wire};
