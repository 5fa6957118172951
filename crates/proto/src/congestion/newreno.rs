//! NewReno (RFC 9002 section 7.3).

use super::{AckSample, LossSample, Window};

/// The controller of RFC 9002 itself.
#[derive(Debug)]
pub struct NewReno {
    pub(super) window: Window,
    /// Bytes acknowledged towards the next packet's worth of growth.
    acked: u64,
}

impl NewReno {
    pub(super) fn new(mtu: u16) -> Self {
        Self { window: Window::new(mtu), acked: 0 }
    }

    pub(super) fn on_ack(&mut self, sample: &AckSample) {
        let w = &mut self.window;
        if w.in_recovery(sample.newest_sent_at) || !w.is_limiting(sample.in_flight_before) {
            return;
        }
        if w.in_slow_start() {
            w.cwnd += sample.acked_bytes;
            return;
        }
        // One packet a round trip.
        self.acked += sample.acked_bytes;
        while self.acked >= w.cwnd {
            self.acked -= w.cwnd;
            w.cwnd += w.mtu;
        }
    }

    pub(super) fn on_congestion(&mut self, sample: &LossSample) {
        let w = &mut self.window;
        if !w.in_recovery(sample.newest_sent_at) {
            w.recovery_start = Some(sample.now);
            w.ssthresh = (w.cwnd / 2).max(w.minimum());
            w.cwnd = w.ssthresh;
            self.acked = 0;
        }
        if sample.persistent {
            w.cwnd = w.minimum();
            w.recovery_start = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::time::Instant;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn ack(ms: u64, bytes: u64, in_flight: u64) -> AckSample {
        let rtt = Duration::from_millis(10);
        AckSample {
            now: at(ms),
            acked_bytes: bytes,
            in_flight_before: in_flight,
            newest_sent_at: at(ms - 10),
            latest_rtt: rtt,
            smoothed_rtt: rtt,
        }
    }

    #[test]
    fn doubles_then_halves_once_a_round_then_grows_by_a_packet() {
        let mut c = NewReno::new(1000);
        assert_eq!(c.window.cwnd, 10_000);
        c.on_ack(&ack(20, 10_000, 10_000));
        assert_eq!(c.window.cwnd, 20_000);
        let loss = |now, sent| LossSample { now: at(now), newest_sent_at: at(sent), persistent: false };
        c.on_congestion(&loss(30, 20));
        c.on_congestion(&loss(31, 25));
        assert_eq!(c.window.cwnd, 10_000);
        c.on_ack(&ack(50, 10_000, 10_000));
        assert_eq!(c.window.cwnd, 11_000);
        c.on_ack(&ack(60, 11_000, 1_000));
        assert_eq!(c.window.cwnd, 11_000, "an idle sender does not grow its window");
    }
}
