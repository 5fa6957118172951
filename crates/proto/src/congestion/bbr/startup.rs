//! Startup and Drain: finding the bandwidth by doubling, then emptying the queue that it took (sections 5.3.1 and
//! 5.3.2).

use super::{Bbr, Sample, State};

/// Growth of the delivery rate below which a round counts as without growth.
const GROWTH: f64 = 1.25;
/// Rounds without growth after which the pipe is full.
const FULL_ROUNDS: u32 = 3;
/// `BBRStartupFullLossCnt`: separate ranges of packets lost in one round.
const FULL_LOSS_RANGES: u32 = 6;
/// Rounds after which Drain ends even though the queue is not empty.
const DRAIN_ROUNDS: u64 = 3;

/// The estimator of a full pipe.
#[derive(Clone, Debug, Default)]
pub(super) struct FullPipe {
    /// The delivery rate that growth is measured against.
    pub(super) bw: u64,
    count: u32,
    /// Full since the estimator was reset.
    pub(super) now: bool,
    /// Full at least once.
    pub(super) reached: bool,
    drain_start_round: u64,
}

impl FullPipe {
    /// `ResetFullBW`, with `bw` to measure against.
    pub(super) fn reset(&mut self, bw: u64) {
        self.bw = bw;
        self.count = 0;
        self.now = false;
    }
}

impl Bbr {
    pub(super) fn check_full_bw_reached(&mut self, rs: &Sample) {
        let pipe = &mut self.full_pipe;
        if pipe.now || !self.round.start || rs.app_limited || rs.delivery_rate == 0 {
            return;
        }
        if rs.delivery_rate as f64 >= pipe.bw as f64 * GROWTH {
            pipe.reset(rs.delivery_rate);
            return;
        }
        pipe.count += 1;
        pipe.now = pipe.count >= FULL_ROUNDS;
        pipe.reached |= pipe.now;
    }

    pub(super) fn enter_startup(&mut self) {
        self.state = State::Startup;
    }

    pub(super) fn check_startup_done(&mut self, rs: &Sample) {
        self.check_startup_high_loss(rs);
        if self.state == State::Startup && self.full_pipe.reached {
            self.enter_drain();
        }
    }

    pub(super) fn enter_drain(&mut self) {
        self.state = State::Drain;
        self.full_pipe.drain_start_round = self.round.count;
    }

    /// A round that began with a loss or a mark is over, and too much was lost or marked in it in too many places.
    fn check_startup_high_loss(&mut self, rs: &Sample) {
        if !self.loss.round_start {
            return;
        }
        let ranges = core::mem::take(&mut self.loss.ranges);
        if self.state != State::Startup || self.full_pipe.reached || ranges < FULL_LOSS_RANGES {
            return;
        }
        if self.is_inflight_too_high(rs.lost + self.marked(), rs.tx_in_flight) {
            self.undo.state = Some(State::Startup);
            self.full_pipe.now = true;
            self.full_pipe.reached = true;
            self.volume.longterm = self.bdp_multiple(self.bandwidth.bw, 1.0).max(self.volume.latest);
        }
    }

    pub(super) fn check_drain_done(&mut self, rs: &Sample) {
        if self.state != State::Drain {
            return;
        }
        let is_drained = self.in_flight <= self.in_flight_at(self.bandwidth.bw, 1.0);
        if is_drained || self.round.count > self.full_pipe.drain_start_round + DRAIN_ROUNDS {
            self.start_probe_bw_down(rs.now);
        }
    }
}
