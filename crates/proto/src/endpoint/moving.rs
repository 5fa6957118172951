//! Connections that move whole from one endpoint to another, and what a worker has to know of those that stay behind.
//!
//! A connection's state is one value: taking it out of an endpoint takes everything with it but its entries in the
//! tables of routes, which are made anew where it arrives. Both endpoints must read the same clock, speak with the same
//! address and have the same configuration; that is the engine's business.

use warpline_wire::{ConnectionId, cid, header};

use super::{ConnectionHandle, Endpoint};
use crate::connection::Connection;
use crate::time::Instant;

/// A connection between two endpoints. Dropped, the connection is gone without a word to the peer.
pub struct Detached {
    connection: Box<Connection>,
    half_open: bool,
}

impl Detached {
    /// The partition key in every ID of the connection.
    pub fn partition_key(&self) -> u16 {
        self.connection.partition_key()
    }

    /// The IDs by which the peer may address the connection.
    pub fn ids(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.connection.route_ids()
    }
}

impl std::fmt::Debug for Detached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detached").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// A connection issued an ID, or an ID is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteChange {
    /// Whose ID it is; the connection may be gone.
    pub handle: ConnectionHandle,
    /// The ID.
    pub id: ConnectionId,
    /// Whether packets may bear it from now on.
    pub added: bool,
}

impl Endpoint {
    /// Takes a connection out, whole: what was received and not read, what is to be sent, timers and events that were
    /// not polled. `None` if the handle names no connection any more.
    pub fn detach(&mut self, handle: ConnectionHandle) -> Option<Detached> {
        self.update_half_open(handle);
        let source = self.slots.flags_mut(handle)?.half_open;
        let connection = self.slots.remove(handle)?;
        connection.remove_routes(&mut self.routes);
        source.into_iter().for_each(|source| self.half_open.remove(source));
        Some(Detached { connection: Box::new(connection), half_open: source.is_some() })
    }

    /// Takes in a connection of another endpoint; it is queued for events and transmission, and its deadline counts
    /// from now on here. An ID that a connection of this endpoint bears already stays with that one: with 48 random
    /// bits beside the partition key this does not happen by chance.
    pub fn attach(&mut self, detached: Detached) -> ConnectionHandle {
        let Detached { connection, half_open } = detached;
        let handle = self.slots.reserve();
        connection.add_routes(&mut self.routes, handle);
        self.slots.fill(handle, *connection);
        if half_open {
            self.note_half_open(handle);
        }
        self.touch(handle);
        handle
    }

    /// All connections, in no order.
    pub fn handles(&self) -> Vec<ConnectionHandle> {
        self.slots.handles()
    }

    /// The partition key of a connection's IDs.
    pub fn partition_key(&self, handle: ConnectionHandle) -> Option<u16> {
        self.slots.find(handle).map(Connection::partition_key)
    }

    /// The IDs by which the peer may address a connection.
    pub fn ids(&self, handle: ConnectionHandle) -> Vec<ConnectionId> {
        self.slots.find(handle).map(|connection| connection.route_ids().collect()).unwrap_or_default()
    }

    /// Whether a datagram bears an ID of one of this endpoint's connections.
    pub fn knows(&mut self, datagram: &[u8]) -> bool {
        match header::short_dcid(datagram, self.routes.cid_len()) {
            Some(dcid) => self.routes.find(dcid).is_some(),
            None => self.find_by_long_header(datagram).is_some(),
        }
    }

    /// Whether a connection of this endpoint has issued this ID.
    pub fn has_issued(&mut self, id: &ConnectionId) -> bool {
        id.len() == self.routes.cid_len() && self.routes.find(id).is_some()
    }

    /// From now on connections that this endpoint opens get IDs in one of these slots; in any slot if there are none.
    pub fn set_slots(&mut self, slots: Vec<u16>) {
        debug_assert!(slots.iter().all(|slot| *slot < cid::PARTITION_SLOTS));
        self.own_slots = slots;
    }

    /// Whether to keep a record of IDs that are issued and retired, see [`take_route_changes`](Self::take_route_changes).
    pub fn record_routes(&mut self, on: bool) {
        self.routes.record(on);
    }

    /// What has changed since the last call, oldest first, if changes are recorded.
    pub fn take_route_changes(&mut self, changes: &mut Vec<RouteChange>) {
        self.routes.take_changes(changes);
    }

    /// Ends the connection whose code was running when a panic unwound out of a verb of this endpoint, and says which
    /// one it was. Its state may be anything, so nothing is sent; the peer will time out or be reset statelessly.
    pub fn abandon_active(&mut self, now: Instant) -> Option<ConnectionHandle> {
        let handle = self.active.take()?;
        let connection = self.slots.remove(handle)?;
        self.stats.panics += 1;
        tracing::error!(?handle, at = ?now, "a connection was given up after a panic in its code");
        self.routes.remove_handle(handle);
        // Its destructors run over the same broken state.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(connection))).is_err() {
            tracing::error!("the connection could not be dropped either");
        }
        Some(handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detached_connection_may_go_to_another_thread() {
        fn sendable<T: Send>() {}
        sendable::<Detached>();
    }
}
