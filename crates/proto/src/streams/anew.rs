//! Streams after the server did not take early data: it has seen nothing of them, so they begin anew (RFC 9001 section 4.6.2).
//!
//! The streams keep their IDs, their data and their ends, which go again as if for the first time, within the limits that
//! the server gives now. What is known of the limits that it gave earlier is forgotten.

use super::flow::SendCredit;
use super::{PeerWindows, Streams};

impl Streams {
    /// Nothing was sent yet, and nothing may be sent before the peer's parameters are set again.
    pub(crate) fn begin_anew(&mut self) {
        self.sending.credit = SendCredit::default();
        self.peer = PeerWindows::default();
        for local in &mut self.local {
            local.max = 0;
        }
        for index in 0..self.slab.len() as u32 {
            let stream = self.stream(index);
            if !stream.live {
                continue;
            }
            if let Some(send) = stream.send.as_mut() {
                send.rewind();
                stream.pending.reset |= send.reset.is_some();
                stream.pending.reset_at |= send.reset_at.is_some();
            }
            stream.pending.stop = stream.recv.as_ref().filter(|r| r.can_stop()).and_then(|r| r.stop_code);
            if stream.pending.reset || stream.pending.reset_at || stream.pending.stop.is_some() {
                self.list(index);
            }
            self.enqueue(index);
        }
    }

    /// More streams were opened than the peer allows.
    pub(crate) fn exceeds_limits(&self) -> bool {
        self.local.iter().any(|local| local.count > local.max)
    }

    /// Data of the stream came as early data, and may be a replay.
    pub(crate) fn mark_early(&mut self, id: warpline_wire::StreamId) {
        if let Some(index) = self.find(id) {
            self.stream(index).early = true;
        }
    }

    /// Some of the stream's data came as early data.
    pub(crate) fn is_early(&self, id: warpline_wire::StreamId) -> bool {
        self.by_id.get(&id.0).is_some_and(|index| self.slab[*index as usize].early)
    }
}
