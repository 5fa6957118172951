//! CONNECTION_CLOSE packets (RFC 9000 sections 10.2.3 and 19.19).

use warpline_wire::frame;
use warpline_wire::{Side, TransportErrorCode};

use super::Connection;
use super::lifecycle::{CloseReason, State};
use super::packet_builder::{HeaderParts, PacketBuilder};
use crate::crypto::Level;
use crate::cx::Cx;
use crate::datagram_meta::Transmit;
use crate::error::TransportError;
use crate::limits::INITIAL_DATAGRAM_MIN;

impl Connection {
    /// The end of a client's handshake goes out even if the program closes at once: with it the server can read what the
    /// close says, and knows the path's round trip.
    pub(super) fn write_last_flight(&mut self, cx: &mut Cx<'_>, buf: &mut [u8]) -> Option<Transmit> {
        let is_due = self.progress.complete && self.spaces.handshake.as_ref().is_some_and(|s| s.crypto.has_data());
        if !is_due || matches!(self.lifecycle.state, State::Closing { to_send: false, .. }) {
            return None;
        }
        let flight = self.write_train(cx, buf);
        self.keep_close_timer_only();
        flight
    }

    /// Writes the datagram that closes the connection, in every level that the peer may be able to read, or the answer to the
    /// peer's.
    pub(super) fn write_close(&mut self, cx: &mut Cx<'_>, buf: &mut [u8]) -> Option<Transmit> {
        let why = match &mut self.lifecycle.state {
            State::Closing { why, to_send, .. } => std::mem::take(to_send).then(|| (**why).clone())?,
            State::Draining { to_answer } => std::mem::take(to_answer)
                .then(|| CloseReason::Transport(TransportError::new(TransportErrorCode::NO_ERROR, "")))?,
            State::Open | State::Closed => return None,
        };
        let limit = buf
            .len()
            .min(usize::from(self.paths.current.mtu.current()))
            .min(usize::try_from(self.paths.current.amplification_budget()).unwrap_or(usize::MAX));
        let levels = self.close_levels();
        let mut len = 0;
        for (i, level) in levels.iter().enumerate() {
            let is_last = i + 1 == levels.len();
            let pad =
                if is_last && levels.contains(&Level::Initial) { INITIAL_DATAGRAM_MIN.saturating_sub(len) } else { 0 };
            len += self.write_close_packet(cx, &mut buf[len..limit.max(len)], *level, &why, pad);
        }
        if len == 0 {
            return None;
        }
        let path = &mut self.paths.current;
        path.on_sent(len);
        self.counters.bytes_sent += len as u64;
        self.counters.datagrams_sent += 1;
        Some(Transmit { remote: path.remote, local: path.local, ecn: None, len, segment_size: len })
    }

    /// During the handshake the peer may lack the newest keys, so all levels are used (RFC 9000 section 10.2.3).
    fn close_levels(&self) -> Vec<Level> {
        let one_rtt = self.keys.one_rtt.is_some() && (self.progress.complete || self.identity.side == Side::Server);
        if self.progress.confirmed && one_rtt {
            return vec![Level::OneRtt];
        }
        let there = [self.keys.initial.is_some(), self.keys.handshake.is_some(), one_rtt];
        Level::ALL.into_iter().zip(there).filter_map(|(level, there)| there.then_some(level)).collect()
    }

    fn write_close_packet(
        &mut self,
        cx: &Cx<'_>,
        room: &mut [u8],
        level: Level,
        why: &CloseReason,
        pad: usize,
    ) -> usize {
        let local_cid = self.local_cids.handshake_cid();
        let remote_cid = *self.remote_cids.current();
        let Some(space) = self.spaces.at(level) else { return 0 };
        let parts = HeaderParts {
            version: self.identity.version,
            dcid: &remote_cid,
            scid: &local_cid,
            token: &self.handshake.token,
            number: space.next_pn,
            largest_acked: space.largest_acked,
            phase: self.keys.one_rtt.as_ref().is_some_and(|k| k.phase()),
            zero_rtt: false,
            fixed_bit: true,
        };
        /// A close frame without its reason: type, code, frame type and length.
        const FRAME_MIN: usize = 1 + 8 + 8 + 2;
        if room.len() < PacketBuilder::overhead(level, &parts) + FRAME_MIN {
            return 0;
        }
        let mut builder = PacketBuilder::begin(room, level, &parts);
        let reason_room = builder.w.remaining() - FRAME_MIN;
        match why {
            CloseReason::Application { code, reason } if level == Level::OneRtt => {
                frame::encode_application_close(&mut builder.w, *code, &reason[..reason.len().min(reason_room)]);
            }
            _ => {
                let error = Self::veiled(why);
                let reason = error.reason.as_bytes();
                let reason = &reason[..reason.len().min(reason_room)];
                frame::encode_transport_close(&mut builder.w, error.code, error.frame_type, reason);
            }
        }
        builder.pad_to(pad);
        let unsealed = builder.finish();
        self.log_sent(cx.now, &unsealed, room);
        unsealed.seal(&mut self.keys, room);
        self.record_sent(cx, level, unsealed.len, false, false);
        unsealed.len
    }
}
