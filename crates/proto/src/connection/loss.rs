//! Acknowledgements, loss and the probe timeout, tied to the rest of the connection (RFC 9002).

use core::time::Duration;

use warpline_wire::frame::Ack;
use warpline_wire::{Side, TransportErrorCode};

use super::Connection;
use super::timers::Timer;
use crate::congestion::{AckSample, LossSample};
use crate::crypto::Level;
use crate::cx::Cx;
use crate::error::TransportError;
use crate::sent_frame::SentFrame;
use crate::time::Instant;

/// What happened to a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acked,
    Lost,
}

impl Connection {
    /// Takes an ACK frame.
    pub(super) fn on_ack(&mut self, cx: &mut Cx<'_>, level: Level, ack: &Ack<'_>) -> Result<(), TransportError> {
        self.stats.acks_received += 1;
        let Some(space) = self.spaces.at(level) else { return Ok(()) };
        let in_flight_before = space.sent.bytes_in_flight();
        let mut settled = std::mem::take(&mut self.pto.settled);
        let outcome = space.sent.on_ack(ack.ranges(), cx.now, &mut self.paths.current.delivery, &mut |frame| {
            settled.push(*frame);
        });
        let Ok(outcome) = outcome else {
            self.pto.settled = settled;
            return Err(TransportError::protocol("acknowledged a packet that was never sent"));
        };
        space.largest_acked = space.largest_acked.max(Some(ack.largest()));
        for frame in settled.drain(..) {
            self.on_frame_fate(level, frame, Fate::Acked);
        }
        self.pto.settled = settled;
        if outcome.newly_acked_packets == 0 {
            return Ok(());
        }
        self.update_rtt(cx.now, level, ack, &outcome);
        self.check_ecn(cx.now, level, ack, &outcome);
        self.pto.count = 0;
        let path = &mut self.paths.current;
        path.mtu.on_non_probe_acked(outcome.largest_acked_size);
        if outcome.acked_bytes > 0 {
            path.congestion.on_ack(&AckSample::new(cx.now, in_flight_before, &path.rtt, &outcome));
        }
        if outcome.spurious_losses > 0 {
            self.stats.packets_lost_spuriously += u64::from(outcome.spurious_losses);
        }
        if outcome.all_losses_spurious {
            self.paths.current.congestion.on_spurious_loss(cx.now);
        }
        self.detect_lost(cx.now, level);
        Ok(())
    }

    fn update_rtt(&mut self, now: Instant, level: Level, ack: &Ack<'_>, outcome: &crate::recovery::sent::AckOutcome) {
        // RFC 9002 section 5.1: only when the largest is newly acknowledged and something ack-eliciting is.
        let Some(sent_at) = outcome.largest_sent_at.filter(|_| outcome.includes_ack_eliciting) else { return };
        let delay = if level == Level::OneRtt {
            Duration::from_micros(ack.delay().saturating_mul(1 << self.pto.peer_ack_delay_exponent))
        } else {
            Duration::ZERO
        };
        let max = self.pto.peer_max_ack_delay;
        self.paths.current.rtt.update(now, now - sent_at, delay, self.handshake.confirmed.then_some(max));
    }

    fn check_ecn(&mut self, now: Instant, level: Level, ack: &Ack<'_>, outcome: &crate::recovery::sent::AckOutcome) {
        let path = &mut self.paths.current;
        let counts = ack.ecn().map(|c| (c.ect0, c.ect1, c.ce));
        match path.ecn.on_ack(level as usize, counts, u64::from(outcome.newly_acked_marked), outcome.is_newest) {
            Ok(0) => {}
            Ok(marks) => {
                self.stats.congestion_events += 1;
                path.congestion.on_ecn_ce(now, marks, outcome.largest_sent_at.unwrap_or(now));
            }
            Err(why) => tracing::debug!(?why, "the path does not pass ECN marks"),
        }
    }

    /// Declares packets of a space lost (RFC 9002 section 6.1).
    fn detect_lost(&mut self, now: Instant, level: Level) {
        let mut settled = std::mem::take(&mut self.pto.settled);
        let Some(space) = self.spaces.at(level) else { return };
        let path = &mut self.paths.current;
        let outcome = space.sent.detect_lost(
            now,
            &path.rtt,
            &mut path.delivery,
            &mut |packet| path.congestion.on_packet_lost(now, packet),
            &mut |frame| settled.push(*frame),
        );
        for frame in settled.drain(..) {
            self.on_frame_fate(level, frame, Fate::Lost);
        }
        self.pto.settled = settled;
        if outcome.lost_packets == 0 {
            return;
        }
        self.stats.packets_lost += u64::from(outcome.lost_packets);
        let path = &mut self.paths.current;
        if path.mtu.on_lost(outcome.lost_packets, outcome.largest_lost_size, now) {
            path.congestion.on_mtu(path.mtu.current());
        }
        if outcome.lost_bytes > 0 {
            self.stats.congestion_events += 1;
            path.congestion.on_congestion(&LossSample::new(now, &outcome));
        }
    }

