//! Acknowledgements, loss and the probe timeout, tied to the rest of the connection (RFC 9002).

use core::time::Duration;

use warpline_wire::frame::Ack;
use warpline_wire::header::PacketKind;
use warpline_wire::{Side, TransportErrorCode};

use super::Connection;
use super::timers::Timer;
use crate::congestion::{AckSample, Congestion, LossSample};
use crate::crypto::Level;
use crate::cx::Cx;
use crate::error::TransportError;
use crate::limits::INITIAL_DATAGRAM_MIN;
use crate::recovery::pto;
use crate::sent_frame::SentFrame;
use crate::time::Instant;

/// What happened to a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Acked,
    Lost,
}

fn pto_space(level: Level) -> pto::Space {
    match level {
        Level::Initial => pto::Space::Initial,
        Level::Handshake => pto::Space::Handshake,
        Level::OneRtt => pto::Space::Data,
    }
}

/// What a packet of the level is called; early data counts as 1-RTT.
fn kind_of(level: Level) -> PacketKind {
    match level {
        Level::Initial => PacketKind::Initial,
        Level::Handshake => PacketKind::Handshake,
        Level::OneRtt => PacketKind::OneRtt,
    }
}

fn level_of(space: pto::Space) -> Level {
    match space {
        pto::Space::Initial => Level::Initial,
        pto::Space::Handshake => Level::Handshake,
        pto::Space::Data => Level::OneRtt,
    }
}

impl Connection {
    /// Takes an ACK frame.
    pub(super) fn on_ack(&mut self, cx: &mut Cx<'_>, level: Level, ack: &Ack<'_>) -> Result<(), TransportError> {
        self.counters.acks_received += 1;
        let Some(space) = self.spaces.at(level) else { return Ok(()) };
        let mut settled = std::mem::take(cx.settled);
        let outcome = space.sent.on_ack(ack.ranges(), cx.now, &mut self.paths.current.delivery, &mut |frame| {
            settled.push(*frame);
        });
        let Ok(outcome) = outcome else {
            settled.clear();
            *cx.settled = settled;
            return Err(TransportError::protocol("acknowledged a packet that was never sent"));
        };
        let under_way = space.next_pn - space.largest_acked.map_or(0, |acked| acked + 1);
        space.largest_acked = space.largest_acked.max(Some(ack.largest()));
        for frame in settled.drain(..) {
            self.on_frame_fate(level, frame, Fate::Acked);
        }
        *cx.settled = settled;
        if outcome.newly_acked_packets == 0 {
            return Ok(());
        }
        self.update_rtt(cx.now, level, ack, &outcome);
        self.check_ecn(cx.now, level, ack, &outcome);
        self.pto.count = 0;
        self.paths.current.mtu.on_non_probe_acked(outcome.largest_acked_size, outcome.newest_sent_at);
        // RFC 9002 appendix A.7: losses first, so that what is acknowledged by the same frame does not raise a window that
        // is about to fall.
        self.detect_lost(cx, level);
        if outcome.acked_bytes > 0 {
            let in_flight_before = self.spaces.bytes_in_flight() + outcome.acked_bytes;
            let path = &mut self.paths.current;
            let sample = AckSample::new(cx.now, in_flight_before, &path.rtt, &outcome);
            path.congestion.on_ack(&sample);
            self.resume_on_ack(level, &sample);
        }
        if outcome.spurious_losses > 0 {
            self.counters.rare.packets_lost_spuriously += u64::from(outcome.spurious_losses);
        }
        if outcome.all_losses_spurious {
            self.paths.current.congestion.on_spurious_loss(cx.now);
        }
        self.review_ack_frequency(cx.now);
        self.rest_soon(cx.now, under_way);
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
        self.paths.current.rtt.update(now, now - sent_at, delay, self.progress.confirmed.then_some(max));
    }

