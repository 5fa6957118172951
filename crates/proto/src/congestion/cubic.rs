//! CUBIC (RFC 9438) with HyStart++.

use core::time::Duration;

use super::hystart::{HyStart, Verdict};
use super::{AckSample, LossSample, Window};
use crate::time::Instant;

/// The window keeps this much of itself after a loss (section 4.6).
const BETA: f64 = 0.7;
/// Aggressiveness, in packets per second cubed (section 5.1).
const C: f64 = 0.4;
/// Growth of the Reno-friendly estimate, packets per window acknowledged (section 4.3).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// The controller.
#[derive(Debug)]
pub struct Cubic {
    pub(super) window: Window,
    hystart: HyStart,
    epoch: Option<Epoch>,
    /// The window, in packets, at the last reduction; where the curve is flat.
    w_max: f64,
    /// What the last reduction changed, while it may turn out to have been for nothing.
    undo: Option<Undo>,
    /// When the sender last stopped for want of data: that time does not count.
    idle_since: Option<Instant>,
}

/// A stage of congestion avoidance, from one reduction to the next.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    start: Instant,
    /// Seconds from `start` to the flat of the curve.
    k: f64,
    /// What Reno would have by now, in packets.
    w_est: f64,
    /// Part of a packet that the window has earned.
    credit: f64,
}

#[derive(Clone, Copy, Debug)]
struct Undo {
    cwnd: u64,
    ssthresh: u64,
    w_max: f64,
    epoch: Option<Epoch>,
}

impl Cubic {
    pub(super) fn new(mtu: u16) -> Self {
        Self {
            window: Window::new(mtu),
            hystart: HyStart::default(),
            epoch: None,
            w_max: 0.0,
            undo: None,
            idle_since: None,
        }
    }

    #[inline]
    pub(super) fn on_sent(&mut self, now: Instant, _bytes: u64, in_flight: u64) {
        if in_flight > 0 {
            return;
        }
        // Section 5.8: the curve stands still while there is nothing to send.
        if let (Some(since), Some(epoch)) = (self.idle_since.take(), &mut self.epoch) {
            epoch.start += now - since;
        }
    }

    pub(super) fn on_ack(&mut self, sample: &AckSample) {
        if sample.acked_bytes >= sample.in_flight_before {
            self.idle_since = Some(sample.now);
        }
        if self.window.in_recovery(sample.newest_sent_at) {
            return;
        }
        let slow_start = self.window.in_slow_start();
        if slow_start {
            let verdict = self.hystart.on_ack(sample.now, sample.newest_sent_at, sample.latest_rtt, sample.acked_bytes);
            match verdict {
                Verdict::Exit => self.window.ssthresh = self.window.cwnd,
                Verdict::Grow(bytes) if self.window.is_limiting(sample.in_flight_before) => self.window.cwnd += bytes,
                Verdict::Grow(_) => {}
            }
            return;
        }
        if self.window.is_limiting(sample.in_flight_before) {
            self.avoid_congestion(sample);
        }
    }

    fn avoid_congestion(&mut self, sample: &AckSample) {
        let mtu = self.window.mtu as f64;
        let cwnd = self.window.cwnd as f64 / mtu;
        let w_max = self.w_max;
        let epoch = self.epoch.get_or_insert_with(|| {
            let k = if w_max > cwnd { ((w_max - cwnd) / C).cbrt() } else { 0.0 };
            Epoch { start: sample.now, k, w_est: cwnd, credit: 0.0 }
        });
        let origin = w_max.max(if epoch.k == 0.0 { epoch.w_est.min(cwnd) } else { w_max });
        let t = (sample.now - epoch.start).as_secs_f64() - epoch.k;
        let acked = sample.acked_bytes as f64 / mtu;
        // Section 4.3: no slower than Reno would be; as fast once the estimate passes the old maximum.
        epoch.w_est += if epoch.w_est < w_max { ALPHA } else { 1.0 } * acked / cwnd;
        let now_on_curve = C * t * t * t + origin;
        if now_on_curve < epoch.w_est {
            self.window.cwnd = self.window.cwnd.max((epoch.w_est * mtu) as u64);
            return;
        }
        // Section 4.4: towards where the curve is a round trip from now, by at most half a window.
        let t = t + sample.smoothed_rtt.as_secs_f64();
        let target = (C * t * t * t + origin).clamp(cwnd, cwnd * 1.5);
        epoch.credit += (target - cwnd) / cwnd * acked;
        let whole = epoch.credit * mtu;
        if whole >= 1.0 {
            self.window.cwnd += whole as u64;
            epoch.credit = 0.0;
        }
    }

