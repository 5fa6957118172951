//! 0-RTT packets that overtook the Initial packet which makes their connection (RFC 9000 section 5.2.2).

use std::collections::VecDeque;

use warpline_frame::Frame as Memory;
use warpline_wire::ConnectionId;

use crate::datagram_meta::DatagramMeta;
use crate::limits::{EARLY_DATAGRAMS_MAX, EARLY_WAIT};
use crate::time::Instant;

struct Waiting {
    since: Instant,
    dcid: ConnectionId,
    meta: DatagramMeta,
    bytes: Vec<u8>,
}

/// Datagrams that wait for a moment; the oldest make room.
#[derive(Default)]
pub(super) struct EarlyDatagrams(VecDeque<Waiting>);

impl EarlyDatagrams {
    pub(super) fn keep(&mut self, now: Instant, meta: &DatagramMeta, dcid: ConnectionId, datagram: &[u8]) {
        self.forget_old(now);
        if self.0.len() >= EARLY_DATAGRAMS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Waiting { since: now, dcid, meta: *meta, bytes: datagram.to_vec() });
    }

    /// What waited for the connection whose first destination is `dcid`.
    pub(super) fn take(&mut self, now: Instant, dcid: &ConnectionId) -> Vec<(DatagramMeta, Memory)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        self.forget_old(now);
        let (found, rest): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|w| w.dcid == *dcid);
        self.0 = rest;
        found.into_iter().map(|w| (w.meta, Memory::from_vec(w.bytes))).collect()
    }

    fn forget_old(&mut self, now: Instant) {
        while self.0.front().is_some_and(|w| now - w.since > EARLY_WAIT) {
            self.0.pop_front();
        }
    }
}
