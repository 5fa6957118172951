//! CUBIC (RFC 9438) with HyStart++ in its first slow start.

use core::time::Duration;

use super::hystart::HyStart;
use super::{AckSample, LossSample, initial_window, is_window_limited, minimum_window};
use crate::time::Instant;

/// Window growth constant, in packets per second cubed (RFC 9438 section 5).
const C: f64 = 0.4;
/// Multiplicative decrease (section 4.6).
const BETA: f64 = 0.7;
/// Additive increase of the Reno-friendly window (section 4.3).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// Congestion avoidance since the last reduction.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    start: Instant,
    /// Seconds from `start` until the curve is back at its plateau.
    k: f64,
    /// The plateau, in bytes.
    plateau: f64,
    /// What Reno's window would be, in bytes.
    reno: f64,
}

/// What a reduction changed.
#[derive(Clone, Copy, Debug)]
struct Before {
    window: f64,
    threshold: f64,
    w_max: f64,
    prior: f64,
    epoch: Option<Epoch>,
    hystart: Option<HyStart>,
    /// Packets lost in that round trip and not acknowledged since.
    lost: u32,
}

/// CUBIC. Windows are in bytes, with fractions.
#[derive(Clone, Debug)]
pub struct Cubic {
    mtu: u16,
    window: f64,
    threshold: f64,
    /// The window at the last reduction, less with fast convergence.
    w_max: f64,
    /// The window right before the last reduction.
    prior: f64,
    epoch: Option<Epoch>,
    /// `None` once the first slow start is over.
    hystart: Option<HyStart>,
    recovery_start: Option<Instant>,
    /// Since when the window is not what limits the sender: the curve stands still.
    idle_since: Option<Instant>,
    last_ack_at: Instant,
    before: Option<Box<Before>>,
}

#[inline]
fn cubed(x: f64) -> f64 {
    x * x * x
}

impl Cubic {
    pub(super) fn new(mtu: u16) -> Self {
        Self {
            mtu,
            window: initial_window(mtu) as f64,
            threshold: f64::INFINITY,
            w_max: 0.0,
            prior: 0.0,
            epoch: None,
            hystart: Some(HyStart::new()),
            recovery_start: None,
            idle_since: None,
            last_ack_at: Instant::default(),
            before: None,
        }
    }

    #[inline]
    pub(super) fn window(&self) -> u64 {
        self.window as u64
    }

    #[inline]
    pub(super) fn in_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    #[inline]
    fn is_before_recovery(&self, sent_at: Instant) -> bool {
        self.recovery_start.is_some_and(|start| sent_at <= start)
    }

    /// After a pause the curve goes on where it stood (RFC 9438 section 5.8).
    #[inline]
    pub(super) fn on_sent(&mut self, in_flight: u64) {
        if in_flight == 0 && self.epoch.is_some() {
            self.idle_since.get_or_insert(self.last_ack_at);
        }
    }

    #[inline]
    pub(super) fn on_ack(&mut self, s: &AckSample) {
        self.last_ack_at = s.now;
        if self.is_before_recovery(s.newest_sent_at) {
            return;
        }
        let slow_start = self.in_slow_start();
        if !is_window_limited(s.in_flight_before, self.window(), self.mtu, slow_start) {
            self.idle_since.get_or_insert(s.now);
            return;
        }
        if slow_start { self.slow_start(s) } else { self.avoid(s) }
    }

    #[inline]
    fn slow_start(&mut self, s: &AckSample) {
        let grow = match &mut self.hystart {
            Some(hystart) => hystart.on_ack(s.now, s.newest_sent_at, s.rtt),
            None => Some(1),
        };
        match grow {
            Some(divisor) => self.window += (s.acked_bytes / divisor) as f64,
            None => {
                self.threshold = self.window;
                self.hystart = None;
            }
        }
    }

