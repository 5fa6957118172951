//! Going over to a new process without losing a connection.
//!
//! A process with a restart socket listens there for its successor. The successor gets the port's sockets, the secret
//! that tokens are derived from, and the table by which the kernel steers; it joins the group with sockets of its own.
//! IDs of the two differ in one bit, the mark, by which the kernel tells whose a packet is. The steps, with the argument
//! why no packet of a living connection goes astray, are in `docs/scaling.md`.
//!
//! [`Line`] is the connection between the two processes, [`Doorway`] the thread that tends it, [`Heir`] the way of
//! packets from the old process's workers to the new process.

mod doorway;
mod gate;
mod heir;
mod line;
mod message;

pub(crate) use doorway::{Doorway, Predecessor, Surroundings, Visit, visit};
pub(crate) use gate::Stage;
pub(crate) use heir::Heir;
