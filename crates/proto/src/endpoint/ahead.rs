//! The memory of connections on its way before their datagrams are handled.
//!
//! A message and its echo touch some fifty cache lines of their connection: most of the connection itself, the keys of both
//! directions, what was sent last. Where thousands of connections take turns none of them is in any cache, and handling the packet waits for
//! them one after the other. Asked for at once they come side by side. What is asked for lies behind pointers that
//! have to be there themselves, so this goes in steps, each for several datagrams before the next.

use warpline_wire::header;

use super::{ConnectionHandle, Endpoint};
use crate::connection::Connection;
use crate::time::Instant;

/// A step of [`Endpoint::fetch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// The connection itself, keys included.
    Connection,
    /// What it points to: queues, and keys of libraries.
    Parts,
}

impl Fetch {
    /// All steps, in their order.
    pub const ALL: [Self; 2] = [Self::Connection, Self::Parts];
}

impl Endpoint {
    /// Has what the next [`handle_timeout`](Self::handle_timeout) looks at first brought into the caches. Nearly all deadlines that pass are of
    /// connections that have heard from their peers since, and all that is looked at of them is whether they have.
    #[inline]
    pub fn prefetch_timeouts(&self, now: Instant) {
        self.deadlines.first_due(now).for_each(|handle| self.slots.prefetch(handle));
    }

    /// Has the place where a datagram's connection ID is looked for brought into the caches: what [`foresee`](Self::foresee) looks at.
    #[inline]
    pub fn prefetch_route(&self, datagram: &[u8]) {
        if let Some(dcid) = header::short_dcid(datagram, self.routes.cid_len()) {
            self.routes.prefetch(dcid);
        }
    }

    /// The connection that a datagram which has arrived will be handled by, if it is another one than the last: the one
    /// to [`fetch`](Self::fetch). Its entry in the endpoint's table is on its way then.
    #[inline]
    pub fn foresee(&self, datagram: &[u8]) -> Option<ConnectionHandle> {
        let dcid = header::short_dcid(datagram, self.routes.cid_len())?;
        let handle = self.routes.find_other(dcid)?;
        self.slots.prefetch(handle);
        Some(handle)
    }

    /// Has what handling a packet of the connection touches brought into the caches. Only a hint. The connection's address follows from the
    /// handle; what it points to needs what the step before it asked for.
    #[inline]
    pub fn fetch(&self, handle: ConnectionHandle, step: Fetch) {
        match step {
            Fetch::Connection => self.slots.prefetch_connection(handle),
            Fetch::Parts => self.slots.find(handle).into_iter().for_each(Connection::prefetch_parts),
        }
    }
}
