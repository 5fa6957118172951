//! What is known of the path: round trips, bandwidth, volume and aggregation (section 5.5).

use super::filter::MaxFilter;
use super::{BETA, Bbr, Sample, State, UNBOUNDED, scale};
use crate::time::Instant;

/// `ExtraAckedFilterLen`, in round trips.
const EXTRA_ACKED_FILTER_LEN: u64 = 10;
/// Seconds of the bandwidth that aggregation may add to the window. The draft bounds it by the window alone, which lets the
/// two raise each other without end where one acknowledgement covers a whole window; Linux has this bound too
/// (`bbr_extra_acked_max_us`).
const EXTRA_ACKED_MAX: f64 = 0.1;

/// Packet-timed round trips (section 5.5.1).
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    pub(super) count: u64,
    /// The present ACK frame began a round.
    pub(super) start: bool,
    next_delivered: u64,
}

/// How fast the path is (section 5.5.2).
#[derive(Clone, Debug)]
pub(super) struct Bandwidth {
    /// The maximum of the previous bandwidth probing cycle and of the present one.
    cycles: [u64; 2],
    pub(super) shortterm: u64,
    latest: u64,
    /// The largest share that the path passed in the present round of loss accounting.
    passed: f64,
    /// The least of what the above say.
    pub(super) bw: u64,
}

impl Default for Bandwidth {
    fn default() -> Self {
        Self { cycles: [0; 2], shortterm: UNBOUNDED, latest: 0, passed: 0.0, bw: 0 }
    }
}

impl Bandwidth {
    /// `BBR.max_bw`.
    #[inline]
    pub(super) fn max(&self) -> u64 {
        self.cycles[0].max(self.cycles[1])
    }

    /// `AdvanceMaxBwFilter`. A cycle without samples does not count.
    pub(super) fn advance(&mut self) {
        if self.cycles[1] > 0 {
            self.cycles = [self.cycles[1], 0];
        }
    }

    /// `BoundBWForModel`.
    #[inline]
    pub(super) fn bound(&mut self) {
        self.bw = self.max().min(self.shortterm);
    }
}

/// How much the path takes in flight (section 5.5.7).
#[derive(Clone, Debug)]
pub(super) struct Volume {
    pub(super) longterm: u64,
    pub(super) shortterm: u64,
    pub(super) latest: u64,
    /// The most that one acknowledgement covered in the present round of loss accounting.
    pub(super) lump: u64,
}

impl Default for Volume {
    fn default() -> Self {
        Self { longterm: UNBOUNDED, shortterm: UNBOUNDED, latest: 0, lump: 0 }
    }
}

/// How far acknowledgements come in lumps (section 5.5.9).
#[derive(Clone, Debug, Default)]
pub(super) struct Aggregation {
    since: Instant,
    delivered: u64,
    filter: MaxFilter,
}

impl Aggregation {
    pub(super) fn restart(&mut self, now: Instant) {
        self.since = now;
    }

    /// `BBR.extra_acked`.
    #[inline]
    pub(super) fn extra_acked(&self) -> u64 {
        self.filter.max()
    }
}

impl Bbr {
    /// `StartRound`.
    pub(super) fn start_round(&mut self) {
        self.round.next_delivered = self.delivered;
    }

    fn update_round(&mut self, rs: &Sample) {
        self.round.start = rs.prior_delivered >= self.round.next_delivered;
        if self.round.start {
            self.start_round();
            self.round.count += 1;
            self.probe.rounds_since_up += 1;
            self.control.end_round();
        }
    }

    fn update_max_bw(&mut self, rs: &Sample) {
        self.update_round(rs);
        if rs.delivery_rate > 0 && (rs.delivery_rate >= self.bandwidth.max() || !rs.app_limited) {
            self.bandwidth.cycles[1] = self.bandwidth.cycles[1].max(rs.delivery_rate);
        }
    }

    pub(super) fn update_latest_delivery_signals(&mut self, rs: &Sample) {
        self.bandwidth.latest = self.bandwidth.latest.max(rs.delivery_rate);
        self.bandwidth.passed = self.bandwidth.passed.max(rs.passed);
        self.volume.latest = self.volume.latest.max(rs.delivered);
        self.volume.lump = self.volume.lump.max(rs.newly_acked);
        self.loss.round_start = rs.prior_delivered >= self.loss.round_delivered;
        if self.loss.round_start {
            self.loss.round_delivered = self.delivered;
        }
    }

    pub(super) fn advance_latest_delivery_signals(&mut self, rs: &Sample) {
        if self.loss.round_start {
            self.bandwidth.latest = rs.delivery_rate;
            self.bandwidth.passed = rs.passed;
            self.volume.latest = rs.delivered;
            self.volume.lump = rs.newly_acked;
        }
    }

