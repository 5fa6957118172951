//! From the model to a window, a rate and a quantum (section 5.6).

use core::time::Duration;

use super::{Bbr, Sample, State, UNBOUNDED, nanos, scale};

/// One percent less than the bandwidth: `PacingMarginPercent`.
const PACING_MARGIN: f64 = 0.99;
/// Largest send quantum: one GSO train.
const QUANTUM_MAX: u64 = 64 * 1024;
/// `MinPipeCwnd`, in datagrams.
const MIN_PIPE_PACKETS: u64 = 4;

/// The outputs, and what they are made of.
#[derive(Clone, Debug)]
pub(super) struct Control {
    pub(super) cwnd: u64,
    pub(super) prior_cwnd: u64,
    /// Bytes per second; 0 before the first round-trip time is known.
    rate: u64,
    pub(super) send_quantum: u64,
    /// Largest datagram.
    pub(super) smss: u64,
    pub(super) initial_cwnd: u64,
    /// The window was full in this round trip, and in the one before.
    limited: [bool; 2],
}

impl Control {
    pub(super) fn new(initial_cwnd: u64, mtu: u16) -> Self {
        let smss = u64::from(mtu);
        Self {
            cwnd: initial_cwnd,
            prior_cwnd: 0,
            rate: 0,
            send_quantum: 2 * smss,
            smss,
            initial_cwnd,
            limited: [false; 2],
        }
    }

    pub(super) fn set_mtu(&mut self, mtu: u16) {
        self.smss = u64::from(mtu);
        self.cwnd = self.cwnd.max(self.min_pipe());
    }

    /// `MinPipeCwnd`.
    #[inline]
    pub(super) fn min_pipe(&self) -> u64 {
        MIN_PIPE_PACKETS * self.smss
    }

    /// Less than a datagram of room left counts as full.
    #[inline]
    pub(super) fn note_usage(&mut self, in_flight: u64) {
        self.limited[0] |= in_flight + self.smss > self.cwnd;
    }

    #[inline]
    pub(super) fn end_round(&mut self) {
        self.limited = [false, self.limited[0]];
    }

    /// `C.is_cwnd_limited`.
    #[inline]
    pub(super) fn is_cwnd_limited(&self) -> bool {
        self.limited[0] || self.limited[1]
    }

    /// `InitPacingRate`, once a round-trip time is known.
    #[inline]
    pub(super) fn init_pacing_rate(&mut self, srtt: Duration) {
        if self.rate == 0 {
            self.rate = self.pacing_rate(srtt);
        }
    }

    #[inline]
    pub(super) fn pacing_rate(&self, srtt: Duration) -> u64 {
        if self.rate > 0 {
            return self.rate;
        }
        let (gain, _) = State::Startup.gains();
        scale(self.initial_cwnd, gain * 1e9 / nanos(srtt).max(1) as f64).max(1)
    }

    /// Room for one more datagram than is in flight, and for two at least (RFC 9002 section 7.6.2).
    pub(super) fn collapse(&mut self, in_flight: u64) {
        self.cwnd = self.cwnd.min((in_flight + self.smss).max(2 * self.smss));
    }
}

impl Bbr {
    /// `UpdateControlParameters`.
    pub(super) fn update_control_parameters(&mut self, rs: &Sample) {
        let (gain, _) = self.state.gains();
        self.set_pacing_rate(gain);
        self.set_send_quantum();
        self.set_cwnd(rs);
        self.loss.last_tx_in_flight = rs.tx_in_flight;
        self.loss.last_app_limited = rs.app_limited;
    }

    /// `SetPacingRateWithGain`.
    pub(super) fn set_pacing_rate(&mut self, gain: f64) {
        let rate = scale(self.bandwidth.bw, gain * PACING_MARGIN).max(self.probing_rate());
        if rate > 0 && (self.full_pipe.reached || rate > self.control.rate) {
            self.control.rate = rate;
        }
    }

    fn set_send_quantum(&mut self) {
        let per_ms = self.control.rate / 1_000;
        self.control.send_quantum = per_ms.min(QUANTUM_MAX).max(2 * self.control.smss);
    }

    fn max_in_flight(&self) -> u64 {
        let (_, gain) = self.state.gains();
        let bandwidth = self.bandwidth.bw.max(self.probing_rate());
        let cap = self.bdp_multiple(bandwidth, gain).saturating_add(self.aggregation.extra_acked());
        self.quantized(cap)
    }

    fn set_cwnd(&mut self, rs: &Sample) {
        let max_in_flight = self.max_in_flight();
        // What careful resume took back is not given again before the queue is gone.
        let grown = if self.is_tainted() { self.control.cwnd } else { self.control.cwnd + rs.newly_acked };
        if self.full_pipe.reached {
            self.control.cwnd = grown.min(max_in_flight);
        } else if self.control.cwnd < max_in_flight || self.delivered < self.control.initial_cwnd {
            self.control.cwnd = grown;
        }
        let mut cwnd = self.control.cwnd.max(self.control.min_pipe());
        if self.state == State::ProbeRtt {
            cwnd = cwnd.min(self.probe_rtt_cwnd());
        }
        self.control.cwnd = cwnd.min(self.model_cap());
    }

    /// `BoundCwndForModel`.
    fn model_cap(&self) -> u64 {
        let longterm = match self.state {
            State::ProbeBwCruise | State::ProbeRtt => self.in_flight_with_headroom(),
            State::ProbeBwDown | State::ProbeBwRefill | State::ProbeBwUp => self.volume.longterm,
            State::Startup | State::Drain => UNBOUNDED,
        };
        longterm.min(self.volume.shortterm).max(self.control.min_pipe())
    }

    /// `ProbeRTTCwnd`.
    pub(super) fn probe_rtt_cwnd(&self) -> u64 {
        let (_, gain) = State::ProbeRtt.gains();
        self.bdp_multiple(self.bandwidth.bw, gain).max(self.control.min_pipe())
    }
}