    /// Congestion avoidance (RFC 9438 sections 4.2 to 4.5).
    #[inline]
    fn avoid(&mut self, s: &AckSample) {
        let mtu = f64::from(self.mtu);
        let idle = self.idle_since.take().map_or(Duration::ZERO, |since| s.now - since);
        let (window, w_max) = (self.window, self.w_max);
        let epoch = self.epoch.get_or_insert_with(|| {
            let k = if window < w_max { ((w_max - window) / (C * mtu)).cbrt() } else { 0.0 };
            Epoch { start: s.now, k, plateau: w_max.max(window), reno: window }
        });
        if epoch.start < s.now {
            epoch.start += idle.min(s.now - epoch.start);
        }
        let acked = s.acked_bytes as f64;
        let t = (s.now - epoch.start).as_secs_f64();
        let curve = |t: f64| epoch.plateau + C * mtu * cubed(t - epoch.k);
        // Past the window before the reduction Reno's own increase of a packet per round trip is fair.
        let alpha = if epoch.reno >= self.prior { 1.0 } else { ALPHA };
        epoch.reno += alpha * mtu * acked / window;
        if curve(t) < epoch.reno {
            self.window = window.max(epoch.reno);
        } else {
            let target = curve(t + s.smoothed_rtt.as_secs_f64()).clamp(window, 1.5 * window);
            self.window += (target - window) * (acked / window).min(1.0);
        }
    }

    pub(super) fn on_congestion(&mut self, s: &LossSample) {
        if self.is_before_recovery(s.newest_sent_at) {
            if let Some(before) = &mut self.before {
                before.lost = before.lost.saturating_add(s.lost_packets);
            }
        } else {
            self.reduce(s);
        }
        if s.persistent {
            self.window = minimum_window(self.mtu) as f64;
            self.recovery_start = None;
            self.epoch = None;
            self.before = None;
        }
    }

