//! What the connection's log is told (see [`crate::qlog`]), and the counts of dropped packets. Each place where something
//! happens calls one method, which does nothing but look whether there is a log.

use warpline_wire::header::{PacketKind, ProtectedHeader};

use warpline_wire::{ConnectionId, TransportParameters};

use super::Connection;
use super::ingress::OpenedPacket;
use super::lifecycle::State;
use super::packet_builder::Unsealed;
use super::stats::{DropReason, PacketDrops};
use crate::cx::Cx;
use crate::qlog::{Log, LogPiece, Packet};
use crate::time::Instant;

/// Exponent of the delays in the ACK frames of this side: the default, which it does not change.
const OWN_ACK_EXPONENT: u8 = 3;

impl Connection {
    /// Begins the log, if the endpoint wants one.
    pub(super) fn start_log(&mut self, cx: &Cx<'_>, ids: (&ConnectionId, &ConnectionId)) {
        if !cx.config.qlog {
            return;
        }
        let unix = core::time::Duration::from_nanos(cx.now.as_nanos()) + cx.config.unix_at_zero;
        let mut log = Log::new(cx.now, unix, self.identity.side, &self.handshake.origin.first_dcid);
        let path = &self.paths.current;
        log.started(cx.now, path.remote, ids.0, ids.1);
        log.recovery_parameters(cx.now, path.mtu.current(), self.config.initial_rtt, path.congestion.window());
        self.log = Some(Box::new(log));
    }

    /// Transport parameters of this side, of the peer, or (`None`) those remembered of an earlier connection.
    pub(super) fn log_parameters(&mut self, now: Instant, owner: Option<&str>, params: &TransportParameters) {
        if let Some(log) = &mut self.log {
            log.parameters(now, owner, params);
        }
    }

    /// A packet that is about to be sealed at the front of `room`.
    #[inline]
    pub(super) fn log_sent(&mut self, now: Instant, packet: &Unsealed, room: &[u8]) {
        if let Some(log) = &mut self.log {
            let payload = packet.payload(room);
            let (kind, number, len) = (packet.kind(), packet.number(), packet.len);
            log.packet(now, true, &Packet { kind, number, len, payload, ack_exponent: OWN_ACK_EXPONENT });
        }
    }

    /// A packet that was opened at the front of `memory`.
    #[inline]
    pub(super) fn log_received(
        &mut self,
        now: Instant,
        header: &ProtectedHeader,
        opened: &OpenedPacket,
        memory: &[u8],
    ) {
        if let Some(log) = &mut self.log {
            let payload = memory.get(opened.header_len..opened.header_len + opened.payload_len).unwrap_or_default();
            let ack_exponent = if header.kind == PacketKind::OneRtt { self.pto.peer_ack_delay_exponent } else { 3 };
            let (kind, number, len) = (header.kind, opened.number, header.packet_len);
            log.packet(now, false, &Packet { kind, number, len, payload, ack_exponent });
        }
    }

    /// Datagrams that were sent or received, `len` bytes in all.
    #[inline]
    pub(super) fn log_datagrams(&mut self, now: Instant, is_sent: bool, count: usize, len: usize) {
        if let Some(log) = &mut self.log {
            log.datagrams(now, is_sent, count, len);
        }
    }

    /// Counts and logs a packet that is dropped.
    #[cold]
    pub(super) fn drop_packet(&mut self, now: Instant, kind: Option<PacketKind>, len: usize, reason: DropReason) {
        self.counters.rare.packets_dropped += 1;
        self.counters.rare.drops.count(reason);
        if let Some(log) = &mut self.log {
            log.dropped(now, kind, len, reason.trigger());
        }
    }

    /// Logs a packet that waits for its keys.
    pub(super) fn log_buffered(&mut self, now: Instant, len: usize) {
        if let Some(log) = &mut self.log {
            log.buffered(now, PacketKind::ZeroRtt, len);
        }
    }

    pub(super) fn log_key_update(&mut self, now: Instant, trigger: &str) {
        if let Some(log) = &mut self.log {
            log.key_updated(now, trigger);
        }
    }

    /// Logs what a turn has changed: the state, the estimates, the timer of loss detection.
    #[inline]
    pub(super) fn log_changes(&mut self, now: Instant) {
        if self.log.is_some() {
            self.log_all_changes(now);
        }
    }

    #[cold]
    fn log_all_changes(&mut self, now: Instant) {
        let state = match self.lifecycle.state {
            State::Open if self.progress.confirmed => "handshake_confirmed",
            State::Open if self.progress.complete => "handshake_complete",
            State::Open if self.progress.heard => "handshake_started",
            State::Open => "attempted",
            State::Closing { .. } => "closing",
            State::Draining { .. } => "draining",
            State::Closed => "closed",
        };
        let deadline = if self.lifecycle.is_open() { self.loss_deadline() } else { None };
        let in_flight = self.spaces.bytes_in_flight();
        let Some(log) = &mut self.log else { return };
        let path = &self.paths.current;
        log.state(now, state);
        log.metrics(now, &path.rtt, self.pto.count, (&path.congestion, in_flight));
        log.loss_timer(now, deadline);
    }

    /// Logs how the connection ended.
    pub(super) fn log_closed(&mut self, now: Instant, by_peer: bool, reason: &str) {
        if let Some(log) = &mut self.log {
            log.closed(now, if by_peer { "remote" } else { "local" }, reason);
        }
    }

    /// Packets that were dropped, by reason.
    pub(crate) fn drops(&self) -> PacketDrops {
        self.counters.rare.drops
    }

    /// What was logged, if it is much or `all` is wanted.
    pub(crate) fn take_log(&mut self, all: bool) -> Option<LogPiece> {
        self.log.as_mut()?.take(all)
    }

    /// The peer's transport parameters are known.
    pub(super) fn log_peer_parameters(&mut self, now: Instant) {
        if let (Some(log), Some(params)) = (&mut self.log, &self.handshake.peer_params) {
            log.parameters(now, Some("remote"), params);
        }
    }
}
