//! Whole controllers on one bottleneck, in virtual time.

mod link;

use std::time::Duration;

use link::{Link, MTU, World};
use warpline_proto::congestion::{CongestionAlgorithm, Controller};

/// 100 Mbit/s over 50 ms with a buffer of one bandwidth-delay product.
const LINK: Link = Link { rate: 12_500_000, rtt: Duration::from_millis(50), buffer: 625_000, loss_ppm: 0 };

fn world(algorithm: CongestionAlgorithm, link: Link) -> World {
    World::new(link, Controller::new(algorithm, MTU))
}

/// The part of the link's capacity that arrived in `seconds`, after `warm_up` seconds.
fn utilization(world: &mut World, link: Link, warm_up: u64, seconds: u64) -> f64 {
    world.run(Duration::from_secs(warm_up));
    let report = world.run(Duration::from_secs(seconds));
    report.delivered as f64 / (link.rate * seconds) as f64
}

#[test]
fn cubic_fills_the_link() {
    let used = utilization(&mut world(CongestionAlgorithm::Cubic, LINK), LINK, 2, 30);
    assert!(used > 0.95, "{used}");
}

#[test]
fn bbr_fills_the_link_with_little_queue() {
    let mut world = world(CongestionAlgorithm::Bbr, LINK);
    world.run(Duration::from_secs(2));
    let report = world.run(Duration::from_secs(30));
    let used = report.delivered as f64 / (LINK.rate * 30) as f64;
    assert!(used > 0.95, "{used}");
    assert!(report.queue_mean() < LINK.buffer / 10, "{}", report.queue_mean());
    assert_eq!(report.lost, 0);
    let count = |name| report.states.iter().filter(|(_, state)| *state == name).count();
    // Probes for bandwidth two to three seconds after the last probe of either kind, for the round-trip time every
    // five.
    assert!((5..=10).contains(&count("probe_bw_up")), "{:?}", report.states);
    assert!((4..=6).contains(&count("probe_rtt")), "{:?}", report.states);
}

#[test]
fn new_reno_fills_most_of_the_link() {
    let used = utilization(&mut world(CongestionAlgorithm::NewReno, LINK), LINK, 2, 60);
    assert!(used > 0.9, "{used}");
}

#[test]
fn bbr_shrugs_off_random_loss_where_cubic_cannot() {
    let link = Link { loss_ppm: 10_000, ..LINK };
    let bbr = utilization(&mut world(CongestionAlgorithm::Bbr, link), link, 5, 60);
    assert!(bbr > 0.8, "{bbr}");
    let cubic = utilization(&mut world(CongestionAlgorithm::Cubic, link), link, 5, 60);
    assert!(cubic < 0.2, "{cubic}");
}

#[test]
fn hystart_halves_what_slow_start_loses() {
    let report = world(CongestionAlgorithm::Cubic, LINK).run(Duration::from_secs(1));
    assert!(report.states.iter().any(|(_, s)| *s == "conservative_slow_start"), "{:?}", report.states);
    let without = world(CongestionAlgorithm::NewReno, LINK).run(Duration::from_secs(1));
    assert!(report.lost * 2 <= without.lost, "{} {}", report.lost, without.lost);
}

#[test]
fn bbr_startup_goes_through_drain_to_probe_bw() {
    let report = world(CongestionAlgorithm::Bbr, LINK).run(Duration::from_secs(2));
    let names: Vec<_> = report.states.iter().take(3).map(|(_, s)| *s).collect();
    // Out of Drain nothing is left to bring down: the same acknowledgement leads on to cruise.
    assert_eq!(names, ["startup", "drain", "probe_bw_cruise"]);
}

#[test]
fn bbr_follows_a_link_that_changes() {
    let mut world = world(CongestionAlgorithm::Bbr, LINK);
    world.run(Duration::from_secs(10));
    let half = Link { rate: LINK.rate / 2, ..LINK };
    world.set_link(half);
    let used = utilization(&mut world, half, 10, 20);
    assert!(used > 0.9, "{used}");
    let double = Link { rate: LINK.rate * 2, buffer: LINK.buffer * 2, ..LINK };
    world.set_link(double);
    let used = utilization(&mut world, double, 20, 20);
    assert!(used > 0.9, "{used}");
}

#[test]
fn bbr_survives_a_shallow_buffer() {
    let link = Link { buffer: LINK.buffer / 20, ..LINK };
    let used = utilization(&mut world(CongestionAlgorithm::Bbr, link), link, 5, 30);
    assert!(used > 0.8, "{used}");
}