    fn check_ecn(&mut self, now: Instant, level: Level, ack: &Ack<'_>, outcome: &crate::recovery::sent::AckOutcome) {
        let path = &mut self.paths.current;
        let counts = ack.ecn().map(|c| (c.ect0, c.ect1, c.ce));
        match path.ecn.on_ack(level as usize, counts, u64::from(outcome.newly_acked_marked), outcome.is_newest) {
            Ok(0) => {}
            Ok(marks) => {
                let sent_at = outcome.largest_sent_at.unwrap_or(now);
                self.count_congestion(now, sent_at, false);
                if !self.resume_on_congestion(now, Congestion::Marks) {
                    self.paths.current.congestion.on_ecn_ce(now, marks, sent_at);
                }
            }
            Err(why) => tracing::debug!(?why, "the path does not pass ECN marks"),
        }
    }

    /// Counts losses or marks, of which the newest packet was sent at `sent_at`: once for all that was sent before the last ones
    /// were noticed (RFC 9002 section 7.3.2).
    fn count_congestion(&mut self, now: Instant, sent_at: Instant, persistent: bool) {
        let recovery = &mut self.paths.current.recovery;
        if persistent || !recovery.covers(sent_at) {
            recovery.enter(now);
            self.counters.rare.congestion_events += 1;
        }
    }

    /// Declares packets of a space lost (RFC 9002 section 6.1).
    fn detect_lost(&mut self, cx: &mut Cx<'_>, level: Level) {
        let now = cx.now;
        let Some(space) = self.spaces.at(level) else { return };
        let mut settled = std::mem::take(cx.settled);
        let path = &mut self.paths.current;
        let outcome = space.sent.detect_lost(
            now,
            &path.rtt,
            &mut path.delivery,
            &mut |packet| {
                path.congestion.on_packet_lost(now, packet);
                if let Some(log) = &mut self.log {
                    log.lost(now, kind_of(level), packet.number);
                }
            },
            &mut |frame| settled.push(*frame),
        );
        for frame in settled.drain(..) {
            self.on_frame_fate(level, frame, Fate::Lost);
        }
        *cx.settled = settled;
        if outcome.lost_packets == 0 {
            return;
        }
        self.counters.rare.packets_lost += u64::from(outcome.lost_packets);
        let path = &mut self.paths.current;
        if path.mtu.on_lost(outcome.largest_lost_size, outcome.largest_lost_sent_at, now) {
            path.congestion.on_mtu(path.mtu.current());
        }
        if outcome.lost_bytes > 0 {
            self.count_congestion(now, outcome.largest_lost_sent_at, outcome.persistent);
            if !self.resume_on_congestion(now, Congestion::Loss { persistent: outcome.persistent }) {
                self.paths.current.congestion.on_congestion(&LossSample::new(now, &outcome));
            }
        }
    }

