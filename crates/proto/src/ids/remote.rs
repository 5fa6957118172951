//! Connection IDs that the peer issued.

use warpline_wire::{ConnectionId, ResetToken, TransportErrorCode, Writer, frame};

use crate::error::TransportError;
use crate::limits::{REMOTE_CIDS_MAX, RETIRE_PENDING_MAX, RETIRED_RANGES_MAX};
use crate::ranges::RangeSet;

/// Room that a RETIRE_CONNECTION_ID frame needs at most.
const FRAME_LEN_MAX: usize = 1 + 8;

#[derive(Clone, Copy, Debug)]
struct RemoteCid {
    sequence: u64,
    cid: ConnectionId,
    token: Option<ResetToken>,
}

/// Stands for the ID of a path that is not the one in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathCid(u64);

impl PathCid {
    /// Of a peer that uses no IDs. Sequence numbers are below 2^62.
    const EMPTY: Self = Self(u64::MAX);
}

/// The IDs that packets to the peer may bear.
#[derive(Debug)]
pub(crate) struct RemoteCids {
    /// The one in use.
    current: RemoteCid,
    /// By themselves, since packets bear the one in use.
    others: Box<Others>,
}

/// The IDs that are not in use, or not any more.
#[derive(Debug, Default)]
struct Others {
    spare: Vec<RemoteCid>,
    /// In use on paths other than the one in use.
    aside: Vec<RemoteCid>,
    retire_prior_to: u64,
    /// Sequence numbers of IDs that were retired: their NEW_CONNECTION_ID frames may come again.
    retired: RangeSet,
    /// RETIRE_CONNECTION_ID frames to send.
    to_retire: Vec<u64>,
    /// RETIRE_CONNECTION_ID frames sent and not acknowledged.
    retiring: usize,
}

impl RemoteCids {
    pub(crate) fn new(first: ConnectionId) -> Self {
        Self { current: RemoteCid { sequence: 0, cid: first, token: None }, others: Box::default() }
    }

    /// The ID to put on packets.
    #[inline]
    pub(crate) fn current(&self) -> &ConnectionId {
        &self.current.cid
    }

    /// During the handshake: the ID that the peer chose replaces the one guessed (RFC 9000 section 7.2).
    pub(crate) fn set_handshake_cid(&mut self, cid: ConnectionId) {
        self.current.cid = cid;
    }

    /// The token from the server's transport parameters belongs to the ID of the handshake.
    pub(crate) fn set_handshake_token(&mut self, token: ResetToken) {
        if self.current.sequence == 0 {
            self.current.token = Some(token);
        }
    }

    /// The token that would reset the connection now.
    pub(crate) fn reset_token(&self) -> Option<ResetToken> {
        self.current.token
    }

