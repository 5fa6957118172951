//! The window against the formulas of RFC 9438.

use super::*;
use crate::congestion::window;
use crate::recovery::rate::RateSample;

const MTU: u16 = 1000;

fn at(seconds: f64) -> Instant {
    Instant::from_nanos(1_000_000_000 + (seconds * 1e9) as u64)
}

/// A controller and a full window of packets, acknowledged one by one with a steady round-trip time.
struct Flow {
    cubic: Cubic,
    now: f64,
    rtt: f64,
}

impl Flow {
    /// In congestion avoidance since a loss at time 0, with a window of `before` datagrams then.
    fn reduced(before: f64, rtt: f64) -> Self {
        let mut flow = Self { cubic: Cubic::new(MTU), now: 0.0, rtt };
        flow.cubic.window = before;
        flow.lose(false);
        // The recovery period: what was in flight is acknowledged.
        flow.now += rtt;
        flow
    }

    fn lose(&mut self, persistent: bool) {
        let loss = LossSample { now: at(self.now), lost_bytes: 1000, largest_lost_sent_at: at(self.now), persistent };
        self.cubic.on_congestion(&loss);
    }

    fn ack(&mut self, datagrams: u64, app_limited: bool) {
        let in_flight_before = if app_limited { 3_000 } else { self.cubic.window() };
        let rtt = Duration::from_secs_f64(self.rtt);
        self.cubic.on_ack(&AckSample {
            now: at(self.now),
            acked_bytes: datagrams * u64::from(MTU),
            in_flight_before,
            newest_sent_at: at(self.now - self.rtt + 1e-6),
            smoothed_rtt: rtt,
            min_rtt: rtt,
            latest_rtt: rtt,
            rate: RateSample { app_limited, ..RateSample::default() },
        });
    }

    /// Acknowledges packets as they come until `end`.
    fn run(&mut self, end: f64) {
        while self.now < end {
            self.now += self.rtt / self.cubic.window;
            self.ack(1, false);
        }
    }
}

#[test]
fn initial_windows() {
    assert_eq!([1200, 1472, 1500, 9000].map(window::initial), [12_000, 14_720, 14_720, 18_000]);
    assert_eq!(Cubic::new(1200).window(), 12_000);
}

#[test]
fn follows_the_cubic_curve() {
    let mut flow = Flow::reduced(1000.0, 0.1);
    assert!((flow.cubic.window - 700.0).abs() < 1e-9);
    // K = cbrt(1000 * 0.3 / 0.4) = 9.086 s (RFC 9438 figure 2).
    let k = (1000.0 * (1.0 - BETA) / C).cbrt();
    let start = flow.now;
    for second in [1.0, 3.0, 5.0, 9.0, 10.0, 12.0, 15.0] {
        flow.run(start + second);
        let expected = C * (second - k).powi(3) + 1000.0;
        let error = (flow.cubic.window - expected).abs();
        assert!(error < 0.01 * expected, "{second} s: {} instead of {expected}", flow.cubic.window);
    }
}

#[test]
fn is_no_slower_than_reno_on_short_paths() {
    // 10 ms and 40 datagrams: a cubic curve would need K = 3.1 s.
    let mut flow = Flow::reduced(40.0, 0.01);
    let start = flow.now;
    let mut reno = flow.cubic.window;
    for round in 1..=60 {
        flow.run(start + f64::from(round) * 0.01);
        // 3 * 0.3 / 1.7 = 0.53 datagrams per round trip, and one above the old window (section 4.3).
        reno += if reno >= 40.0 { 1.0 } else { ALPHA };
    }
    assert!((flow.cubic.window - reno).abs() < 2.0, "{} {reno}", flow.cubic.window);
}

#[test]
fn fast_convergence_gives_way() {
    let mut flow = Flow::reduced(1000.0, 0.1);
    assert_eq!(flow.cubic.w_max, 1000.0);
    flow.lose(false);
    // Lost again at 700, below the maximum: 700 * (1 + 0.7) / 2.
    assert!((flow.cubic.w_max - 595.0).abs() < 1e-9);
    assert!((flow.cubic.window - 490.0).abs() < 1e-9);
}

#[test]
fn one_reduction_per_round_trip() {
    let mut flow = Flow::reduced(1000.0, 0.1);
    let earlier = LossSample { now: at(0.05), lost_bytes: 1, largest_lost_sent_at: at(0.0), persistent: false };
    flow.cubic.on_congestion(&earlier);
    flow.cubic.on_ecn_ce(at(0.05), 3, at(0.0));
    assert!((flow.cubic.window - 700.0).abs() < 1e-9);
    flow.cubic.on_ecn_ce(at(0.2), 3, at(0.1));
    assert!((flow.cubic.window - 490.0).abs() < 1e-9);
    // A mark is no guess.
    flow.cubic.on_spurious_loss(at(0.3));
    assert!((flow.cubic.window - 490.0).abs() < 1e-9);
}