#[test]
fn windows_stay_small_while_the_application_is_slow() {
    for algorithm in [CongestionAlgorithm::NewReno, CongestionAlgorithm::Cubic, CongestionAlgorithm::Bbr] {
        let mut world = world(algorithm, LINK);
        world.app_rate = Some(500_000);
        let report = world.run(Duration::from_secs(20));
        let sent = 500_000 * 20;
        assert!(report.delivered > sent * 9 / 10, "{algorithm:?}: {}", report.delivered);
        // 25,000 bytes per round trip are used: the window is a small multiple of them.
        assert!(report.window_max < 200_000, "{algorithm:?}: {}", report.window_max);
        // Afterwards it finds the link.
        world.app_rate = None;
        let used = utilization(&mut world, LINK, 10, 10);
        assert!(used > 0.9, "{algorithm:?}: {used}");
    }
}

#[test]
fn marks_hold_the_queue_down_without_loss() {
    for algorithm in [CongestionAlgorithm::NewReno, CongestionAlgorithm::Cubic] {
        let mut world = world(algorithm, LINK);
        world.mark_above = Some(LINK.buffer / 4);
        world.run(Duration::from_secs(5));
        let report = world.run(Duration::from_secs(20));
        assert_eq!(report.lost, 0, "{algorithm:?}");
        let used = report.delivered as f64 / (LINK.rate * 20) as f64;
        assert!(used > 0.8, "{algorithm:?}: {used}");
    }
}

#[test]
fn an_outage_ends_and_the_rate_comes_back() {
    for algorithm in [CongestionAlgorithm::NewReno, CongestionAlgorithm::Cubic, CongestionAlgorithm::Bbr] {
        let mut world = world(algorithm, LINK);
        world.run(Duration::from_secs(5));
        world.set_link(Link { loss_ppm: 1_000_000, ..LINK });
        world.run(Duration::from_secs(3));
        world.set_link(LINK);
        let used = utilization(&mut world, LINK, 15, 10);
        assert!(used > 0.8, "{algorithm:?}: {used}");
    }
}

#[test]
fn extremes_of_rate() {
    let slow = Link { rate: 50_000, rtt: Duration::from_millis(100), buffer: 15_000, loss_ppm: 0 };
    let fast = Link { rate: 1_250_000_000, rtt: Duration::from_micros(400), buffer: 2_000_000, loss_ppm: 0 };
    for algorithm in [CongestionAlgorithm::Cubic, CongestionAlgorithm::Bbr] {
        let used = utilization(&mut world(algorithm, slow), slow, 10, 60);
        assert!(used > 0.85, "{algorithm:?}: {used}");
        let mut fast_world = world(algorithm, fast);
        fast_world.run(Duration::from_millis(500));
        let report = fast_world.run(Duration::from_millis(500));
        let used = report.delivered as f64 / (fast.rate / 2) as f64;
        assert!(used > 0.9, "{algorithm:?}: {used}");
    }
}

/// A queue of two or three packets before a slow link: what leaves in one piece must fit it.
#[test]
fn a_queue_of_a_few_packets_is_not_overrun_by_bursts() {
    for (rate, rtt_ms, buffer) in [(1_250_000, 30, 3_750), (1_250_000, 100, 12_500), (125_000, 30, 3_000)] {
        let link = Link { rate, rtt: Duration::from_millis(rtt_ms), buffer, loss_ppm: 0 };
        for algorithm in [CongestionAlgorithm::NewReno, CongestionAlgorithm::Cubic, CongestionAlgorithm::Bbr] {
            let used = utilization(&mut world(algorithm, link), link, 10, 30);
            assert!(used > 0.5, "{algorithm:?}, {link:?}: {used}");
        }
    }
}

/// A busy host's timers come late; what could not leave in time leaves then.
#[test]
fn late_timers_do_not_stop_the_search_for_the_rate() {
    let link = Link { rate: 12_500_000, rtt: Duration::from_millis(100), buffer: 1_250_000, loss_ppm: 0 };
    for algorithm in [CongestionAlgorithm::Cubic, CongestionAlgorithm::Bbr] {
        let mut world = world(algorithm, link);
        world.late = Duration::from_millis(5);
        let used = utilization(&mut world, link, 2, 10);
        assert!(used > 0.7, "{algorithm:?}: {used}");
    }
}
