//! Congestion control (RFC 9002 section 7): how much may be in flight, and how fast it may go.

mod cubic;
mod hystart;
mod newreno;

use core::time::Duration;

use cubic::Cubic;
use newreno::NewReno;

use crate::recovery::rate::RateSample;
use crate::recovery::rtt::RttEstimator;
use crate::recovery::sent::{AckOutcome, LossOutcome};
use crate::time::Instant;

/// Which congestion controller a connection uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CongestionAlgorithm {
    /// NewReno (RFC 9002 section 7.3).
    NewReno,
    /// CUBIC with HyStart++ (RFC 9438, RFC 9406).
    #[default]
    Cubic,
}

/// What an acknowledgement tells a controller.
#[derive(Clone, Copy, Debug)]
pub struct AckSample {
    now: Instant,
    in_flight_before: u64,
    acked_bytes: u64,
    newest_sent_at: Instant,
    rtt: Option<Duration>,
    smoothed_rtt: Duration,
    rate: RateSample,
}

impl AckSample {
    /// The sample of an acknowledgement that came at `now`, when `in_flight_before` bytes were in flight.
    #[inline]
    pub fn new(now: Instant, in_flight_before: u64, rtt: &RttEstimator, outcome: &AckOutcome) -> Self {
        Self {
            now,
            in_flight_before,
            acked_bytes: outcome.acked_bytes,
            newest_sent_at: outcome.newest_sent_at,
            rtt: outcome.largest_sent_at.filter(|_| outcome.includes_ack_eliciting).map(|at| now - at),
            smoothed_rtt: rtt.smoothed(),
            rate: outcome.rate,
        }
    }

    /// The delivery rate that goes with it.
    #[inline]
    pub fn rate(&self) -> RateSample {
        self.rate
    }
}

/// What a loss tells a controller.
#[derive(Clone, Copy, Debug)]
pub struct LossSample {
    now: Instant,
    lost_packets: u32,
    newest_sent_at: Instant,
    persistent: bool,
}

impl LossSample {
    /// The sample of a loss noticed at `now`.
    #[inline]
    pub fn new(now: Instant, outcome: &LossOutcome) -> Self {
        Self {
            now,
            lost_packets: outcome.lost_packets,
            newest_sent_at: outcome.largest_lost_sent_at,
            persistent: outcome.persistent,
        }
    }
}

/// The congestion controller of one path.
#[derive(Clone, Debug)]
pub enum Controller {
    /// NewReno.
    NewReno(NewReno),
    /// CUBIC.
    Cubic(Cubic),
}

macro_rules! each {
    ($self:expr, $c:ident => $body:expr) => {
        match $self {
            Controller::NewReno($c) => $body,
            Controller::Cubic($c) => $body,
        }
    };
}

impl Controller {
    /// A controller with the initial window for packets of `mtu` bytes.
    pub fn new(algorithm: CongestionAlgorithm, mtu: u16) -> Self {
        match algorithm {
            CongestionAlgorithm::NewReno => Self::NewReno(NewReno::new(mtu)),
            CongestionAlgorithm::Cubic => Self::Cubic(Cubic::new(mtu)),
        }
    }

    /// Bytes that may be in flight.
    #[inline]
    pub fn window(&self) -> u64 {
        each!(self, c => c.window())
    }

    /// True while the window doubles per round trip.
    #[inline]
    pub fn in_slow_start(&self) -> bool {
        each!(self, c => c.in_slow_start())
    }

    /// Bytes per second to send at: above the window per round trip, so that the window stays the limit. Never 0.
    #[inline]
    pub fn pacing_rate(&self, srtt: Duration) -> u64 {
        let (numerator, denominator) = if self.in_slow_start() { (2, 1) } else { (5, 4) };
        let nanos = u64::try_from(srtt.as_nanos()).unwrap_or(u64::MAX).max(1_000);
        let rate = u128::from(self.window()) * 1_000_000_000 * numerator / (u128::from(nanos) * denominator);
        u64::try_from(rate).unwrap_or(u64::MAX).max(1)
    }

    /// `_bytes` are sent while `in_flight` are in flight.
    #[inline]
    pub fn on_sent(&mut self, _now: Instant, _bytes: u64, in_flight: u64) {
        if let Self::Cubic(c) = self {
            c.on_sent(in_flight);
        }
    }

