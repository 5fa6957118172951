//! Frames of the connection itself: IDs, path validation, tokens, wishes. They are rare, and what they come from lies in many
//! places that packets touch for nothing else. So it is only looked through after something has happened that may have
//! left a frame there; until then the connection is quiet.

use warpline_wire::{Writer, frame};

use super::Connection;
use crate::crypto::packet::TAG_LEN;
use crate::cx::Cx;
use crate::limits::INITIAL_DATAGRAM_MIN;
use crate::sent_frame::SentFrame;

impl Connection {
    /// Something has happened that may have left a frame to send: everything is looked through before the next packet.
    #[inline]
    pub(super) fn stir(&mut self) {
        self.is_quiet = false;
    }

    /// Looks through everything, if something has happened since the last time.
    #[inline]
    pub(super) fn listen_for_control(&mut self) {
        debug_assert!(!self.is_quiet || !self.has_control(), "whatever leaves a frame behind stirs the connection");
        if !self.is_quiet {
            self.is_quiet = !self.has_control();
        }
    }

    /// A frame waits, to be sent on whatever path.
    fn has_control(&self) -> bool {
        let paths = &self.paths;
        let others = [&paths.previous, &paths.candidate].into_iter().filter_map(|p| p.as_deref());
        self.has_control_here() || !paths.responses.is_empty() || others.into_iter().any(|path| path.owes_challenge())
    }

    fn has_control_here(&self) -> bool {
        self.handshake.send_done
            || (self.handshake.new_tokens > 0 && self.progress.confirmed)
            || self.local_cids.has_frames()
            || self.remote_cids.has_frames()
            || self.wants_ack_frequency()
            || self.wants_observation()
            || self.paths.responses.goes(&self.paths.current.route())
            || self.paths.current.owes_challenge()
    }

    /// A frame waits that goes on the path in use.
    #[inline]
    pub(super) fn wants_control(&self) -> bool {
        !self.is_quiet && self.has_control_here()
    }

    /// A PATH_CHALLENGE is to be sent on the path in use.
    #[inline]
    pub(super) fn owes_challenge(&self) -> bool {
        !self.is_quiet && self.paths.current.owes_challenge()
    }

    /// Writes as many of them as there is room for.
    pub(super) fn write_control(&mut self, cx: &mut Cx<'_>, w: &mut Writer<'_>) {
        let is_full_size = w.position() + w.remaining() + TAG_LEN >= INITIAL_DATAGRAM_MIN;
        let path = &mut self.paths.current;
        let route = path.route();
        if let Some(challenge) = path.challenge.as_mut().filter(|c| c.to_send && w.remaining() >= 9) {
            frame::encode_path_challenge(w, challenge.next_data(cx.rng));
            challenge.is_full_size |= is_full_size;
        }
        while w.remaining() >= 9 {
            let Some(data) = self.paths.responses.pop_for(&route) else { break };
            frame::encode_path_response(w, data);
        }
        if self.handshake.send_done && w.remaining() > 0 {
            frame::encode_handshake_done(w);
            self.handshake.send_done = false;
            self.spaces.data.sent.push_token(SentFrame::HandshakeDone);
        }
        while let Some(sequence) = self.local_cids.write(w, cx) {
            self.spaces.data.sent.push_token(SentFrame::NewConnectionId { sequence });
        }
        while let Some(sequence) = self.remote_cids.write(w) {
            self.spaces.data.sent.push_token(SentFrame::RetireConnectionId { sequence });
        }
        self.write_observation(w);
        self.write_ack_frequency(w);
        if self.handshake.new_tokens > 0 && self.progress.confirmed {
            let token = self.make_new_token(cx);
            if w.remaining() > token.len() + 3 {
                frame::encode_new_token(w, &token);
                self.handshake.new_tokens -= 1;
                self.spaces.data.sent.push_token(SentFrame::NewToken);
            }
        }
    }
}