    pub(super) fn reset_congestion_signals(&mut self) {
        self.loss.end_round();
        self.bandwidth.latest = 0;
        self.bandwidth.passed = 0.0;
        self.volume.latest = 0;
        self.volume.lump = 0;
    }

    pub(super) fn update_congestion_signals(&mut self, rs: &Sample) {
        self.update_max_bw(rs);
        if !self.loss.round_start {
            return;
        }
        self.adapt_lower_bounds();
        if !self.loss.in_round {
            self.leave_recovery();
        }
        self.loss.end_round();
    }

    /// `AdaptLowerBoundsFromCongestion`: once per round trip.
    ///
    /// The draft lowers the bounds to what the last round delivered. That is no measure of the path where the sender held
    /// back: in the round after ProbeBW_DOWN it delivers nine tenths of the bandwidth, after ProbeRTT a half, of any path, and
    /// one lost packet would make a bound of it until the next probe. So the bandwidth falls by the share of what was sent
    /// that did not arrive, or came late, and the volume no further than what that bandwidth keeps on the way and one
    /// acknowledgement covers: the window could not let that bandwidth through otherwise. (`extra_acked` says too much here: what
    /// comes faster than a bound that fell counts as aggregation.) Marks are the word of a queue: after them the draft's rule holds
    /// (RFC 3168 section 5).
    fn adapt_lower_bounds(&mut self) {
        if self.state.is_accelerating() || !self.loss.in_round {
            return;
        }
        let (bandwidth, volume) = (&mut self.bandwidth, &mut self.volume);
        if bandwidth.shortterm == UNBOUNDED {
            bandwidth.shortterm = bandwidth.max();
        }
        if volume.shortterm == UNBOUNDED {
            volume.shortterm = self.control.cwnd;
        }
        let is_marked = self.loss.is_marked();
        let passed = if is_marked { BETA } else { bandwidth.passed.clamp(BETA, 1.0) };
        bandwidth.shortterm = bandwidth.latest.max(scale(bandwidth.shortterm, passed));
        let before = volume.shortterm;
        volume.shortterm = volume.latest.max(scale(before, BETA));
        if !is_marked {
            let product = self.bdp_multiple(self.bandwidth.max().min(self.bandwidth.shortterm), 1.0);
            let on_the_way = self.quantized(product.saturating_add(self.volume.lump));
            self.volume.shortterm = self.volume.shortterm.max(on_the_way.min(before));
        }
    }

    pub(super) fn reset_short_term_model(&mut self) {
        self.bandwidth.shortterm = UNBOUNDED;
        self.volume.shortterm = UNBOUNDED;
    }

    pub(super) fn update_ack_aggregation(&mut self, rs: &Sample) {
        let aggregation = &mut self.aggregation;
        let mut expected = scale(self.bandwidth.bw, (rs.now - aggregation.since).as_secs_f64());
        if aggregation.delivered <= expected {
            aggregation.delivered = 0;
            aggregation.since = rs.now;
            expected = 0;
        }
        aggregation.delivered += rs.newly_acked;
        let bound = self.control.cwnd.min(scale(self.bandwidth.bw, EXTRA_ACKED_MAX));
        let extra = (aggregation.delivered - expected).min(bound);
        let len = if self.full_pipe.reached { EXTRA_ACKED_FILTER_LEN } else { 1 };
        aggregation.filter.update(len, self.round.count, extra);
    }

    /// `BDPMultiple`, at bandwidth `bw`.
    pub(super) fn bdp_multiple(&self, bw: u64, gain: f64) -> u64 {
        match self.min_rtt.min {
            UNBOUNDED => self.control.initial_cwnd,
            rtt => scale(bw, gain * rtt as f64 * 1e-9),
        }
    }

    /// `TargetInflight`: the bandwidth-delay product, unless congestion cut the window.
    pub(super) fn target_in_flight(&self) -> u64 {
        self.bdp_multiple(self.bandwidth.bw, 1.0).min(self.control.cwnd)
    }

    /// `Inflight`, at bandwidth `bw`.
    pub(super) fn in_flight_at(&self, bw: u64, gain: f64) -> u64 {
        self.quantized(self.bdp_multiple(bw, gain))
    }

    /// `QuantizationBudget`: room for what the host holds in trains.
    pub(super) fn quantized(&self, cap: u64) -> u64 {
        let cap = cap.max(self.control.send_quantum).max(self.control.min_pipe());
        if self.state == State::ProbeBwUp { cap + 2 * self.control.smss } else { cap }
    }
}