    pub(super) fn on_congestion(&mut self, sample: &LossSample) {
        if !self.window.in_recovery(sample.newest_sent_at) {
            let w = &mut self.window;
            self.undo = Some(Undo { cwnd: w.cwnd, ssthresh: w.ssthresh, w_max: self.w_max, epoch: self.epoch });
            let cwnd = w.cwnd as f64 / w.mtu as f64;
            // Section 4.7: a flow that did not reach its last maximum leaves room for a new one.
            self.w_max = if cwnd < self.w_max { cwnd * (1.0 + BETA) / 2.0 } else { cwnd };
            w.recovery_start = Some(sample.now);
            w.ssthresh = ((w.cwnd as f64 * BETA) as u64).max(w.minimum());
            w.cwnd = w.ssthresh;
            self.epoch = None;
        }
        if sample.persistent {
            self.window.cwnd = self.window.minimum();
            self.window.recovery_start = None;
            self.w_max = 0.0;
            self.epoch = None;
            self.undo = None;
            self.hystart = HyStart::default();
        }
    }

    /// Section 4.9: what was reduced for a loss that was none comes back.
    pub(super) fn on_spurious_loss(&mut self, now: Instant) {
        let Some(undo) = self.undo.take() else { return };
        // Late news of an episode that is long over changes nothing.
        let recent = self.window.recovery_start.is_some_and(|start| now - start < Duration::from_secs(1));
        if recent && undo.cwnd > self.window.cwnd {
            self.window.cwnd = undo.cwnd;
            self.window.ssthresh = undo.ssthresh;
            self.w_max = undo.w_max;
            self.epoch = undo.epoch;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn ack(c: &mut Cubic, ms: u64, bytes: u64) {
        let in_flight_before = c.window.cwnd;
        let newest_sent_at = at(ms).checked_sub(RTT).unwrap_or_default();
        let sample = AckSample {
            now: at(ms),
            acked_bytes: bytes,
            in_flight_before,
            newest_sent_at,
            latest_rtt: RTT,
            smoothed_rtt: RTT,
        };
        c.on_ack(&sample);
    }

    /// A controller whose window was 100 packets when it lost one at 1 s.
    fn reduced() -> Cubic {
        let mut c = Cubic::new(1000);
        c.window.cwnd = 100_000;
        c.on_congestion(&LossSample { now: at(1_000), newest_sent_at: at(990), persistent: false });
        c
    }

    #[test]
    fn follows_the_curve_of_the_specification() {
        let mut c = reduced();
        assert_eq!(c.window.cwnd, 70_000);
        // K = cbrt((100 - 70) / 0.4) = 4.22 s: the old window is reached then, slowly; half of the way long before.
        let mut at_half = 0;
        for tick in 0..6_000u64 {
            let ms = 1_101 + tick;
            let per_ms = c.window.cwnd / 100;
            ack(&mut c, ms, per_ms);
            if tick == 2_100 {
                at_half = c.window.cwnd;
            }
            if tick == 4_220 {
                assert!((97_000..103_000).contains(&c.window.cwnd), "{}", c.window.cwnd);
            }
        }
        assert!((94_000..99_000).contains(&at_half), "{at_half}");
        assert!(c.window.cwnd > 101_000, "beyond the old maximum it probes for more");
    }

    #[test]
    fn a_second_loss_below_the_maximum_makes_room() {
        let mut c = reduced();
        c.on_congestion(&LossSample { now: at(2_000), newest_sent_at: at(1_900), persistent: false });
        assert_eq!(c.window.cwnd, 49_000);
        assert!((c.w_max - 59.5).abs() < 0.01);
    }

    #[test]
    fn a_spurious_loss_is_undone() {
        let mut c = reduced();
        c.on_spurious_loss(at(1_200));
        assert_eq!((c.window.cwnd, c.window.in_slow_start()), (100_000, true));
    }

    #[test]
    fn persistent_congestion_starts_over() {
        let mut c = reduced();
        c.on_congestion(&LossSample { now: at(9_000), newest_sent_at: at(8_000), persistent: true });
        assert_eq!(c.window.cwnd, 2_000);
        assert!(c.window.in_slow_start());
    }
}
