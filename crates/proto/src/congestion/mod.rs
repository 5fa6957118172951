//! Congestion control: how much may be in flight, and how fast it leaves (RFC 9002 section 7).
//!
//! The controllers are a closed enum: no indirection on the packet path. They take numbers and give decisions, and
//! never see the connection.

mod cubic;
mod hystart;
mod newreno;

use core::time::Duration;

use self::cubic::Cubic;
use self::newreno::NewReno;
use crate::recovery::rtt::RttEstimator;
use crate::recovery::sent::{AckOutcome, LossOutcome};
use crate::time::Instant;

/// Packets in the initial window, bounded in bytes as RFC 9002 section 7.2 has it.
const INITIAL_PACKETS: u64 = 10;
const INITIAL_BYTES: u64 = 14_720;
/// Packets in the smallest window.
const MINIMUM_PACKETS: u64 = 2;

/// Which controller a connection uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CongestionAlgorithm {
    /// RFC 9002 section 7.
    NewReno,
    /// RFC 9438 with HyStart++ (RFC 9406).
    #[default]
    Cubic,
}

/// What an acknowledgement tells a controller.
#[derive(Clone, Copy, Debug)]
pub struct AckSample {
    /// When it arrived.
    pub now: Instant,
    /// Bytes newly acknowledged.
    pub acked_bytes: u64,
    /// Bytes in flight before it arrived.
    pub in_flight_before: u64,
    /// When the newest of the acknowledged packets was sent.
    pub newest_sent_at: Instant,
    /// The latest RTT, and the smoothed one.
    pub latest_rtt: Duration,
    /// The smoothed RTT.
    pub smoothed_rtt: Duration,
}

impl AckSample {
    /// From what acknowledgement processing found.
    pub fn new(now: Instant, in_flight_before: u64, rtt: &RttEstimator, outcome: &AckOutcome) -> Self {
        Self {
            now,
            acked_bytes: outcome.acked_bytes,
            in_flight_before,
            newest_sent_at: outcome.newest_sent_at,
            latest_rtt: rtt.latest(),
            smoothed_rtt: rtt.smoothed(),
        }
    }
}

/// What a loss tells a controller.
#[derive(Clone, Copy, Debug)]
pub struct LossSample {
    /// When it was found.
    pub now: Instant,
    /// When the newest of the lost packets was sent.
    pub newest_sent_at: Instant,
    /// Nothing arrived for so long that the path may have changed (RFC 9002 section 7.6).
    pub persistent: bool,
}

impl LossSample {
    /// From what loss detection found.
    pub fn new(now: Instant, outcome: &LossOutcome) -> Self {
        Self { now, newest_sent_at: outcome.largest_lost_sent_at, persistent: outcome.persistent }
    }
}

/// A congestion controller.
#[derive(Debug)]
pub enum Controller {
    /// NewReno.
    NewReno(NewReno),
    /// CUBIC.
    Cubic(Cubic),
}

/// The window and what every loss-based controller does with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) cwnd: u64,
    pub(crate) ssthresh: u64,
    pub(crate) mtu: u64,
    /// Packets sent before are part of the loss episode that was answered already.
    pub(crate) recovery_start: Option<Instant>,
}

impl Window {
    pub(crate) fn new(mtu: u16) -> Self {
        let mtu = u64::from(mtu);
        let cwnd = (INITIAL_PACKETS * mtu).min(INITIAL_BYTES.max(MINIMUM_PACKETS * mtu));
        Self { cwnd, ssthresh: u64::MAX, mtu, recovery_start: None }
    }

    pub(crate) fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    pub(crate) fn minimum(&self) -> u64 {
        MINIMUM_PACKETS * self.mtu
    }

    pub(crate) fn in_recovery(&self, sent_at: Instant) -> bool {
        self.recovery_start.is_some_and(|start| sent_at <= start)
    }

    /// The window grows only while it is what holds the sender back (RFC 9002 section 7.8). In slow start it doubles in a round, so
    /// half of it in flight means that it was used.
    pub(crate) fn is_limiting(&self, in_flight: u64) -> bool {
        if self.in_slow_start() { in_flight * 2 >= self.cwnd } else { in_flight + 3 * self.mtu >= self.cwnd }
    }
}

impl Controller {
    /// A controller for a new path.
    pub fn new(algorithm: CongestionAlgorithm, mtu: u16) -> Self {
        match algorithm {
            CongestionAlgorithm::NewReno => Self::NewReno(NewReno::new(mtu)),
            CongestionAlgorithm::Cubic => Self::Cubic(Cubic::new(mtu)),
        }
    }

    #[inline]
    fn state(&self) -> &Window {
        match self {
            Self::NewReno(c) => &c.window,
            Self::Cubic(c) => &c.window,
        }
    }

    /// Bytes that may be in flight.
    #[inline]
    pub fn window(&self) -> u64 {
        self.state().cwnd
    }

    /// The window below which slow start goes on.
    pub fn ssthresh(&self) -> u64 {
        self.state().ssthresh
    }

    /// True until the first sign of congestion.
    pub fn in_slow_start(&self) -> bool {
        self.state().in_slow_start()
    }

    /// Bytes per second to send at: the window spread over a round trip, with room for it to grow (RFC 9002 section 7.7).
    #[inline]
    pub fn pacing_rate(&self, smoothed_rtt: Duration) -> u64 {
        let window = self.state();
        let nanos = u128::from(smoothed_rtt.as_nanos().max(1) as u64);
        // 5/4 in congestion avoidance; in slow start the window doubles within the round.
        let (gain, over) = if window.in_slow_start() { (2, 1) } else { (5, 4) };
        let rate = u128::from(window.cwnd) * gain * 1_000_000_000 / (over * nanos);
        u64::try_from(rate).unwrap_or(u64::MAX).max(1)
    }

    /// A packet of `bytes` that counts as in flight was sent, with `in_flight` bytes before it.
    #[inline]
    pub fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64) {
        if let Self::Cubic(cubic) = self {
            cubic.on_sent(now, bytes, in_flight);
        }
    }

    /// Packets were acknowledged.
    #[inline]
    pub fn on_ack(&mut self, sample: &AckSample) {
        match self {
            Self::NewReno(c) => c.on_ack(sample),
            Self::Cubic(c) => c.on_ack(sample),
        }
    }

    /// Packets were lost. Losses of one round trip count once.
    pub fn on_congestion(&mut self, sample: &LossSample) {
        match self {
            Self::NewReno(c) => c.on_congestion(sample),
            Self::Cubic(c) => c.on_congestion(sample),
        }
    }

    /// The peer reports `marks` more packets marked CE, the newest sent at `sent_at`: as a loss (RFC 9002 section 7.1).
    pub fn on_ecn_ce(&mut self, now: Instant, marks: u64, sent_at: Instant) {
        if marks > 0 {
            self.on_congestion(&LossSample { now, newest_sent_at: sent_at, persistent: false });
        }
    }

    /// A packet that had been declared lost was acknowledged after all.
    pub fn on_spurious_loss(&mut self, now: Instant) {
        if let Self::Cubic(cubic) = self {
            cubic.on_spurious_loss(now);
        }
    }

    /// The path carries packets of another size.
    pub fn on_mtu(&mut self, mtu: u16) {
        let window = match self {
            Self::NewReno(c) => &mut c.window,
            Self::Cubic(c) => &mut c.window,
        };
        window.mtu = u64::from(mtu);
        window.cwnd = window.cwnd.max(window.minimum());
    }
}
