//! What loss and marks change in the model, and how it is undone (sections 5.5.10 and 5.5.11).

use super::{BETA, Bbr, LOSS_THRESH, State, UNBOUNDED, scale};
use crate::recovery::sent::LostPacket;
use crate::time::Instant;

/// Standard deviations by which the loss of a round trip may exceed the threshold before it is taken for the path's.
const CHANCE: f64 = 1.5;
/// The same in Startup. Chance that ends it leaves a bound of what happened to be in flight, which probes raise by a few packets each; a
/// queue that overflows there loses a third and more of a round trip.
const CHANCE_STARTUP: f64 = 3.0;

/// Losses of the present round trip.
#[derive(Clone, Debug, Default)]
pub(super) struct LossRound {
    /// `BBR.loss_round_delivered`.
    pub(super) round_delivered: u64,
    /// The present ACK frame ended a round of loss accounting.
    pub(super) round_start: bool,
    /// `BBR.is_loss_in_round`.
    pub(super) in_round: bool,
    /// Bytes of it that were marked CE, not lost.
    marked_in_round: u64,
    /// The same of the round before.
    marked_in_last_round: u64,
    /// Ranges of packet numbers lost in the round.
    pub(super) ranges: u32,
    last_lost: Option<u64>,
    /// Losses were found in this round trip or the one before.
    in_recovery: bool,
    /// Bytes in flight when the packet last acknowledged was sent, for judging marks.
    pub(super) last_tx_in_flight: u64,
    pub(super) last_app_limited: bool,
}

/// What to go back to when an episode of losses turns out to be none.
#[derive(Clone, Debug, Default)]
pub(super) struct Undo {
    pub(super) state: Option<State>,
    bw_shortterm: u64,
    volume_shortterm: u64,
    volume_longterm: u64,
}

impl LossRound {
    /// The round trip had marks.
    pub(super) fn is_marked(&self) -> bool {
        self.marked_in_round > 0
    }

    /// A round trip is over.
    pub(super) fn end_round(&mut self) {
        self.in_round = false;
        self.marked_in_last_round = core::mem::take(&mut self.marked_in_round);
    }
}

impl Bbr {
    /// `IsInflightTooHigh`, with room for chance: of so many packets in flight, random loss at the threshold itself may take
    /// [`CHANCE`] standard deviations more, or [`CHANCE_STARTUP`]. Without it a path of a hundred packets that loses one in a hundred, which is what the
    /// threshold is to tolerate, crosses it in every fifth round trip.
    #[inline]
    pub(super) fn is_inflight_too_high(&self, lost: u64, tx_in_flight: u64) -> bool {
        let tolerated = tx_in_flight as f64 * LOSS_THRESH;
        let deviation = (tolerated * self.control.smss as f64).sqrt();
        let chance = if self.full_pipe.reached { CHANCE } else { CHANCE_STARTUP };
        lost as f64 > tolerated + chance * deviation
    }

    /// Bytes marked CE in the round trip that acknowledgements are of: they count as lost (section 3.7 of the draft).
    #[inline]
    pub(super) fn marked(&self) -> u64 {
        self.loss.marked_in_round.max(self.loss.marked_in_last_round)
    }

    fn note_loss(&mut self) {
        if !self.loss.in_round {
            self.loss.round_delivered = self.delivered;
            self.save_state_upon_loss();
        }
        self.loss.in_round = true;
        self.loss.in_recovery = true;
    }

    fn save_state_upon_loss(&mut self) {
        self.save_cwnd();
        self.undo = Undo {
            state: None,
            bw_shortterm: self.bandwidth.shortterm,
            volume_shortterm: self.volume.shortterm,
            volume_longterm: self.volume.longterm,
        };
    }

    pub(super) fn save_cwnd(&mut self) {
        let keeps = self.loss.in_recovery || self.state == State::ProbeRtt;
        let before = if keeps { self.control.prior_cwnd } else { 0 };
        self.control.prior_cwnd = before.max(self.control.cwnd);
    }

    pub(super) fn restore_cwnd(&mut self) {
        self.control.cwnd = self.control.cwnd.max(self.control.prior_cwnd);
    }