    fn on_frame_fate(&mut self, level: Level, frame: SentFrame, fate: Fate) {
        let acked = fate == Fate::Acked;
        match frame {
            SentFrame::Stream(token) if acked => self.streams.on_acked(&token),
            SentFrame::Stream(token) => self.streams.on_lost(&token),
            SentFrame::Ack { largest } => {
                if let Some(space) = self.spaces.at(level).filter(|_| acked) {
                    space.acks.on_ack_acked(largest);
                }
            }
            SentFrame::Crypto { offset, len } => {
                let range = offset..offset + u64::from(len);
                if let Some(space) = self.spaces.at(level) {
                    if acked { space.crypto.on_acked(range) } else { space.crypto.on_lost(range) }
                }
            }
            SentFrame::HandshakeDone => self.handshake.send_done |= !acked,
            SentFrame::NewConnectionId { sequence } if !acked => self.local_cids.on_lost(sequence),
            SentFrame::RetireConnectionId { .. } if acked => self.remote_cids.on_acked(),
            SentFrame::RetireConnectionId { sequence } => self.remote_cids.on_lost(sequence),
            SentFrame::MtuProbe { size } => {
                let path = &mut self.paths.current;
                if acked {
                    path.mtu.on_probe_acked(size);
                    path.congestion.on_mtu(path.mtu.current());
                } else {
                    path.mtu.on_probe_lost(size);
                }
                self.timers.set_opt(Timer::Mtu, path.mtu.next_probe_at());
            }
            SentFrame::NewConnectionId { .. } | SentFrame::NewToken => {}
        }
    }

    /// The probe timeout without backoff: for timers that are measured in it.
    pub(super) fn pto_base(&self) -> Duration {
        self.paths.current.rtt.pto_base() + self.pto.peer_max_ack_delay
    }

    /// When loss detection has to act next (RFC 9002 appendix A.8).
    pub(super) fn loss_deadline(&self) -> Option<Instant> {
        if let Some(at) = self.spaces.all().filter_map(|s| s.sent.loss_time()).min() {
            return Some(at);
        }
        let backoff = 1u32 << self.pto.count.min(16);
        let base = self.paths.current.rtt.pto_base() * backoff;
        let mut earliest: Option<Instant> = None;
        for space in self.spaces.all() {
            let Some(sent_at) =
                space.sent.last_ack_eliciting_sent().filter(|_| space.sent.has_ack_eliciting_in_flight())
            else {
                continue;
            };
            let mut at = sent_at + base;
            if space.level == Level::OneRtt {
                if !self.handshake.confirmed {
                    // RFC 9002 section 6.2.1: not before the handshake is confirmed.
                    continue;
                }
                at += self.pto.peer_max_ack_delay * backoff;
            }
            earliest = Some(earliest.map_or(at, |e| e.min(at)));
        }
        if earliest.is_none() && self.may_deadlock() {
            // RFC 9002 section 6.2.2.1: the server may be stopped by anti-amplification.
            return Some(self.pto.since + base);
        }
        earliest
    }

    /// True for a client that the server may be unable to answer until it sends more.
    fn may_deadlock(&self) -> bool {
        self.identity.side == Side::Client
            && !self.handshake.confirmed
            && self.spaces.handshake.as_ref().is_none_or(|s| s.largest_acked.is_none())
            && !self.handshake.complete
    }

    /// Loss detection's deadline has passed.
    pub(super) fn on_loss_timer(&mut self, now: Instant) {
        let lost_level = self
            .spaces
            .all()
            .filter_map(|s| s.sent.loss_time().map(|at| (at, s.level)))
            .min()
            .filter(|(at, _)| *at <= now)
            .map(|(_, level)| level);
        if let Some(level) = lost_level {
            return self.detect_lost(now, level);
        }
        self.pto.count += 1;
        self.pto.since = now;
        self.stats.probe_timeouts += 1;
        let mut level = self.probe_level();
        if self.spaces.at(level).is_none() {
            level = Level::OneRtt;
        }
        self.probe(level);
        // One timeout probes all that is in flight in the handshake: its spaces wait for one another.
        if level == Level::Initial && self.keys.handshake.is_some() {
            self.probe(Level::Handshake);
        }
    }

    fn probe_level(&self) -> Level {
        let in_flight = self.spaces.all().filter(|s| s.sent.has_ack_eliciting_in_flight());
        let oldest = in_flight.filter_map(|s| s.sent.last_ack_eliciting_sent().map(|at| (at, s.level))).min();
        match oldest {
            Some((_, level)) => level,
            // Anti-deadlock: a Handshake packet if there are keys, else a padded Initial.
            None if self.keys.handshake.is_some() => Level::Handshake,
            None if self.keys.initial.is_some() => Level::Initial,
            None => Level::OneRtt,
        }
    }

    /// Sends up to two packets of `level` whatever the window says; what they carry is the oldest data in flight
    /// (RFC 9002 section 6.2.4).
    fn probe(&mut self, level: Level) {
        let mut settled = std::mem::take(&mut self.pto.settled);
        if let Some(space) = self.spaces.at(level) {
            space.probes = 2;
            space.sent.oldest_unacked(2, &mut |frame| settled.push(*frame));
        }
        for frame in settled.drain(..) {
            // Sent again ahead of a verdict; the packet itself stays in flight.
            if !matches!(frame, SentFrame::MtuProbe { .. } | SentFrame::Ack { .. } | SentFrame::NewToken) {
                self.on_frame_fate(level, frame, Fate::Lost);
            }
        }
        self.pto.settled = settled;
        if let Some(space) = self.spaces.at(level) {
            space.ping = true;
        }
    }

    /// Errors of the peer's acknowledgements and of ours.
    pub(super) fn limit_reached(&self) -> Option<TransportError> {
        let keys = self.keys.one_rtt.as_deref()?;
        keys.exhausted().then(|| {
            TransportError::new(
                TransportErrorCode::AEAD_LIMIT_REACHED,
                "no key update was possible before the cipher's limit",
            )
        })
    }
}
