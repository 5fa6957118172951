//! Connections that live at another worker than the table says of their slots, because a program on that worker's thread
//! holds them.
//!
//! The worker that has such a connection, its holder, tells the owner of the slot which IDs the connection has, and goes
//! on telling it of IDs that are issued and retired. The owner passes packets with these IDs on. Once the program has
//! let go of the connection it moves to the owner, or it ends where it is.

use crate::partition::{destination, slot_of_id};
use crate::worker::conns::ConnectionKey;
use crate::worker::links::Stray;
use std::collections::{HashMap, HashSet};
use warpline_proto::{ConnectionHandle, RouteChange};
use warpline_wire::ConnectionId;
use warpline_wire::cid::Layout;

/// What a worker knows of connections out of place.
#[derive(Debug)]
pub(crate) struct Strays {
    layout: Layout,
    /// IDs in slots of this worker whose connections are elsewhere, and where.
    away: HashMap<ConnectionId, u16>,
    /// Connections here whose slots belong to other workers.
    held: HashMap<ConnectionHandle, ConnectionKey>,
    /// Route changes of a turn; kept for its memory.
    changes: Vec<RouteChange>,
}

impl Strays {
    /// None, where IDs are issued with this layout.
    pub(crate) fn new(layout: Layout) -> Self {
        Self { layout, away: HashMap::new(), held: HashMap::new(), changes: Vec::new() }
    }

    /// Where the connection is that a datagram for one of this worker's slots bears the ID of, if it is elsewhere.
    #[inline]
    pub(crate) fn holder(&self, datagram: &[u8]) -> Option<u16> {
        if self.away.is_empty() {
            return None;
        }
        let id = destination(self.layout, datagram).and_then(ConnectionId::new)?;
        self.away.get(&id).copied()
    }

    /// Whether all connections of this worker's slots are here.
    #[inline]
    pub(crate) fn are_none_away(&self) -> bool {
        self.away.is_empty()
    }

    /// Takes in what a holder says.
    pub(crate) fn note(&mut self, stray: &Stray) {
        if stray.added {
            self.away.insert(stray.id, stray.holder);
        } else {
            self.away.remove(&stray.id);
        }
    }

    /// The connection with these IDs has come here.
    pub(crate) fn arrived(&mut self, ids: impl Iterator<Item = ConnectionId>) {
        if !self.away.is_empty() {
            for id in ids {
                self.away.remove(&id);
            }
        }
    }

    /// Forgets a worker that is gone: what it held is over.
    pub(crate) fn forget_holder(&mut self, worker: u16) {
        self.away.retain(|_, holder| *holder != worker);
    }

    /// Takes out the IDs in slots that `leaves`: their new owners have to know them.
    pub(crate) fn take_away(&mut self, mut leaves: impl FnMut(u16) -> bool) -> Vec<Stray> {
        let mut taken = Vec::new();
        self.away.retain(|id, holder| {
            let gone = slot_of_id(self.layout, id).is_some_and(&mut leaves);
            if gone {
                taken.push(Stray { id: *id, holder: *holder, added: true });
            }
            !gone
        });
        taken
    }

    /// A connection here is in a slot of another worker.
    pub(crate) fn hold(&mut self, handle: ConnectionHandle, key: ConnectionKey) {
        self.held.insert(handle, key);
    }

    /// A connection here is no stray any more: it moved, ended, or its slot came here.
    pub(crate) fn release(&mut self, handle: ConnectionHandle) {
        self.held.remove(&handle);
    }

    pub(crate) fn held(&self) -> &HashMap<ConnectionHandle, ConnectionKey> {
        &self.held
    }

    pub(crate) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    /// Keeps those connections that `stays` says of.
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(ConnectionHandle) -> bool) {
        self.held.retain(|handle, _| stays(*handle));
    }

    /// Lends the list of route changes, for what `take` puts there, and calls `tell` with those that concern strays.
    pub(crate) fn changes(&mut self, take: impl FnOnce(&mut Vec<RouteChange>), mut tell: impl FnMut(&RouteChange)) {
        take(&mut self.changes);
        let held = &self.held;
        self.changes.drain(..).filter(|change| held.contains_key(&change.handle)).for_each(|change| tell(&change));
    }

    /// The IDs of the connections here that are free to go.
    pub(crate) fn movable(&self, mut is_movable: impl FnMut(ConnectionKey) -> bool) -> HashSet<u64> {
        self.held.values().filter(|key| is_movable(**key)).map(|key| key.id()).collect()
    }
}