    pub(super) fn on_frame_fate(&mut self, level: Level, frame: SentFrame, fate: Fate) {
        let acked = fate == Fate::Acked;
        if !matches!(frame, SentFrame::Stream(_) | SentFrame::Ack { .. }) {
            self.stir();
        }
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
            SentFrame::AckFrequency { sequence } => self.on_ack_frequency_fate(sequence, acked),
            SentFrame::ObservedAddress { sequence } if !acked => self.on_observation_lost(sequence),
            SentFrame::MtuProbe { generation, .. } if generation != self.paths.generation => {}
            SentFrame::MtuProbe { size, .. } => {
                let path = &mut self.paths.current;
                if acked {
                    path.mtu.on_probe_acked(size);
                    path.congestion.on_mtu(path.mtu.current());
                } else {
                    path.mtu.on_probe_lost(size);
                }
                self.timers.set_opt(Timer::Mtu, path.mtu.next_probe_at());
            }
            SentFrame::NewConnectionId { .. } | SentFrame::ObservedAddress { .. } | SentFrame::NewToken => {}
        }
    }

    /// The probe timeout without backoff: for timers that are measured in it.
    pub(super) fn pto_base(&self) -> Duration {
        self.paths.current.rtt.pto_base() + self.pto.peer_max_ack_delay
    }

    /// When loss detection has to act next.
    pub(super) fn loss_deadline(&self) -> Option<Instant> {
        self.next_loss_action().map(|(at, _)| at)
    }

    fn next_loss_action(&self) -> Option<(Instant, pto::Action)> {
        let spaces = self.spaces.all().map(|s| pto::SpaceTimes {
            space: pto_space(s.level),
            loss_time: s.sent.loss_time(),
            last_eliciting_sent: s.sent.last_ack_eliciting_sent().filter(|_| s.sent.has_ack_eliciting_in_flight()),
        });
        let situation = pto::Situation {
            base: self.paths.current.rtt.pto_base(),
            max_ack_delay: self.pto.peer_max_ack_delay,
            count: self.pto.count,
            longest: self.config.pto_max,
            confirmed: self.progress.confirmed,
            deadlock_since: self.may_deadlock().then_some(self.pto.since),
            has_handshake_keys: self.keys.handshake.is_some(),
            is_blocked: self.paths.current.amplification_budget() < INITIAL_DATAGRAM_MIN as u64,
        };
        pto::next_action(spaces, &situation)
    }

    /// True for a client that the server may be unable to answer until it sends more.
    fn may_deadlock(&self) -> bool {
        self.identity.side == Side::Client
            && !self.progress.confirmed
            && self.spaces.handshake.as_ref().is_none_or(|s| s.largest_acked.is_none())
            && !self.progress.complete
    }

    /// Loss detection's deadline has passed.
    pub(super) fn on_loss_timer(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        let space = match self.next_loss_action() {
            Some((at, _)) if at > now => return,
            Some((_, pto::Action::DetectLost(space))) => return self.detect_lost(cx, level_of(space)),
            Some((_, pto::Action::Probe(space))) => space,
            None => return,
        };
        self.pto.count += 1;
        self.pto.since = now;
        if let Some(log) = &mut self.log {
            log.loss_timer_expired(now);
        }
        self.counters.rare.probe_timeouts += 1;
        // Silence counts against the packet size: when everything large vanishes there is no acknowledgement that
        // shows a loss.
        let path = &mut self.paths.current;
        if path.mtu.on_probe_timeout(self.pto.count, now) {
            path.congestion.on_mtu(path.mtu.current());
        }
        let level = level_of(space);
        self.probe(cx, level);
        // One timeout probes all that is in flight in the handshake: its spaces wait for one another.
        if level == Level::Initial && self.keys.handshake.is_some() {
            self.probe(cx, Level::Handshake);
        }
        // RFC 9002 section 6.2.4: a server that has the client's Finished has no keys for the handshake any more. It has for the
        // data, whose own timeout begins when the handshake is confirmed; HANDSHAKE_DONE, which would tell, may be lost as well.
        if level == Level::Handshake && self.progress.complete && self.spaces.data.sent.has_ack_eliciting_in_flight() {
            self.probe(cx, Level::OneRtt);
        }
    }

    /// Sends up to two packets of `level` whatever the window says; what they carry is the oldest data in flight
    /// (RFC 9002 section 6.2.4).
    fn probe(&mut self, cx: &mut Cx<'_>, level: Level) {
        let mut settled = std::mem::take(cx.settled);
        if let Some(space) = self.spaces.at(level) {
            space.probes = 2;
            space.sent.oldest_unacked(2, &mut |frame| settled.push(*frame));
        }
        for frame in settled.drain(..) {
            // Sent again ahead of a verdict; the packet itself stays in flight.
            if !matches!(
                frame,
                SentFrame::MtuProbe { .. }
                    | SentFrame::Ack { .. }
                    | SentFrame::NewToken
                    | SentFrame::AckFrequency { .. }
            ) {
                self.on_frame_fate(level, frame, Fate::Lost);
            }
        }
        *cx.settled = settled;
        if let Some(space) = self.spaces.at(level) {
            space.ping = true;
        }
    }

    /// Errors of the peer's acknowledgements and of ours.
    pub(super) fn limit_reached(&self) -> Option<TransportError> {
        if self.spaces.data.sent.is_flooded() {
            let why = "the peer acknowledges nothing of what it asks for";
            return Some(TransportError::new(TransportErrorCode::INTERNAL_ERROR, why));
        }
        let keys = self.keys.one_rtt.as_ref()?;
        keys.exhausted().then(|| {
            TransportError::new(
                TransportErrorCode::AEAD_LIMIT_REACHED,
                "no key update was possible before the cipher's limit",
            )
        })
    }
}