    /// Takes a NEW_CONNECTION_ID frame (RFC 9000 section 19.15).
    pub(crate) fn on_new(&mut self, new: &frame::NewConnectionId) -> Result<(), TransportError> {
        if self.current.cid.is_empty() {
            return Err(TransportError::protocol("NEW_CONNECTION_ID from a peer that uses zero-length IDs"));
        }
        if new.retire_prior_to > new.sequence {
            return Err(TransportError::new(
                TransportErrorCode::FRAME_ENCODING_ERROR,
                "NEW_CONNECTION_ID retires itself",
            ));
        }
        if let Some(known) = self.all().find(|c| c.sequence == new.sequence || c.cid == new.cid) {
            let same = known.sequence == new.sequence && known.cid == new.cid;
            let same_token = known.token.is_none_or(|t| t == new.reset_token);
            return if same && same_token {
                Ok(())
            } else {
                Err(TransportError::protocol("NEW_CONNECTION_ID contradicts an earlier one"))
            };
        }
        if self.others.retired.contains(new.sequence) {
            // The frame was said again, and must not bring back an ID that the peer has forgotten by now.
            return Ok(());
        }
        if new.sequence < self.others.retire_prior_to {
            // RFC 9000 section 19.15: arrived late, is retired at once.
            return self.retire(new.sequence);
        }
        self.others.spare.push(RemoteCid { sequence: new.sequence, cid: new.cid, token: Some(new.reset_token) });
        if new.retire_prior_to > self.others.retire_prior_to {
            self.others.retire_prior_to = new.retire_prior_to;
            self.retire_older()?;
        }
        if (self.others.spare.len() + self.others.aside.len()) as u64 + 1 > REMOTE_CIDS_MAX {
            return Err(TransportError::new(
                TransportErrorCode::CONNECTION_ID_LIMIT_ERROR,
                "more connection IDs than active_connection_id_limit",
            ));
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &RemoteCid> {
        std::iter::once(&self.current).chain(&self.others.spare).chain(&self.others.aside)
    }

    fn retire_older(&mut self) -> Result<(), TransportError> {
        let bound = self.others.retire_prior_to;
        let mut kept = Vec::with_capacity(self.others.spare.len());
        for cid in std::mem::take(&mut self.others.spare) {
            if cid.sequence < bound { self.retire(cid.sequence)? } else { kept.push(cid) }
        }
        self.others.spare = kept;
        while let Some(at) = self.others.aside.iter().position(|c| c.sequence < bound) {
            let gone = self.others.aside.swap_remove(at);
            self.retire(gone.sequence)?;
        }
        if self.current.sequence < bound {
            self.rotate()?;
        }
        Ok(())
    }

    fn retire(&mut self, sequence: u64) -> Result<(), TransportError> {
        if self.others.to_retire.len() + self.others.retiring >= RETIRE_PENDING_MAX {
            return Err(TransportError::new(
                TransportErrorCode::CONNECTION_ID_LIMIT_ERROR,
                "connection IDs are replaced faster than their retirement is acknowledged",
            ));
        }
        if !self.others.to_retire.contains(&sequence) {
            self.others.to_retire.push(sequence);
        }
        self.others.retired.insert(sequence..sequence + 1);
        if self.others.retired.len() > RETIRED_RANGES_MAX
            && let Some(oldest) = self.others.retired.pop_first()
            && let Some(next) = self.others.retired.first().cloned()
        {
            self.others.retired.insert(oldest.start..next.end);
        }
        Ok(())
    }

    /// Goes over to a spare ID and retires the one in use. False when there is none.
    pub(crate) fn rotate(&mut self) -> Result<bool, TransportError> {
        let Some(at) = (0..self.others.spare.len()).min_by_key(|i| self.others.spare[*i].sequence) else {
            return Ok(false);
        };
        let next = self.others.spare.swap_remove(at);
        let old = std::mem::replace(&mut self.current, next);
        self.retire(old.sequence)?;
        Ok(true)
    }

    /// The ID of the server's preferred address, with number 1 (RFC 9000 section 5.1.1).
    pub(crate) fn add_preferred(&mut self, cid: ConnectionId, token: ResetToken) -> Result<(), TransportError> {
        self.on_new(&frame::NewConnectionId { sequence: 1, retire_prior_to: 0, cid, reset_token: token })
    }

    /// Takes a spare ID for another path: no ID is used on two (RFC 9000 section 9.5). `None` when there is none.
    pub(crate) fn set_aside(&mut self) -> Option<PathCid> {
        if self.current.cid.is_empty() {
            return Some(PathCid::EMPTY);
        }
        let at = (0..self.others.spare.len()).min_by_key(|i| self.others.spare[*i].sequence)?;
        let cid = self.others.spare.swap_remove(at);
        self.others.aside.push(cid);
        Some(PathCid(cid.sequence))
    }

    /// The ID of another path; `None` once the peer has called for its retirement.
    pub(crate) fn of_path(&self, path: PathCid) -> Option<ConnectionId> {
        if path == PathCid::EMPTY {
            return Some(ConnectionId::EMPTY);
        }
        self.others.aside.iter().find(|c| c.sequence == path.0).map(|c| c.cid)
    }

    /// The other path becomes the one in use; returns what stands for the ID that was in use before.
    pub(crate) fn make_current(&mut self, path: PathCid) -> Option<PathCid> {
        if path == PathCid::EMPTY {
            return Some(PathCid::EMPTY);
        }
        let cid = self.others.aside.iter_mut().find(|c| c.sequence == path.0)?;
        std::mem::swap(cid, &mut self.current);
        Some(PathCid(cid.sequence))
    }

    /// The other path is given up: its ID is retired.
    pub(crate) fn release(&mut self, path: PathCid) -> Result<(), TransportError> {
        match self.others.aside.iter().position(|c| c.sequence == path.0) {
            Some(at) => {
                let gone = self.others.aside.swap_remove(at);
                self.retire(gone.sequence)
            }
            None => Ok(()),
        }
    }

    pub(crate) fn has_frames(&self) -> bool {
        !self.others.to_retire.is_empty()
    }

    /// Writes one RETIRE_CONNECTION_ID frame and returns its sequence number.
    pub(crate) fn write(&mut self, w: &mut Writer<'_>) -> Option<u64> {
        if w.remaining() < FRAME_LEN_MAX {
            return None;
        }
        let sequence = self.others.to_retire.pop()?;
        frame::encode_retire_connection_id(w, sequence);
        self.others.retiring += 1;
        Some(sequence)
    }

    pub(crate) fn on_acked(&mut self) {
        self.others.retiring = self.others.retiring.saturating_sub(1);
    }

    pub(crate) fn on_lost(&mut self, sequence: u64) {
        self.others.retiring = self.others.retiring.saturating_sub(1);
        self.others.to_retire.push(sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(sequence: u64, retire_prior_to: u64) -> frame::NewConnectionId {
        frame::NewConnectionId {
            sequence,
            retire_prior_to,
            cid: ConnectionId::new(&sequence.to_be_bytes()).unwrap(),
            reset_token: ResetToken([sequence as u8; 16]),
        }
    }

    fn start() -> RemoteCids {
        RemoteCids::new(ConnectionId::new(&[9; 8]).unwrap())
    }

    #[test]
    fn retire_prior_to_moves_to_a_newer_id() {
        let mut ids = start();
        ids.on_new(&new(1, 1)).unwrap();
        assert_eq!(ids.current().as_ref(), 1u64.to_be_bytes());
        let mut buf = [0; 64];
        assert_eq!(ids.write(&mut Writer::new(&mut buf)), Some(0));
    }

    #[test]
    fn more_than_the_limit_is_refused() {
        let mut ids = start();
        for sequence in 1..REMOTE_CIDS_MAX {
            ids.on_new(&new(sequence, 0)).unwrap();
        }
        let err = ids.on_new(&new(REMOTE_CIDS_MAX, 0)).unwrap_err();
        assert_eq!(err.code, TransportErrorCode::CONNECTION_ID_LIMIT_ERROR);
    }

    /// CVE-2025-7054: a peer that retires on and on must not make us queue RETIRE_CONNECTION_ID without bound.
    #[test]
    fn a_retirement_loop_ends_the_connection() {
        let mut ids = start();
        let refused = (1..1_000).find_map(|sequence| ids.on_new(&new(sequence, sequence)).err());
        assert_eq!(refused.map(|e| e.code), Some(TransportErrorCode::CONNECTION_ID_LIMIT_ERROR));
        assert!(ids.others.to_retire.len() <= RETIRE_PENDING_MAX);
    }

    #[test]
    fn a_path_of_its_own_has_an_id_of_its_own_until_it_is_released() {
        let mut ids = start();
        assert_eq!(ids.set_aside(), None);
        ids.on_new(&new(1, 0)).unwrap();
        let path = ids.set_aside().unwrap();
        assert_eq!(ids.of_path(path).unwrap().as_ref(), 1u64.to_be_bytes());
        let before = ids.make_current(path).unwrap();
        assert_eq!(ids.current().as_ref(), 1u64.to_be_bytes());
        assert_eq!(ids.of_path(before).unwrap().as_ref(), [9; 8]);
        ids.release(before).unwrap();
        assert_eq!((ids.of_path(before), ids.others.to_retire.as_slice()), (None, &[0][..]));
    }

    #[test]
    fn a_retired_id_does_not_come_back_when_its_frame_does() {
        let mut ids = start();
        ids.on_new(&new(1, 0)).unwrap();
        ids.on_new(&new(2, 0)).unwrap();
        assert!(ids.rotate().unwrap() && ids.rotate().unwrap());
        for sequence in [1, 1, 2] {
            ids.on_new(&new(sequence, 0)).unwrap();
        }
        assert_eq!(ids.set_aside(), None);
        assert_eq!(ids.others.to_retire, [0, 1], "and is not retired again");
    }

    #[test]
    fn numbers_with_gaps_take_bounded_memory() {
        let mut ids = start();
        for sequence in (2..1_000).step_by(2) {
            ids.on_new(&new(sequence, 0)).unwrap();
            assert!(ids.rotate().unwrap());
            ids.others.to_retire.clear();
        }
        assert!(ids.others.retired.len() <= RETIRED_RANGES_MAX);
    }

    #[test]
    fn retire_prior_to_reaches_ids_on_other_paths() {
        let mut ids = start();
        ids.on_new(&new(1, 0)).unwrap();
        let path = ids.set_aside().unwrap();
        ids.on_new(&new(2, 2)).unwrap();
        assert_eq!(ids.of_path(path), None);
        assert_eq!(ids.current().as_ref(), 2u64.to_be_bytes());
        assert_eq!(ids.others.to_retire.len(), 2);
    }

    #[test]
    fn the_same_sequence_with_another_id_is_refused() {
        let mut ids = start();
        ids.on_new(&new(1, 0)).unwrap();
        ids.on_new(&new(1, 0)).unwrap();
        let other = frame::NewConnectionId { cid: ConnectionId::new(&[1; 4]).unwrap(), ..new(1, 0) };
        assert!(ids.on_new(&other).is_err());
    }
}
