//! NewReno as RFC 9002 section 7.3 has it.

use super::{AckSample, LossSample, initial_window, is_window_limited, minimum_window};
use crate::time::Instant;

/// NewReno.
#[derive(Clone, Debug)]
pub struct NewReno {
    mtu: u16,
    window: u64,
    threshold: u64,
    /// Bytes acknowledged towards the next step of the window.
    acked: u64,
    recovery_start: Option<Instant>,
}

impl NewReno {
    pub(super) fn new(mtu: u16) -> Self {
        Self { mtu, window: initial_window(mtu), threshold: u64::MAX, acked: 0, recovery_start: None }
    }

    #[inline]
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    #[inline]
    pub(super) fn in_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    #[inline]
    fn is_before_recovery(&self, sent_at: Instant) -> bool {
        self.recovery_start.is_some_and(|start| sent_at <= start)
    }

    #[inline]
    pub(super) fn on_ack(&mut self, s: &AckSample) {
        let slow_start = self.in_slow_start();
        let limited = is_window_limited(s.in_flight_before, self.window, self.mtu, slow_start);
        if self.is_before_recovery(s.newest_sent_at) || !limited {
            return;
        }
        if slow_start {
            self.window = self.window.saturating_add(s.acked_bytes);
            return;
        }
        self.acked += s.acked_bytes;
        if self.acked >= self.window {
            self.acked -= self.window;
            self.window += u64::from(self.mtu);
        }
    }

    pub(super) fn on_congestion(&mut self, s: &LossSample) {
        if !self.is_before_recovery(s.newest_sent_at) {
            self.recovery_start = Some(s.now);
            self.window = (self.window / 2).max(minimum_window(self.mtu));
            self.threshold = self.window;
            self.acked = 0;
        }
        if s.persistent {
            self.window = minimum_window(self.mtu);
            self.recovery_start = None;
        }
    }

    pub(super) fn on_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
        self.window = self.window.max(minimum_window(mtu));
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::recovery::rate::RateSample;

    fn ack(now: u64, in_flight: u64, bytes: u64) -> AckSample {
        AckSample {
            now: Instant::from_nanos(now),
            in_flight_before: in_flight,
            acked_bytes: bytes,
            newest_sent_at: Instant::from_nanos(now - 1),
            rtt: None,
            smoothed_rtt: Duration::from_millis(10),
            rate: RateSample::default(),
        }
    }

    #[test]
    fn doubles_then_grows_by_a_packet_per_window() {
        let mut c = NewReno::new(1200);
        c.on_ack(&ack(10, 5_000, 2_400));
        assert_eq!(c.window(), 12_000, "not limited by the window");
        c.on_ack(&ack(10, 12_000, 12_000));
        assert_eq!(c.window(), 24_000);
        let lost_at = Instant::from_nanos(20);
        c.on_congestion(&LossSample { now: lost_at, lost_packets: 1, newest_sent_at: lost_at, persistent: false });
        assert_eq!(c.window(), 12_000);
        c.on_ack(&ack(20, 12_000, 12_000));
        assert_eq!(c.window(), 12_000, "sent before the recovery");
        c.on_ack(&ack(30, 12_000, 6_000));
        c.on_ack(&ack(31, 12_000, 6_000));
        assert_eq!(c.window(), 13_200);
    }
}