    /// Bytes in flight were acknowledged.
    #[inline]
    pub fn on_ack(&mut self, sample: &AckSample) {
        each!(self, c => c.on_ack(sample));
    }

    /// Bytes in flight were lost. The window is reduced once per round trip, and brought down to its minimum by
    /// persistent congestion.
    pub fn on_congestion(&mut self, sample: &LossSample) {
        each!(self, c => c.on_congestion(sample));
    }

    /// The peer reports `_marks` more congestion marks; the newest packet acknowledged with them was sent at `sent_at`.
    /// Counts as one loss in that round trip (RFC 9002 section 7.1).
    pub fn on_ecn_ce(&mut self, now: Instant, _marks: u64, sent_at: Instant) {
        let sample = LossSample { now, lost_packets: u32::MAX, newest_sent_at: sent_at, persistent: false };
        self.on_congestion(&sample);
    }

    /// `packets` packets that had been declared lost were acknowledged. When that makes the last reduction baseless as
    /// a whole, it is taken back (RFC 9438 section 4.9).
    pub fn on_spurious_loss(&mut self, _now: Instant, packets: u32) {
        if let Self::Cubic(c) = self {
            c.on_spurious_loss(packets);
        }
    }

    /// Packets are `mtu` bytes from now on.
    pub fn on_mtu(&mut self, mtu: u16) {
        each!(self, c => c.on_mtu(mtu));
    }
}

/// The initial window (RFC 9002 section 7.2).
fn initial_window(mtu: u16) -> u64 {
    let mtu = u64::from(mtu);
    (10 * mtu).min((2 * mtu).max(14_720))
}

/// The least window (RFC 9002 section 7.2).
fn minimum_window(mtu: u16) -> u64 {
    2 * u64::from(mtu)
}

/// True when the window was what limited the sender (RFC 9002 section 7.8). Pacing and acknowledgements of many packets
/// at once keep a sender with enough to send somewhat below its window.
#[inline]
fn is_window_limited(in_flight: u64, window: u64, mtu: u16, slow_start: bool) -> bool {
    if slow_start {
        return in_flight >= window / 2;
    }
    let slack = 3 * u64::from(mtu) + (window / 8).min(64 * 1024);
    in_flight.saturating_add(slack) >= window
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_windows_of_rfc_9002() {
        assert_eq!(Controller::new(CongestionAlgorithm::default(), 1200).window(), 12_000);
        assert_eq!(Controller::new(CongestionAlgorithm::NewReno, 1472).window(), 14_720);
        assert_eq!(Controller::new(CongestionAlgorithm::NewReno, 1500).window(), 14_720);
        assert_eq!(Controller::new(CongestionAlgorithm::Cubic, 9000).window(), 18_000);
    }

    #[test]
    fn pacing_rate_follows_the_window() {
        for algorithm in [CongestionAlgorithm::NewReno, CongestionAlgorithm::Cubic] {
            let mut c = Controller::new(algorithm, 1200);
            assert_eq!(c.pacing_rate(Duration::from_millis(100)), 240_000);
            let at = Instant::from_nanos(5);
            c.on_ecn_ce(at, 1, at);
            assert!(!c.in_slow_start());
            assert_eq!(c.pacing_rate(Duration::from_secs(1)), c.window() * 5 / 4);
            assert!(c.pacing_rate(Duration::MAX) >= 1);
            assert!(c.pacing_rate(Duration::ZERO) > 1_000_000);
        }
    }

    #[test]
    fn one_reduction_per_round_and_persistent_congestion() {
        for algorithm in [CongestionAlgorithm::NewReno, CongestionAlgorithm::Cubic] {
            let mut c = Controller::new(algorithm, 1200);
            let at = Instant::from_nanos;
            let loss = |now, sent, persistent| LossSample {
                now: at(now),
                lost_packets: 3,
                newest_sent_at: at(sent),
                persistent,
            };
            c.on_congestion(&loss(100, 50, false));
            let reduced = c.window();
            assert!(reduced < 12_000);
            c.on_congestion(&loss(120, 99, false));
            assert_eq!(c.window(), reduced);
            c.on_congestion(&loss(220, 101, false));
            assert!(c.window() < reduced);
            c.on_congestion(&loss(230, 110, true));
            assert_eq!(c.window(), 2_400);
        }
    }
}
