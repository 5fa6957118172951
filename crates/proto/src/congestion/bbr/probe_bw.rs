//! ProbeBW: the cycle of down, cruise, refill and up in which a long flow spends its time (section 5.3.3).

use core::time::Duration;

use super::{Bbr, Sample, State, UNBOUNDED, scale};
use crate::time::Instant;

/// `Headroom`: the part of `inflight_longterm` that is left to others.
const HEADROOM: f64 = 0.15;
/// Rounds after which to probe on paths where Reno would have recovered by then.
const RENO_ROUNDS_MAX: u64 = 63;
/// Doublings of the growth of `inflight_longterm` within one probe.
const UP_ROUNDS_MAX: u32 = 30;

/// What the acknowledgements that come in are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AckPhase {
    #[default]
    Init,
    Refilling,
    ProbeStarting,
    ProbeFeedback,
    ProbeStopping,
}

/// State of bandwidth probing.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) ack_phase: AckPhase,
    /// Acknowledgements are of packets sent while probing.
    pub(super) is_sample: bool,
    /// The last probe lost too much.
    pub(super) was_too_high: bool,
    /// The last probe ended early, for the one before it was too high.
    was_precautionary: bool,
    up_acked: u64,
    up_acked_per_inc: u64,
    up_rounds: u32,
    pub(super) rounds_since_up: u64,
    wait: Duration,
    cycle_stamp: Instant,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            ack_phase: AckPhase::Init,
            is_sample: false,
            was_too_high: false,
            was_precautionary: false,
            up_acked: 0,
            up_acked_per_inc: UNBOUNDED,
            up_rounds: 0,
            rounds_since_up: 0,
            wait: Duration::ZERO,
            cycle_stamp: Instant::default(),
        }
    }
}

