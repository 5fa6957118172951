//! Connection IDs that this endpoint issues.

use warpline_wire::{ConnectionId, TransportErrorCode, Writer, frame};

use crate::cx::Cx;
use crate::error::TransportError;
use crate::limits::LOCAL_CIDS_MAX;

/// Room that a NEW_CONNECTION_ID frame needs at most: type, two sequence numbers, length, ID, token.
const FRAME_LEN_MAX: usize = 1 + 8 + 8 + 1 + 20 + 16;

/// The IDs that the peer may address this connection by. All of them carry the connection's partition key, so all of
/// them lead to the worker that owns it.
#[derive(Debug)]
pub(crate) struct LocalCids {
    key: u16,
    active: Vec<(u64, ConnectionId)>,
    next_sequence: u64,
    /// What the peer is asked to retire.
    retire_prior_to: u64,
    /// Sequence numbers whose NEW_CONNECTION_ID frame is to be sent.
    to_announce: Vec<u64>,
}

impl LocalCids {
    /// Starts with the ID of the handshake, sequence number 0, already in the routing table.
    pub(crate) fn new(key: u16, first: ConnectionId) -> Self {
        Self { key, active: vec![(0, first)], next_sequence: 1, retire_prior_to: 0, to_announce: Vec::new() }
    }

    /// The ID used in long headers and known to the peer from the start.
    pub(crate) fn handshake_cid(&self) -> ConnectionId {
        self.active.first().map_or(ConnectionId::EMPTY, |(_, cid)| *cid)
    }

    /// The partition key in all of them.
    pub(crate) fn key(&self) -> u16 {
        self.key
    }

    pub(crate) fn active(&self) -> impl Iterator<Item = &ConnectionId> {
        self.active.iter().map(|(_, cid)| cid)
    }

    /// Issues IDs until the peer has as many as it takes (`peer_limit` is its `active_connection_id_limit`).
    pub(crate) fn replenish(&mut self, cx: &mut Cx<'_>, peer_limit: u64) {
        let limit = if cx.routes.cids.gives_spares() { peer_limit.min(LOCAL_CIDS_MAX) } else { 1 };
        while self.current_count() < limit {
            self.to_announce.push(self.next_sequence);
            self.issue(cx);
        }
    }

    /// IDs that the peer was not asked to retire.
    fn current_count(&self) -> u64 {
        self.active.iter().filter(|(sequence, _)| *sequence >= self.retire_prior_to).count() as u64
    }

    /// The way IDs are made has changed: the peer gets new ones and is asked to retire all others (RFC 9000 section 5.1.2).
    pub(crate) fn renew(&mut self, cx: &mut Cx<'_>, peer_limit: u64) {
        if cx.routes.cids.gives_spares() {
            self.retire_prior_to = self.next_sequence;
            self.replenish(cx, peer_limit);
        }
    }

    /// Issues one ID; by itself it is announced in no frame.
    pub(crate) fn issue(&mut self, cx: &mut Cx<'_>) -> ConnectionId {
        let cid = cx.routes.issue(cx.rng, self.key, cx.handle);
        self.active.push((self.next_sequence, cid));
        self.next_sequence += 1;
        cid
    }

    pub(crate) fn has_frames(&self) -> bool {
        !self.to_announce.is_empty()
    }

    /// Writes one NEW_CONNECTION_ID frame and returns its sequence number.
    pub(crate) fn write(&mut self, w: &mut Writer<'_>, cx: &Cx<'_>) -> Option<u64> {
        if w.remaining() < FRAME_LEN_MAX {
            return None;
        }
        while let Some(sequence) = self.to_announce.pop() {
            if let Some((_, cid)) = self.active.iter().find(|(s, _)| *s == sequence) {
                let token = cx.config.reset_key.token(cid);
                let retire_prior_to = self.retire_prior_to.min(sequence);
                frame::NewConnectionId { sequence, retire_prior_to, cid: *cid, reset_token: token }.encode(w);
                return Some(sequence);
            }
        }
        None
    }

    pub(crate) fn on_lost(&mut self, sequence: u64) {
        if self.active.iter().any(|(s, _)| *s == sequence) {
            self.to_announce.push(sequence);
        }
    }

    /// The peer will not use an ID any more (RFC 9000 section 19.16).
    pub(crate) fn on_retire(
        &mut self,
        cx: &mut Cx<'_>,
        sequence: u64,
        used: &ConnectionId,
    ) -> Result<(), TransportError> {
        if sequence >= self.next_sequence {
            return Err(TransportError::protocol("retired a connection ID that was never issued"));
        }
        let Some(at) = self.active.iter().position(|(s, _)| *s == sequence) else { return Ok(()) };
        if self.active[at].1 == *used {
            return Err(TransportError::new(
                TransportErrorCode::PROTOCOL_VIOLATION,
                "retired the connection ID that the packet itself was sent to",
            ));
        }
        let (_, cid) = self.active.remove(at);
        cx.routes.remove(&cid);
        Ok(())
    }
}