    /// A round trip without loss: the window is what it was before, within what the model allows.
    pub(super) fn leave_recovery(&mut self) {
        if self.loss.in_recovery {
            self.loss.in_recovery = false;
            self.restore_cwnd();
        }
    }

    pub(super) fn handle_lost_packet(&mut self, now: Instant, packet: &LostPacket) {
        self.note_loss();
        if self.loss.last_lost.is_none_or(|last| last + 1 != packet.number) {
            self.loss.ranges += 1;
        }
        self.loss.last_lost = Some(packet.number);
        if !self.probe.is_sample || !self.is_inflight_too_high(packet.lost_since_sent, packet.tx_in_flight) {
            return;
        }
        self.handle_inflight_too_high(now, in_flight_at_loss(packet), packet.app_limited);
    }

    fn handle_inflight_too_high(&mut self, now: Instant, tx_in_flight: u64, app_limited: bool) {
        self.probe.was_too_high = true;
        self.probe.is_sample = false;
        if !app_limited {
            self.volume.longterm = tx_in_flight.max(scale(self.target_in_flight(), BETA));
        }
        if self.state == State::ProbeBwUp {
            self.undo.state = Some(State::ProbeBwUp);
            self.start_probe_bw_down(now);
        }
    }

    /// `marks` more packets carry a CE mark: each counts as a datagram lost.
    pub(super) fn handle_marks(&mut self, now: Instant, marks: u64) {
        self.note_loss();
        // Where in the sequence they were is not known. Unlike losses they are no noise that has to be filtered.
        self.loss.ranges = self.loss.ranges.saturating_add(u32::try_from(marks).unwrap_or(u32::MAX));
        let bytes = marks.saturating_mul(self.control.smss);
        self.loss.marked_in_round = self.loss.marked_in_round.saturating_add(bytes);
        let tx_in_flight = self.loss.last_tx_in_flight;
        if self.probe.is_sample && self.is_inflight_too_high(self.loss.marked_in_round, tx_in_flight) {
            self.handle_inflight_too_high(now, tx_in_flight, self.loss.last_app_limited);
        }
    }

    /// `OnEnterRTO`, for what takes its place in QUIC (RFC 9002 section 7.6).
    pub(super) fn enter_persistent_congestion(&mut self) {
        self.save_state_upon_loss();
        self.loss.in_recovery = true;
        self.control.collapse(self.in_flight);
    }

    pub(super) fn handle_spurious_loss(&mut self, _now: Instant) {
        self.restore_cwnd();
        self.loss.in_round = false;
        self.loss.in_recovery = false;
        self.full_pipe.reset(0);
        self.bandwidth.shortterm = self.bandwidth.shortterm.max(self.undo.bw_shortterm);
        self.volume.shortterm = self.volume.shortterm.max(self.undo.volume_shortterm);
        self.volume.longterm = self.volume.longterm.max(self.undo.volume_longterm);
        match self.undo.state.take() {
            Some(State::Startup) if self.state != State::Startup => {
                self.full_pipe.reached = false;
                if self.state != State::ProbeRtt {
                    self.enter_startup();
                }
            }
            Some(State::ProbeBwUp) if !matches!(self.state, State::ProbeBwUp | State::ProbeRtt) => {
                self.start_probe_bw_refill();
            }
            _ => {}
        }
    }
}

/// `InflightAtLoss`: bytes in flight at which losses crossed the threshold, somewhere within the lost packet.
fn in_flight_at_loss(packet: &LostPacket) -> u64 {
    let size = u64::from(packet.size);
    let in_flight_prev = packet.tx_in_flight.saturating_sub(size) as f64;
    let lost_prev = packet.lost_since_sent.saturating_sub(size) as f64;
    let lost_prefix = (LOSS_THRESH * in_flight_prev - lost_prev) / (1.0 - LOSS_THRESH);
    let at_loss = (in_flight_prev + lost_prefix).max(0.0) as u64;
    debug_assert!(at_loss < UNBOUNDED, "a volume of data");
    at_loss
}
