//! What handling a batch's datagrams touches, on its way into the caches.
//!
//! A datagram's connection ID has a place in a table, which says where the connection is, with its keys; what that points to is the
//! last step. Each needs what the one before it has asked for. They run ahead of the datagram that is being handled, each further than
//! the next, so that what one asks for comes while others are handled.

use crate::limits::AHEAD;
use crate::worker::Core;
use warpline_pktio::Received;
use warpline_proto::{ConnectionHandle, Fetch};

/// Places of a ring: the datagram being handled and those that some step is ahead at.
const PLACES: usize = (AHEAD + 4).next_power_of_two();

/// The connections that the next datagrams of a batch are for, as far as they have been looked up.
#[derive(Debug, Default)]
pub(crate) struct Ahead([Option<ConnectionHandle>; PLACES]);

impl Ahead {
    /// The `at`-th datagram of a batch is about to be handled; it is the first of `rest`.
    #[inline]
    pub(crate) fn look(&mut self, core: &Core, at: usize, rest: &[Received]) {
        if at == 0 {
            // Nothing is on its way yet: each step for all, so that at least they do not wait for one another.
            rest.iter().take(AHEAD + 3).for_each(|received| core.endpoint.prefetch_route(&received.frame));
            (0..AHEAD + 2).for_each(|ahead| self.find(core, ahead, rest.get(ahead)));
            (0..AHEAD + 1).for_each(|ahead| self.fetch(core, ahead, Fetch::Connection));
            (0..AHEAD).for_each(|ahead| self.fetch(core, ahead, Fetch::Parts));
        }
        if let Some(received) = rest.get(AHEAD + 3) {
            core.endpoint.prefetch_route(&received.frame);
        }
        self.find(core, at + AHEAD + 2, rest.get(AHEAD + 2));
        self.fetch(core, at + AHEAD + 1, Fetch::Connection);
        self.fetch(core, at + AHEAD, Fetch::Parts);
    }

    #[inline]
    fn find(&mut self, core: &Core, at: usize, received: Option<&Received>) {
        let found = received.and_then(|received| core.endpoint.foresee(&received.frame));
        found.inspect(|handle| core.conns.prefetch_place(*handle));
        self.0[at % PLACES] = found;
    }

    #[inline]
    fn fetch(&self, core: &Core, at: usize, step: Fetch) {
        if let Some(handle) = self.0[at % PLACES] {
            core.endpoint.fetch(handle, step);
            core.conns.prefetch(handle, step);
        }
    }
}