#[test]
fn time_without_data_does_not_count() {
    let mut flow = Flow::reduced(1000.0, 0.1);
    let mut idle = Flow::reduced(1000.0, 0.1);
    flow.run(2.0);
    idle.run(2.0);
    for _ in 0..80 {
        idle.now += 0.1;
        idle.ack(1, true);
    }
    let before = idle.cubic.window;
    flow.run(3.0);
    let end = idle.now + 1.0;
    idle.run(end);
    assert!((before - 700.0).abs() > 10.0);
    // The curve climbs by 4 datagrams in the one round trip that passes before the pause is seen.
    assert!((flow.cubic.window - idle.cubic.window).abs() < 5.0, "{} {}", flow.cubic.window, idle.cubic.window);
}

#[test]
fn a_spurious_loss_is_undone() {
    let mut flow = Flow::reduced(1000.0, 0.1);
    flow.run(5.0);
    let before = flow.cubic.clone();
    flow.lose(false);
    flow.now += 0.05;
    flow.cubic.on_spurious_loss(at(flow.now));
    assert_eq!(flow.cubic.window, before.window);
    assert_eq!((flow.cubic.w_max, flow.cubic.ssthresh), (before.w_max, before.ssthresh));
    // Only once.
    flow.cubic.window = 10.0;
    flow.cubic.on_spurious_loss(at(flow.now));
    assert_eq!(flow.cubic.window, 10.0);
    // In slow start, it goes on with its detector.
    let mut young = Flow { cubic: Cubic::new(MTU), now: 0.0, rtt: 0.1 };
    young.lose(false);
    assert!(!young.cubic.in_slow_start());
    young.cubic.on_spurious_loss(at(0.1));
    assert!(young.cubic.in_slow_start() && young.cubic.hystart.is_some());
    assert_eq!(young.cubic.window(), 10_000);
}

#[test]
fn persistent_congestion_starts_over() {
    let mut flow = Flow::reduced(1000.0, 0.1);
    flow.now += 5.0;
    flow.lose(true);
    assert_eq!((flow.cubic.window(), flow.cubic.in_slow_start()), (2_000, true));
    assert_eq!(flow.cubic.ssthresh(), 490_000);
}

#[test]
fn another_mtu_keeps_the_bytes() {
    let mut flow = Flow::reduced(1000.0, 0.1);
    flow.run(3.0);
    let bytes = flow.cubic.window();
    flow.cubic.on_mtu(1400);
    assert!(flow.cubic.window().abs_diff(bytes) <= 1);
    flow.now += 0.1;
    flow.ack(10, false);
    assert!(flow.cubic.window() - bytes < 10_000);
}

#[test]
fn new_reno_halves_and_grows_by_one_datagram_a_round() {
    use crate::congestion::NewReno;
    let mut reno = NewReno::new(MTU);
    let rtt = Duration::from_millis(10);
    let ack = |now: f64, bytes: u64, in_flight_before: u64, app_limited: bool| AckSample {
        now: at(now),
        acked_bytes: bytes,
        in_flight_before,
        newest_sent_at: at(now - 0.01),
        smoothed_rtt: rtt,
        min_rtt: rtt,
        latest_rtt: rtt,
        rate: RateSample { app_limited, ..RateSample::default() },
    };
    reno.on_ack(&ack(0.02, 10_000, 10_000, false));
    assert_eq!((reno.window(), reno.in_slow_start()), (20_000, true));
    let loss =
        |now, sent| LossSample { now: at(now), lost_bytes: 1, largest_lost_sent_at: at(sent), persistent: false };
    reno.on_congestion(&loss(0.03, 0.02));
    reno.on_congestion(&loss(0.031, 0.025));
    assert_eq!((reno.window(), reno.ssthresh()), (10_000, 10_000));
    reno.on_ack(&ack(0.05, 10_000, 10_000, false));
    assert_eq!(reno.window(), 11_000);
    reno.on_ack(&ack(0.06, 11_000, 1_000, true));
    assert_eq!(reno.window(), 11_000, "an idle sender does not grow its window");
    reno.on_spurious_loss(at(0.07));
    assert_eq!((reno.window(), reno.ssthresh()), (20_000, u64::MAX));
    assert_eq!(reno.pacing_rate(Duration::from_secs(1)), 40_000);
}
