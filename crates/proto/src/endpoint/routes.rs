//! From a connection ID to the connection: a table that only its worker reads and writes.
//!
//! The partition key in the ID has brought the packet to this worker without any look-up. Inside the worker an ID of ours
//! is eight random bytes, found in one small table whose last hit is remembered: cheaper than deciphering an
//! index out of every ID (four AES passes), and unlinkable without any cipher.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use warpline_wire::{ConnectionId, ResetToken, cid};

use super::gradual::Gradual;
use super::{ConnectionHandle, RouteChange};
use crate::ids::CidGenerator;
use crate::rng::Rng;

/// The worker's routing tables.
#[derive(Debug)]
pub(crate) struct Routes {
    /// Makes the IDs.
    pub(crate) cids: CidGenerator,
    /// IDs that this endpoint issued.
    issued: Gradual<u64>,
    last: Option<(u64, ConnectionHandle)>,
    /// IDs that clients chose for their first packets: no more than twice as many as there are handshakes.
    initial: HashMap<ConnectionId, ConnectionHandle, FixedState>,
    /// Stateless reset tokens of peers.
    reset_tokens: Gradual<[u8; 16]>,
    /// Changes since they were last asked for, while they are recorded.
    changes: Option<Vec<RouteChange>>,
}

impl Routes {
    /// Tables whose hash is keyed by `seed`, so that peers cannot choose IDs that collide.
    pub(crate) fn new(seed: u64, cids: CidGenerator) -> Self {
        Self {
            cids,
            issued: Gradual::new(seed),
            last: None,
            initial: HashMap::with_hasher(FixedState::with_seed(seed)),
            reset_tokens: Gradual::new(seed),
            changes: None,
        }
    }

    /// What stands for an ID: its last eight bytes, where all that is random lies (before them may stand a server ID). Whether two
    /// IDs differ there is made sure of when they are issued.
    #[inline]
    fn word(id: &[u8]) -> Option<u64> {
        id.last_chunk::<{ cid::CID_LEN }>().map(|bytes| u64::from_ne_bytes(*bytes))
    }

    /// Makes an ID with partition key `key` that leads to `handle`.
    pub(crate) fn issue(&mut self, rng: &mut Rng, key: u16, handle: ConnectionHandle) -> ConnectionId {
        loop {
            let id = self.cids.generate(rng, key);
            if self.insert(&id, handle) {
                return id;
            }
        }
    }

    /// Registers an ID that this endpoint issues; false when it is taken.
    pub(crate) fn insert(&mut self, id: &ConnectionId, handle: ConnectionHandle) -> bool {
        let Some(word) = Self::word(id) else { return false };
        let is_new = self.issued.insert_new(word, handle);
        if is_new {
            self.note(id, handle, true);
        }
        is_new
    }

    /// Length of the IDs that are issued.
    #[inline]
    pub(crate) fn cid_len(&self) -> usize {
        self.cids.layout().len.into()
    }

    pub(crate) fn remove(&mut self, id: &ConnectionId) {
        if let Some(word) = Self::word(id) {
            if let Some(handle) = self.issued.remove(&word) {
                self.note(id, handle, false);
            }
            if self.last.is_some_and(|(last, _)| last == word) {
                self.last = None;
            }
        }
    }

    /// The connection that `id`, of the length that this endpoint issues, belongs to.
    #[inline]
    pub(crate) fn find(&mut self, id: &[u8]) -> Option<ConnectionHandle> {
        let word = Self::word(id)?;
        if let Some((last, handle)) = self.last
            && last == word
        {
            return Some(handle);
        }
        let handle = self.issued.get(&word)?;
        self.last = Some((word, handle));
        Some(handle)
    }

    /// Has the place where `id` is looked for brought into the caches.
    #[inline]
    pub(crate) fn prefetch(&self, id: &[u8]) {
        if let Some(word) = Self::word(id) {
            self.issued.prefetch(&word);
        }
    }

    /// What [`find`](Self::find) finds, unless it is the connection that was found last.
    #[inline]
    pub(crate) fn find_other(&self, id: &[u8]) -> Option<ConnectionHandle> {
        let word = Self::word(id)?;
        if self.last.is_some_and(|(last, _)| last == word) {
            return None;
        }
        self.issued.get(&word)
    }

    pub(crate) fn insert_initial(&mut self, id: ConnectionId, handle: ConnectionHandle) {
        self.initial.insert(id, handle);
        self.note(&id, handle, true);
    }

    pub(crate) fn find_initial(&self, id: &ConnectionId) -> Option<ConnectionHandle> {
        self.initial.get(id).copied()
    }

    pub(crate) fn remove_initial(&mut self, id: &ConnectionId) {
        if let Some(handle) = self.initial.remove(id) {
            self.note(id, handle, false);
        }
    }

    #[inline]
    fn note(&mut self, id: &ConnectionId, handle: ConnectionHandle, added: bool) {
        if let Some(changes) = &mut self.changes {
            changes.push(RouteChange { handle, id: *id, added });
        }
    }

    pub(crate) fn record(&mut self, on: bool) {
        if on != self.changes.is_some() {
            self.changes = on.then(Vec::new);
        }
    }

    pub(crate) fn take_changes(&mut self, changes: &mut Vec<RouteChange>) {
        if let Some(new) = &mut self.changes {
            changes.append(new);
        }
    }

    /// How many IDs lead to a connection.
    pub(crate) fn ids_len(&self) -> usize {
        self.issued.len() + self.initial.len()
    }

    /// How many tokens reset a connection.
    pub(crate) fn reset_tokens_len(&self) -> usize {
        self.reset_tokens.len()
    }

    /// Forgets everything that leads to a connection which cannot be asked any more.
    pub(crate) fn remove_handle(&mut self, handle: ConnectionHandle) {
        self.issued.remove_handle(handle);
        self.initial.retain(|_, known| *known != handle);
        self.reset_tokens.remove_handle(handle);
        self.last = None;
    }

    pub(crate) fn insert_reset_token(&mut self, token: ResetToken, handle: ConnectionHandle) {
        self.reset_tokens.insert(token.0, handle);
    }

    pub(crate) fn remove_reset_token(&mut self, token: ResetToken) {
        self.reset_tokens.remove(&token.0);
    }

    /// The connection that a datagram ending in `token` resets (RFC 9000 section 10.3.1). The table's keyed hash, not a
    /// comparison byte by byte, finds it: timing tells nothing about a token.
    pub(crate) fn find_reset_token(&self, token: &[u8; 16]) -> Option<ConnectionHandle> {
        self.reset_tokens.get(token)
    }
}
