//! Round-trip time estimation (RFC 9002 section 5).

use core::time::Duration;

use crate::time::Instant;

/// The timer granularity that RFC 9002 section 6.1.2 recommends.
pub const GRANULARITY: Duration = Duration::from_millis(1);

/// `max_ack_delay` that the persistent congestion period assumes: the default of RFC 9000 section 18.2.
const ASSUMED_ACK_DELAY: Duration = Duration::from_millis(25);

/// `kPersistentCongestionThreshold` of RFC 9002 section 7.6.1.
const PERSISTENT_THRESHOLD: u32 = 3;

/// Smoothed round-trip time of one path. Times are kept in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct RttEstimator {
    latest: u64,
    min: u64,
    smoothed: u64,
    var: u64,
    first_sample_at: Option<Instant>,
}

#[inline]
fn nanos(d: Duration) -> u64 {
    d.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(d.subsec_nanos()))
}

impl RttEstimator {
    /// An estimator that assumes `initial_rtt` until the first sample (RFC 9002 section 6.2.2).
    pub fn new(initial_rtt: Duration) -> Self {
        let initial = nanos(initial_rtt);
        Self { latest: initial, min: initial, smoothed: initial, var: initial / 2, first_sample_at: None }
    }

    /// Takes a sample: `latest` since the packet was sent, of which the peer says it held the acknowledgement back for
    /// `ack_delay`. `max_ack_delay` is given once the handshake is confirmed; it caps that claim (RFC 9002 section
    /// 5.3).
    #[inline]
    pub fn update(&mut self, now: Instant, latest: Duration, ack_delay: Duration, max_ack_delay: Option<Duration>) {
        let latest = nanos(latest);
        self.latest = latest;
        if self.first_sample_at.is_none() {
            self.first_sample_at = Some(now);
            self.min = latest;
            self.smoothed = latest;
            self.var = latest / 2;
            return;
        }
        self.min = self.min.min(latest);
        let delay = nanos(max_ack_delay.map_or(ack_delay, |max| ack_delay.min(max)));
        let adjusted = if latest >= self.min.saturating_add(delay) { latest - delay } else { latest };
        self.var = self.var - self.var / 4 + self.smoothed.abs_diff(adjusted) / 4;
        self.smoothed = self.smoothed - self.smoothed / 8 + adjusted / 8;
    }

    /// The smoothed round-trip time.
    #[inline]
    pub fn smoothed(&self) -> Duration {
        Duration::from_nanos(self.smoothed)
    }

    /// The least round-trip time seen; the initial one before the first sample.
    #[inline]
    pub fn min(&self) -> Duration {
        Duration::from_nanos(self.min)
    }

    /// The latest sample; the initial round-trip time before the first.
    #[inline]
    pub fn latest(&self) -> Duration {
        Duration::from_nanos(self.latest)
    }

    /// The mean deviation.
    #[inline]
    pub fn var(&self) -> Duration {
        Duration::from_nanos(self.var)
    }

    /// True once anything was measured.
    #[inline]
    pub fn has_sample(&self) -> bool {
        self.first_sample_at.is_some()
    }

    /// When the first sample was taken.
    #[inline]
    pub fn first_sample_at(&self) -> Option<Instant> {
        self.first_sample_at
    }

    /// The probe timeout without the peer's `max_ack_delay` and without backoff (RFC 9002 section 6.2.1).
    #[inline]
    pub fn pto_base(&self) -> Duration {
        let var = self.var.saturating_mul(4).max(nanos(GRANULARITY));
        Duration::from_nanos(self.smoothed.saturating_add(var))
    }

    /// How long a packet may stay unacknowledged once a later one was acknowledged (RFC 9002 section 6.1.2).
    #[inline]
    pub fn loss_delay(&self) -> Duration {
        let rtt = self.latest.max(self.smoothed);
        Duration::from_nanos(rtt.saturating_add(rtt / 8)).max(GRANULARITY)
    }

    /// How long everything must be lost to count as persistent congestion (RFC 9002 section 7.6.1).
    #[inline]
    pub fn persistent_congestion_period(&self) -> Duration {
        self.pto_base().saturating_add(ASSUMED_ACK_DELAY).saturating_mul(PERSISTENT_THRESHOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn first_sample_replaces_the_guess() {
        let mut rtt = RttEstimator::new(MS(333));
        assert!(!rtt.has_sample());
        assert_eq!(rtt.pto_base(), Duration::from_micros(333_000 + 4 * 166_500));
        rtt.update(Instant::from_nanos(9), MS(100), MS(50), None);
        assert_eq!((rtt.smoothed(), rtt.var(), rtt.min(), rtt.latest()), (MS(100), MS(50), MS(100), MS(100)));
        assert_eq!(rtt.first_sample_at(), Some(Instant::from_nanos(9)));
        assert_eq!(rtt.pto_base(), MS(300));
        assert_eq!(rtt.persistent_congestion_period(), MS(975));
    }

    #[test]
    fn ack_delay_is_taken_off_and_capped() {
        let start = Instant::default();
        let mut rtt = RttEstimator::new(MS(333));
        rtt.update(start, MS(80), MS(0), None);
        rtt.update(start, MS(160), MS(40), Some(MS(25)));
        // Adjusted 135 ms: smoothed 7/8 * 80 + 135/8, deviation 3/4 * 40 + 55/4.
        assert_eq!(rtt.smoothed(), Duration::from_micros(86_875));
        assert_eq!(rtt.var(), Duration::from_micros(43_750));
        // A delay that would bring the sample below the minimum is not believed.
        rtt.update(start, MS(90), MS(40), None);
        assert_eq!(rtt.smoothed().as_micros(), 87_265);
        assert_eq!(rtt.loss_delay().as_micros(), 90_000 * 9 / 8);
    }

    #[test]
    fn timers_have_a_floor() {
        let mut rtt = RttEstimator::new(MS(1));
        for _ in 0..50 {
            rtt.update(Instant::default(), Duration::from_micros(20), MS(0), None);
        }
        assert_eq!(rtt.loss_delay(), GRANULARITY);
        assert!(rtt.pto_base() >= Duration::from_micros(1_015));
        rtt.update(Instant::default(), MS(3), Duration::from_micros(u64::MAX), None);
    }
}
