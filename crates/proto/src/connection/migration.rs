//! The peer's address changes: NAT rebinding and migration (RFC 9000 sections 8.2 and 9).

use warpline_wire::{Side, frame};

use super::Connection;
use super::packet_builder::{HeaderParts, PacketBuilder};
use super::timers::Timer;
use crate::crypto::Level;
use crate::cx::Cx;
use crate::datagram_meta::{DatagramMeta, Transmit};
use crate::limits::INITIAL_DATAGRAM_MIN;
use crate::path::{Challenge, Path};
use crate::time::Instant;

impl Connection {
    /// The newest packet came from another address than the one in use.
    pub(super) fn on_peer_moved(&mut self, cx: &mut Cx<'_>, meta: &DatagramMeta, len: usize, non_probing: bool) {
        // RFC 9000 section 9: only clients migrate, and not before the handshake is confirmed. A probing packet gets its
        // response but moves nothing.
        if self.identity.side == Side::Client || !self.handshake.confirmed || !non_probing {
            return;
        }
        tracing::debug!(from = %self.paths.current.remote, to = %meta.remote, "the peer moved");
        let mut path = Path::new(meta.remote, meta.local, &self.config, false);
        if meta.remote.ip() == self.paths.current.remote.ip() {
            // Only the port changed: a NAT rebinding, most likely the same path (RFC 9000 section 9.4).
            path.take_measurements(&mut self.paths.current);
        } else {
            path.ecn.keep_counts(&self.paths.current.ecn);
            path.mtu.start(cx.now);
            if let Some(wishes) = self.pto.frequency.as_deref_mut() {
                wishes.on_path_change();
            }
        }
        path.on_received(len);
        let old = std::mem::replace(&mut self.paths.current, path);
        // Only a validated path is worth going back to.
        if old.validated {
            self.paths.previous = Some(Box::new(old));
        }
        self.observe_address();
        let pto = self.pto_base();
        self.challenge_current(cx, pto);
        let before = self.remote_cids.reset_token();
        // A new ID on the new path keeps the two from being linked (RFC 9000 section 9.5).
        if self.remote_cids.has_spare() && self.remote_cids.rotate().is_ok() {
            self.update_reset_route(cx, before);
        }
        self.timers.set(Timer::Mtu, cx.now);
    }

    fn challenge_current(&mut self, cx: &mut Cx<'_>, pto: core::time::Duration) {
        let give_up_at = cx.now + (pto * 3).max(self.config.initial_rtt * 6);
        self.paths.current.challenge =
            Some(Challenge { data: cx.rng.array(), to_send: true, repeat_at: cx.now + pto, give_up_at });
        self.timers.set(Timer::Path, cx.now + pto);
    }

    /// The challenge's time is over: repeat it, or go back to the last validated path (RFC 9000 section 9.3.2).
    pub(super) fn on_path_timer(&mut self, now: Instant) {
        let pto = self.pto_base();
        let Some(challenge) = &mut self.paths.current.challenge else { return };
        if now < challenge.give_up_at {
            challenge.to_send = true;
            challenge.repeat_at = now + pto;
            self.timers.set(Timer::Path, challenge.repeat_at);
            return;
        }
        self.paths.current.challenge = None;
        if let Some(previous) = self.paths.previous.take() {
            tracing::debug!(back_to = %previous.remote, "the new path did not answer");
            self.paths.current = *previous;
        }
    }

    /// A PATH_RESPONSE arrived, on whichever path (RFC 9000 section 8.2.3).
    pub(super) fn on_path_response(&mut self, cx: &mut Cx<'_>, data: [u8; 8]) {
        if self.paths.current.challenge.is_some_and(|c| c.data == data) {
            self.paths.current.challenge = None;
            self.paths.current.validated = true;
            self.paths.previous = None;
            self.timers.stop(Timer::Path);
            self.replenish_cids(cx);
        }
    }

    /// Responses to probes from other addresses each go out alone, where the probe came from.
    pub(super) fn write_off_path(&mut self, cx: &mut Cx<'_>, buf: &mut [u8]) -> Option<Transmit> {
        if self.paths.responses.is_empty() || !self.handshake.complete {
            return None;
        }
        let (remote, local, data) = self.paths.responses.pop_elsewhere(self.paths.current.remote)?;
        let remote_cid = *self.remote_cids.current();
        let parts = HeaderParts {
            version: self.identity.version,
            dcid: &remote_cid,
            scid: &remote_cid,
            token: &[],
            number: self.spaces.data.next_pn,
            largest_acked: self.spaces.data.largest_acked,
            phase: self.keys.one_rtt.as_deref().is_some_and(|k| k.phase()),
            fixed_bit: true,
        };
        let room = buf.get_mut(..INITIAL_DATAGRAM_MIN)?;
        let mut builder = PacketBuilder::begin(room, Level::OneRtt, &parts);
        frame::encode_path_response(&mut builder.w, data);
        // RFC 9000 section 8.2.2: padded, so that the path is known to carry full packets.
        builder.pad_to(INITIAL_DATAGRAM_MIN);
        let unsealed = builder.finish();
        unsealed.seal(&mut self.keys, buf);
        self.spaces.data.sent.stage_unmarked();
        self.record_sent(cx, Level::OneRtt, unsealed.len, true, true);
        self.stats.bytes_sent += unsealed.len as u64;
        self.stats.datagrams_sent += 1;
        Some(Transmit { remote, local, ecn: None, len: unsealed.len, segment_size: unsealed.len })
    }
}
