//! Pacing: sending no faster than a rate, in trains (RFC 9002 section 7.7).

use core::time::Duration;

use crate::time::Instant;

const NANOS: i64 = 1_000_000_000;
/// Packets that may always go at once: the initial window.
const BURST_PACKETS: u64 = 10;
/// Largest burst in bytes.
const BURST_MAX: u64 = 256 * 1024;
/// A burst is what the rate passes in this many milliseconds, within the bounds above.
const BURST_MILLIS: u64 = 2;
/// Bytes worth waking up for: one full GSO train.
const TRAIN: u64 = 64 * 1024;

/// A token bucket. Credit is counted in bytes times nanoseconds, which at a whole number of bytes per second leaves
/// nothing to round.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    credit: i64,
    refilled_at: Option<Instant>,
}

#[inline]
fn burst(rate: u64, mtu: u16) -> u64 {
    (rate.saturating_mul(BURST_MILLIS) / 1_000).min(BURST_MAX).max(BURST_PACKETS * u64::from(mtu))
}

#[inline]
fn scaled(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(NANOS)
}

impl Pacer {
    /// A pacer that lets a first burst of ten packets of `mtu` bytes go at once.
    pub fn new(mtu: u16) -> Self {
        Self { credit: scaled(BURST_PACKETS * u64::from(mtu)), refilled_at: None }
    }

    /// Bytes that may be sent now at `rate` bytes per second.
    #[inline]
    pub fn allow(&mut self, now: Instant, rate: u64, mtu: u16) -> usize {
        let elapsed = self.refilled_at.map_or(Duration::ZERO, |at| now - at);
        if self.refilled_at.is_none_or(|at| now > at) {
            self.refilled_at = Some(now);
        }
        let elapsed = i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX);
        let gained = elapsed.saturating_mul(i64::try_from(rate).unwrap_or(i64::MAX));
        self.credit = self.credit.saturating_add(gained).min(scaled(burst(rate, mtu)));
        usize::try_from(self.credit / NANOS).unwrap_or(0)
    }

    /// `len` bytes were sent. More than was allowed is a debt, paid before anything else goes.
    #[inline]
    pub fn on_sent(&mut self, len: usize) {
        self.credit = self.credit.saturating_sub(scaled(len as u64));
    }

    /// When a train is worth waking up for: half a burst, a full train of 64 KiB, or at least one packet. `None` when
    /// as much may go already.
    #[inline]
    pub fn next_release(&mut self, now: Instant, rate: u64, mtu: u16) -> Option<Instant> {
        self.allow(now, rate, mtu);
        let target = (burst(rate, mtu) / 2).min(TRAIN).max(u64::from(mtu));
        let missing = u64::try_from(scaled(target).saturating_sub(self.credit)).ok().filter(|m| *m > 0)?;
        Some(now + Duration::from_nanos(missing.div_ceil(rate.max(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as fast as the pacer lets it for `seconds`; returns bytes sent after the first burst and the times woken
    /// up.
    fn drive(rate: u64, mtu: u16, seconds: u64) -> (u64, u64) {
        let mut pacer = Pacer::new(mtu);
        let end = seconds * 1_000_000_000;
        let mut now = Instant::default();
        let (mut sent, mut wakes) = (0u64, 0);
        while now.as_nanos() < end {
            let mut allowed = pacer.allow(now, rate, mtu);
            while allowed >= usize::from(mtu) {
                pacer.on_sent(usize::from(mtu));
                sent += u64::from(mtu);
                allowed -= usize::from(mtu);
            }
            now = pacer.next_release(now, rate, mtu).unwrap();
            wakes += 1;
        }
        (sent - BURST_PACKETS * u64::from(mtu), wakes)
    }

    #[test]
    fn exact_at_400_kbit() {
        let (sent, wakes) = drive(50_000, 1200, 100);
        assert!(sent.abs_diff(5_000_000) <= 6_000, "{sent}");
        assert!(wakes < 1_000);
    }

    #[test]
    fn exact_at_20_gbit() {
        let (sent, wakes) = drive(2_500_000_000, 1452, 1);
        assert!(sent.abs_diff(2_500_000_000) <= 2 * TRAIN, "{sent}");
        assert!(wakes < 45_000, "{wakes}");
    }

    #[test]
    fn idle_time_gives_one_burst_and_debt_is_paid() {
        let mut pacer = Pacer::new(1200);
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        assert_eq!(pacer.allow(at(0), 1_000_000, 1200), 12_000);
        assert_eq!(pacer.allow(at(60_000), 1_000_000, 1200), 12_000);
        pacer.on_sent(14_000);
        assert_eq!(pacer.allow(at(60_001), 1_000_000, 1200), 0);
        assert_eq!(pacer.next_release(at(60_001), 1_000_000, 1200), Some(at(60_008)));
        assert_eq!(pacer.allow(at(60_008), 1_000_000, 1200), 6_000);
        assert_eq!(pacer.next_release(at(60_008), 1_000_000, 1200), None);
        assert_eq!(Pacer::new(65_527).allow(at(0), u64::MAX, 65_527), 655_270);
    }
}
