//! ProbeRTT: sending little for a moment, so that the round-trip time without a queue shows (section 5.3.4).

use core::time::Duration;

use super::probe_bw::AckPhase;
use super::{Bbr, Sample, State, UNBOUNDED};
use crate::time::Instant;

/// `MinRTTFilterLen`.
const MIN_RTT_FILTER_LEN: Duration = Duration::from_secs(10);
/// `ProbeRTTInterval`.
const PROBE_RTT_INTERVAL: Duration = Duration::from_secs(5);
/// `ProbeRTTDuration`.
const PROBE_RTT_DURATION: Duration = Duration::from_millis(200);

/// The round-trip time without a queue, and when to measure it again. Times are in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct MinRtt {
    /// `BBR.min_rtt`.
    pub(super) min: u64,
    stamp: Instant,
    probe_min: u64,
    probe_stamp: Instant,
    probe_expired: bool,
    done_at: Option<Instant>,
    round_done: bool,
    /// Packets sent before this many bytes were delivered had to wait for ProbeRTT: their rates say little of the path.
    limited_until: u64,
}

impl Default for MinRtt {
    fn default() -> Self {
        Self {
            min: UNBOUNDED,
            stamp: Instant::default(),
            probe_min: UNBOUNDED,
            probe_stamp: Instant::default(),
            probe_expired: false,
            done_at: None,
            round_done: false,
            limited_until: 0,
        }
    }
}

impl MinRtt {
    pub(super) fn start(&mut self, now: Instant) {
        self.stamp = now;
        self.probe_stamp = now;
    }

    /// The controller's own part of `MarkConnectionAppLimited`.
    #[inline]
    pub(super) fn is_sample_limited(&self, prior_delivered: u64) -> bool {
        self.limited_until > 0 && prior_delivered <= self.limited_until
    }
}

impl Bbr {
    pub(super) fn update_min_rtt(&mut self, rs: &Sample) {
        let m = &mut self.min_rtt;
        m.probe_expired = rs.now > m.probe_stamp + PROBE_RTT_INTERVAL;
        if rs.rtt < m.probe_min || m.probe_expired {
            m.probe_min = rs.rtt;
            m.probe_stamp = rs.now;
        }
        let min_expired = rs.now > m.stamp + MIN_RTT_FILTER_LEN;
        if m.probe_min < m.min || min_expired {
            m.min = m.probe_min;
            m.stamp = m.probe_stamp;
        }
    }

    pub(super) fn check_probe_rtt(&mut self, rs: &Sample) {
        if self.state != State::ProbeRtt && self.min_rtt.probe_expired && !self.idle_restart {
            self.save_cwnd();
            self.state = State::ProbeRtt;
            self.min_rtt.done_at = None;
            self.probe.ack_phase = AckPhase::ProbeStopping;
            self.start_round();
        }
        if self.state == State::ProbeRtt {
            self.handle_probe_rtt(rs);
        }
        if rs.delivered > 0 {
            self.idle_restart = false;
        }
    }

    fn handle_probe_rtt(&mut self, rs: &Sample) {
        self.min_rtt.limited_until = self.delivered + self.in_flight;
        if self.min_rtt.done_at.is_none() {
            if self.in_flight <= self.probe_rtt_cwnd() {
                self.min_rtt.done_at = Some(rs.now + PROBE_RTT_DURATION);
                self.min_rtt.round_done = false;
                self.start_round();
            }
            return;
        }
        self.min_rtt.round_done |= self.round.start;
        if self.min_rtt.round_done {
            self.check_probe_rtt_done(rs.now);
        }
    }

    pub(super) fn check_probe_rtt_done(&mut self, now: Instant) {
        if self.min_rtt.done_at.is_none_or(|at| now <= at) {
            return;
        }
        self.min_rtt.probe_stamp = now;
        self.restore_cwnd();
        self.reset_short_term_model();
        if self.full_pipe.reached {
            // In flight is below the bandwidth-delay product already: there is nothing to bring down.
            self.start_probe_bw_down(now);
            self.state = State::ProbeBwCruise;
        } else {
            self.enter_startup();
        }
    }
}
