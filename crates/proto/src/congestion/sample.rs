//! What a controller is told.

use core::time::Duration;

use crate::recovery::rate::RateSample;
use crate::recovery::rtt::RttEstimator;
use crate::recovery::sent::{AckOutcome, LossOutcome};
use crate::time::Instant;

/// One ACK frame that acknowledged bytes in flight.
#[derive(Clone, Copy, Debug)]
pub struct AckSample {
    /// When it arrived.
    pub now: Instant,
    /// Bytes that it took out of flight.
    pub acked_bytes: u64,
    /// Bytes in flight on the connection before it.
    pub in_flight_before: u64,
    /// When the newest of the packets that it acknowledged was sent.
    pub newest_sent_at: Instant,
    /// The smoothed round-trip time.
    pub smoothed_rtt: Duration,
    /// The least round-trip time seen on the path.
    pub min_rtt: Duration,
    /// The latest sample of the estimator.
    pub latest_rtt: Duration,
    /// The delivery rate. Its `app_limited` tells that the newest packet was sent in a round trip in which the
    /// application, or the peer's flow control, left the window unused.
    pub rate: RateSample,
}

impl AckSample {
    /// Of an ACK frame's `outcome`, with `in_flight_before` bytes in flight before it was taken; `rtt` is updated
    /// already.
    #[inline]
    pub fn new(now: Instant, in_flight_before: u64, rtt: &RttEstimator, outcome: &AckOutcome) -> Self {
        Self {
            now,
            acked_bytes: outcome.acked_bytes,
            in_flight_before,
            newest_sent_at: outcome.newest_sent_at,
            smoothed_rtt: rtt.smoothed(),
            min_rtt: rtt.min(),
            latest_rtt: rtt.latest(),
            rate: outcome.rate,
        }
    }

    /// Bytes in flight after it.
    #[inline]
    pub fn in_flight(&self) -> u64 {
        self.in_flight_before.saturating_sub(self.acked_bytes)
    }

    /// How long the newest packet took, with whatever the peer held its acknowledgement back for.
    #[inline]
    pub fn newest_rtt(&self) -> Duration {
        self.now - self.newest_sent_at
    }
}

/// Packets were declared lost.
#[derive(Clone, Copy, Debug)]
pub struct LossSample {
    /// When that was.
    pub now: Instant,
    /// Bytes of them.
    pub lost_bytes: u64,
    /// When the newest of them was sent.
    pub largest_lost_sent_at: Instant,
    /// They show persistent congestion (RFC 9002 section 7.6).
    pub persistent: bool,
}

impl LossSample {
    /// Of the `outcome` of loss detection.
    #[inline]
    pub fn new(now: Instant, outcome: &LossOutcome) -> Self {
        Self {
            now,
            lost_bytes: outcome.lost_bytes,
            largest_lost_sent_at: outcome.largest_lost_sent_at,
            persistent: outcome.persistent,
        }
    }
}