    fn reduce(&mut self, s: &LossSample) {
        let before = Before {
            window: self.window,
            threshold: self.threshold,
            w_max: self.w_max,
            prior: self.prior,
            epoch: self.epoch,
            hystart: self.hystart,
            lost: s.lost_packets,
        };
        match &mut self.before {
            Some(kept) => **kept = before,
            None => self.before = Some(Box::new(before)),
        }
        // Fast convergence (section 4.7): a flow that did not get back to its plateau makes room.
        self.w_max = if self.window < self.w_max { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.prior = self.window;
        self.window = (self.window * BETA).max(minimum_window(self.mtu) as f64);
        self.threshold = self.window;
        self.epoch = None;
        self.hystart = None;
        self.idle_since = None;
        self.recovery_start = Some(s.now);
    }

    /// Takes the last reduction back once none of its losses is left (RFC 9438 section 4.9.2).
    pub(super) fn on_spurious_loss(&mut self, packets: u32) {
        let Some(before) = &mut self.before else { return };
        // Congestion marks are counted as more losses than there are packets.
        if before.lost != u32::MAX {
            before.lost = before.lost.saturating_sub(packets);
        }
        if before.lost > 0 {
            return;
        }
        if self.window < before.window {
            self.window = before.window;
            self.threshold = before.threshold;
            self.w_max = before.w_max;
            self.prior = before.prior;
            self.epoch = before.epoch;
            self.hystart = before.hystart;
        }
        self.recovery_start = None;
        self.before = None;
    }

    pub(super) fn on_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
        self.window = self.window.max(minimum_window(mtu) as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::rate::RateSample;

    const RTT: Duration = Duration::from_millis(100);
    const MTU: u64 = 1200;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn loss(now: u64, lost_packets: u32) -> LossSample {
        LossSample { now: at(now), lost_packets, newest_sent_at: at(now), persistent: false }
    }

    fn ack(c: &Cubic, now: u64, bytes: u64) -> AckSample {
        AckSample {
            now: at(now),
            in_flight_before: c.window(),
            acked_bytes: bytes,
            newest_sent_at: at(now - 50),
            rtt: Some(RTT),
            smoothed_rtt: RTT,
            rate: RateSample::default(),
        }
    }

    /// A controller with this window in packets, in congestion avoidance since 1 s.
    fn reduced_from(packets: u64) -> Cubic {
        let mut c = Cubic::new(MTU as u16);
        c.window = (packets * MTU) as f64;
        c.on_congestion(&loss(1_000, 4));
        c
    }

    /// Acknowledges a window per round trip in ten steps, from 1.1 s; returns the windows in packets.
    fn run(c: &mut Cubic, rounds: u64) -> Vec<f64> {
        let mut windows = Vec::new();
        for step in 0..rounds * 10 {
            let bytes = c.window() / 10;
            c.on_ack(&ack(c, 1_100 + step * 10, bytes));
            windows.push(c.window / MTU as f64);
        }
        windows
    }

    #[test]
    fn follows_the_curve_of_rfc_9438() {
        let mut c = reduced_from(1_000);
        assert_eq!(c.window(), 700 * MTU);
        let windows = run(&mut c, 200);
        // K = cbrt(1000 * 0.3 / 0.4) = 9.086 s.
        let k = c.epoch.unwrap().k;
        assert!((k - 9.086).abs() < 0.01, "{k}");
        for (step, &window) in windows.iter().enumerate().skip(10) {
            let t = step as f64 * 0.01;
            let curve = 1_000.0 + 0.4 * (t - k).powi(3);
            let later = 1_000.0 + 0.4 * (t + 0.1 - k).powi(3);
            assert!(window >= curve - 1.0 && window <= later.max(windows[step - 1]) + 1.0, "{t}: {window} {curve}");
        }
    }

    #[test]
    fn small_windows_grow_at_least_as_reno_would() {
        let mut c = reduced_from(20);
        assert_eq!(c.window(), 14 * MTU);
        let windows = run(&mut c, 10);
        // 0.53 packets per round trip until the window is back, then 1.
        let gained = windows[99] - 14.0;
        assert!((4.8..5.8).contains(&gained), "{gained}");
    }

    #[test]
    fn fast_convergence_gives_way() {
        let mut c = reduced_from(1_000);
        c.on_congestion(&loss(1_200, 1));
        assert!((c.w_max - 700.0 * MTU as f64 * 0.85).abs() < 1.0);
        assert_eq!(c.window(), 490 * MTU);
    }

    #[test]
    fn spurious_losses_are_undone_only_when_all_are() {
        let mut c = reduced_from(1_000);
        c.on_spurious_loss(3);
        assert_eq!(c.window(), 700 * MTU);
        c.on_spurious_loss(1);
        assert_eq!(c.window(), 1_000 * MTU);
        assert!(c.in_slow_start());
        // Marks are not taken back.
        c.on_congestion(&loss(2_000, u32::MAX));
        c.on_spurious_loss(1_000);
        assert_eq!(c.window(), 700 * MTU);
    }

    #[test]
    fn the_curve_stands_still_without_data() {
        let (mut busy, mut idle) = (reduced_from(1_000), reduced_from(1_000));
        run(&mut busy, 10);
        run(&mut idle, 10);
        // Nothing in flight for a minute, then one packet, which does not fill the window.
        idle.on_sent(0);
        idle.on_ack(&AckSample { in_flight_before: MTU, ..ack(&idle, 62_050, MTU) });
        let before = idle.window();
        for step in 0..10 {
            let sample = ack(&idle, 62_100 + step * 10, before / 10);
            idle.on_ack(&sample);
        }
        assert!(idle.window() - before < 100 * MTU, "{} {before}", idle.window());
    }

    #[test]
    fn slow_start_doubles_until_the_rtt_rises() {
        let mut c = Cubic::new(MTU as u16);
        let mut now = 1_000;
        for round in 0..12u64 {
            let rtt = if round < 4 { 100 } else { 130 };
            let (start, window) = (now, c.window());
            now += rtt;
            for i in 0..10 {
                let sample = AckSample {
                    newest_sent_at: at(start),
                    rtt: Some(Duration::from_millis(rtt)),
                    ..ack(&c, now, window / 10)
                };
                if i > 0 {
                    // Sent before the round began.
                    c.on_ack(&AckSample { newest_sent_at: at(start - 1), ..sample });
                } else {
                    c.on_ack(&sample);
                }
            }
            if round == 3 {
                assert_eq!(c.window(), 12_000 << 4);
            }
        }
        assert!(!c.in_slow_start());
        assert!(c.hystart.is_none());
    }
}