/// SplitMix64: two flows that differ in anything wait for different times.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Bbr {
    /// `PickProbeWait`: two to three seconds, and a round more or less.
    fn pick_probe_wait(&mut self, now: Instant) {
        let random = mix(now.as_nanos() ^ self.delivered.rotate_left(32));
        self.probe.rounds_since_up = random & 1;
        self.probe.wait = Duration::from_secs(2) + Duration::from_nanos((random >> 1) % 1_000_000_000);
    }

    pub(super) fn start_probe_bw_down(&mut self, now: Instant) {
        self.reset_congestion_signals();
        self.probe.up_acked_per_inc = UNBOUNDED;
        self.pick_probe_wait(now);
        self.probe.cycle_stamp = now;
        self.probe.ack_phase = AckPhase::ProbeStopping;
        self.start_round();
        self.state = State::ProbeBwDown;
    }

    pub(super) fn start_probe_bw_refill(&mut self) {
        self.reset_short_term_model();
        self.probe.up_rounds = 0;
        self.probe.up_acked = 0;
        self.probe.was_precautionary = false;
        self.probe.ack_phase = AckPhase::Refilling;
        self.start_round();
        self.state = State::ProbeBwRefill;
    }

    fn start_probe_bw_up(&mut self, rs: &Sample) {
        self.probe.ack_phase = AckPhase::ProbeStarting;
        self.start_round();
        self.full_pipe.reset(rs.delivery_rate);
        self.state = State::ProbeBwUp;
        self.raise_longterm_slope();
    }

    pub(super) fn update_probe_bw_cycle_phase(&mut self, rs: &Sample) {
        if !self.full_pipe.reached || self.adapt_long_term_model(rs) {
            return;
        }
        match self.state {
            State::ProbeBwDown => self.advance_from_down(rs.now),
            State::ProbeBwCruise => {
                self.check_time_to_probe(rs.now);
            }
            State::ProbeBwRefill if self.round.start => {
                self.probe.is_sample = true;
                self.start_probe_bw_up(rs);
            }
            State::ProbeBwUp => self.advance_from_up(rs),
            State::ProbeBwRefill | State::Startup | State::Drain | State::ProbeRtt => {}
        }
    }

    fn advance_from_down(&mut self, now: Instant) {
        if !self.check_time_to_probe(now) && self.is_time_to_cruise() {
            self.state = State::ProbeBwCruise;
        }
    }

    fn advance_from_up(&mut self, rs: &Sample) {
        if self.is_time_to_go_down(rs) {
            self.probe.was_too_high = false;
            self.start_probe_bw_down(rs.now);
        }
    }

    /// `IsTimeToProbeBW`: begins to refill when it is.
    fn check_time_to_probe(&mut self, now: Instant) -> bool {
        let has_elapsed = now > self.probe.cycle_stamp + self.probe.wait;
        let reno_rounds = (self.target_in_flight() / self.control.smss).min(RENO_ROUNDS_MAX);
        let is_time = has_elapsed || self.probe.rounds_since_up >= reno_rounds;
        if is_time {
            self.start_probe_bw_refill();
        }
        is_time
    }

    fn is_time_to_cruise(&self) -> bool {
        self.in_flight <= self.in_flight_with_headroom()
            && self.in_flight <= self.in_flight_at(self.bandwidth.max(), 1.0)
    }

    fn is_time_to_go_down(&mut self, rs: &Sample) -> bool {
        let longterm = self.volume.longterm;
        if self.probe.was_too_high && self.in_flight >= longterm {
            self.probe.was_precautionary = true;
            return true;
        }
        if self.control.is_cwnd_limited() && self.control.cwnd >= longterm {
            // The long-term bound held it back: the rate says nothing of the path.
            self.full_pipe.reset(rs.delivery_rate);
            return false;
        }
        self.full_pipe.now
    }

    /// `InflightWithHeadroom`.
    pub(super) fn in_flight_with_headroom(&self) -> u64 {
        let longterm = self.volume.longterm;
        if longterm == UNBOUNDED {
            return UNBOUNDED;
        }
        let headroom = scale(longterm, HEADROOM).max(self.control.smss);
        longterm.saturating_sub(headroom).max(self.control.min_pipe())
    }

    /// `RaiseInflightLongtermSlope`.
    fn raise_longterm_slope(&mut self) {
        let growth = 1u64 << self.probe.up_rounds;
        self.probe.up_rounds = (self.probe.up_rounds + 1).min(UP_ROUNDS_MAX);
        self.probe.up_acked_per_inc = (self.control.cwnd / growth).max(self.control.smss);
    }

    /// `ProbeInflightLongtermUpward`.
    fn probe_longterm_upward(&mut self, rs: &Sample) {
        if !self.control.is_cwnd_limited() || self.control.cwnd < self.volume.longterm {
            return;
        }
        self.probe.up_acked += rs.newly_acked;
        let delta = self.probe.up_acked / self.probe.up_acked_per_inc;
        self.probe.up_acked -= delta * self.probe.up_acked_per_inc;
        self.volume.longterm = self.volume.longterm.saturating_add(delta * self.control.smss);
        if self.round.start {
            self.raise_longterm_slope();
        }
    }

    /// `AdaptLongTermModel`: true when it decided a transition.
    fn adapt_long_term_model(&mut self, rs: &Sample) -> bool {
        if self.probe.ack_phase == AckPhase::ProbeStarting && self.round.start {
            self.probe.ack_phase = AckPhase::ProbeFeedback;
        }
        if self.probe.ack_phase == AckPhase::ProbeStopping && self.round.start {
            self.probe.is_sample = false;
            self.probe.ack_phase = AckPhase::Init;
            if self.state.is_probe_bw() && !rs.app_limited {
                self.bandwidth.advance();
            }
            if self.state.is_probe_bw() && self.probe.was_precautionary && !self.probe.was_too_high {
                self.start_probe_bw_refill();
                return true;
            }
        }
        if self.is_inflight_too_high(rs.lost + self.marked(), rs.tx_in_flight) || self.volume.longterm == UNBOUNDED {
            return false;
        }
        self.volume.longterm = self.volume.longterm.max(rs.tx_in_flight);
        if self.state == State::ProbeBwUp {
            self.probe_longterm_upward(rs);
        }
        false
    }
}
