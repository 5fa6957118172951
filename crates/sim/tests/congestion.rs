//! Controllers on simulated links: what `warpline-sim congestion` measures, on few links and with bounds.

use std::time::Duration;

use warpline_proto::congestion::CongestionAlgorithm;
use warpline_sim::congestion::{
    ALGORITHMS, Fairness, Flows, Link, Outcome, Scale, Times, Visit, heat_map, measure, measure_pair, report, table,
};

fn one(link: &Link, algorithm: CongestionAlgorithm, seconds: u64, seed: u64) -> Outcome {
    measure(link, algorithm, &Flows::one(Duration::from_secs(seconds)), seed).expect("the run goes to its end")
}

#[test]
fn both_fill_an_ordinary_link() {
    let link = Link::new(10, 50, 0.0, 1.0);
    for algorithm in [CongestionAlgorithm::Cubic, CongestionAlgorithm::Bbr] {
        let share = one(&link, algorithm, 15, 1).share;
        assert!((0.9..1.01).contains(&share), "{algorithm:?}: {share}");
    }
}

#[test]
fn bbr_holds_a_link_that_loses_a_packet_in_a_hundred() {
    for (rate, queue) in [(100, 1.0), (100, 0.1), (10, 0.1), (10, 1.0), (10, 5.0)] {
        let link = Link::new(rate, 100, 1.0, queue);
        let shares: Vec<f64> = (1..=3).map(|seed| one(&link, CongestionAlgorithm::Bbr, 20, seed).share).collect();
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        assert!(mean > 0.8, "{rate} Mbit/s, {queue} BDP: {shares:?}");
    }
}

/// Loss at the threshold itself. Startup took a round trip that was a little unlucky for a full queue, and the bound
/// that it left behind kept the connection at three fifths and a twelfth of what the link carries with these seeds.
#[test]
fn bbr_is_not_stopped_in_startup_by_chance() {
    for seed in [1, 5] {
        let share = one(&Link::new(100, 300, 2.0, 1.0), CongestionAlgorithm::Bbr, 15, seed).share;
        assert!(share > 0.75, "seed {seed}: {share}");
    }
}

/// The start included. Under way the window has to let through what the model says that the path carries, though
/// acknowledgements come in lumps.
#[test]
fn bbr_holds_a_lossy_link_from_its_first_packet_on() {
    for (rate, rtt, queue, least) in [(50, 100, 0.5, 0.82), (100, 100, 0.5, 0.81), (100, 30, 1.0, 0.85)] {
        let link = Link::new(rate, rtt, 1.0, queue);
        let flows = Flows::from_start(Duration::from_secs(8));
        let shares: Vec<f64> = (1..=3)
            .map(|seed| measure(&link, CongestionAlgorithm::Bbr, &flows, seed).expect("the run goes to its end").share)
            .collect();
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        assert!(mean > least, "{rate} Mbit/s, {rtt} ms, {queue} BDP: {shares:?}");
    }
}

/// A queue of two packets: a train of ten would lose most of itself, again and again.
#[test]
fn a_short_queue_does_not_bring_the_rate_down() {
    let link = Link::new(10, 30, 0.0, 0.1);
    for algorithm in [CongestionAlgorithm::Cubic, CongestionAlgorithm::Bbr] {
        let share = one(&link, algorithm, 20, 1).share;
        assert!(share > 0.5, "{algorithm:?}: {share}");
    }
}

/// Queues of a tenth of a product, two to twelve packets, from the connection's first packet on. Bursts of two
/// milliseconds' worth, windows that open by an eighth at a time, and a receiver that acknowledges every 16th packet
/// because nobody asked for more lost them a third to a half of it.
#[test]
fn a_tenth_of_a_product_is_queue_enough() {
    let flows = Flows::from_start(Duration::from_secs(8));
    for (rate, rtt, least) in
        [(100, 10, [0.87, 0.87]), (10, 30, [0.78, 0.86]), (10, 100, [0.83, 0.83]), (1, 100, [0.7, 0.83])]
    {
        let link = Link::new(rate, rtt, 0.0, 0.1);
        for (algorithm, least) in ALGORITHMS.into_iter().zip(least) {
            let share = measure(&link, algorithm, &flows, 1).expect("the run goes to its end").share;
            assert!(share > least, "{rate} Mbit/s, {rtt} ms, {algorithm:?}: {share}");
        }
    }
}

/// A download is more than the first window, which leaves spread over half a round trip: as a burst it would overflow a
/// queue of two packets, and slow start would end at ten packets of the 28 that the link and its queue hold.
#[test]
fn the_first_window_of_a_download_fits_a_short_queue() {
    let flows = Flows::from_start(Duration::from_secs(9));
    for loss in [0.0, 0.1, 1.0, 2.0] {
        let link = Link::new(1, 300, loss, 0.1);
        let shares = (1..=7).map(|seed| measure(&link, CongestionAlgorithm::Cubic, &flows, seed));
        let mut shares: Vec<f64> = shares.map(|run| run.expect("the run goes to its end").share).collect();
        shares.sort_by(f64::total_cmp);
        let least = if loss < 1.0 { 0.7 } else { 0.38 };
        assert!(shares[3] > least, "{loss} %: {shares:?}");
    }
}

/// An answer within the first window leaves at once, its last packet with its first; one beyond it ends hardly later for
/// being spread, and far sooner before a queue of two packets. Two round trips are the handshake and the request's; the
/// pairs are bytes and milliseconds.
#[test]
fn spreading_the_first_window_delays_no_answer() {
    let (wide, narrow) = (Link::new(100, 100, 0.0, 1.0), Link::new(1, 300, 0.0, 0.1));
    for (link, answers) in [
        (wide, [(14_000, 216), (18_000, 304), (50_000, 362)]),
        (narrow, [(18_000, 1_000), (50_000, 1_600), (200_000, 3_300)]),
    ] {
        for (bytes, most) in answers {
            let times =
                Visit::again(link, CongestionAlgorithm::Cubic, bytes).measure(1).expect("nothing exceeds the jump");
            assert!(times.fresh <= Duration::from_millis(most), "{link:?}, {bytes} bytes: {times:?}");
        }
    }
}

/// Windows of eight packets, by chance losses. With one acknowledgement for two packets the first of them waits for the
/// second, a tenth of a round trip, and rate and growth go by round trips.
#[test]
fn a_window_of_eight_packets_is_heard_of_without_delay() {
    for (rtt, least) in [(10, 0.79), (30, 0.345)] {
        let flows = Flows::from_start(Duration::from_secs(8));
        let link = Link::new(10, rtt, 2.0, 1.0);
        let shares = (1..=31).map(|seed| measure(&link, CongestionAlgorithm::Cubic, &flows, seed));
        let mean = shares.map(|run| run.expect("the run goes to its end").share).sum::<f64>() / 31.0;
        assert!(mean > least, "{rtt} ms: {mean}");
    }
}

/// A queue of two packets that holds more than the link does: two at a time, acknowledged together, left it idle for a
/// third of the time.
#[test]
fn a_window_of_a_few_packets_fills_its_link() {
    for loss in [0.0, 1.0] {
        let link = Link::new(1, 10, loss, 2.4);
        for algorithm in [CongestionAlgorithm::Cubic, CongestionAlgorithm::Bbr] {
            for seed in 1..=4 {
                let share = one(&link, algorithm, 20, seed).share;
                assert!(share > 0.9, "{algorithm:?}, {loss} % of loss, seed {seed}: {share}");
            }
        }
    }
}

#[test]
fn two_flows_share_a_link() {
    let until = Duration::from_secs(40);
    let flows = Flows { count: 2, apart: until / 8, from: until / 2, until };
    for algorithm in [CongestionAlgorithm::Cubic, CongestionAlgorithm::Bbr] {
        let outcome = measure(&Link::new(10, 50, 0.0, 1.0), algorithm, &flows, 1).expect("the run goes to its end");
        assert_eq!(outcome.goodput.len(), 2);
        assert!(outcome.jain > 0.8 && outcome.share > 0.9, "{algorithm:?}: {outcome:?}");
    }
}

#[test]
fn a_report_is_drawn_and_tabulated() {
    let link = Link::new(1, 10, 0.0, 1.0);
    let flow = |link: &Link| Flows::one(link.time());
    let results = report(&[(link, CongestionAlgorithm::Cubic)], flow, &[], 1, 1);
    assert!(results["grid"][0]["share"].as_f64().is_some_and(|share| share > 0.5), "{results}");
    assert!(table(&results).contains("| 0 % | 1 BDP | 10 ms |"), "{}", table(&results));
    assert_eq!(heat_map(&results, "cubic", &Scale::share("cubic")).matches("<rect x=").count(), 1);
}

/// A server that remembers the path sends half of what it carries in the third round trip; the checker sees that it is not
/// more.
#[test]
fn a_second_visit_begins_where_the_first_ended() {
    for algorithm in [CongestionAlgorithm::NewReno, CongestionAlgorithm::Cubic, CongestionAlgorithm::Bbr] {
        let visit = Visit::again(Link::new(50, 300, 0.0, 1.0), algorithm, 4 << 20);
        let Times { fresh, resumed } = visit.measure(1).expect("nothing exceeds the jump");
        assert!(resumed + Duration::from_millis(400) < fresh, "{algorithm:?}: {resumed:?}, {fresh:?} without");
    }
}

/// The jump comes when all of the first window is acknowledged: spread over half a round trip it would come 60 ms later.
#[test]
fn a_resumed_path_is_not_kept_waiting_by_its_first_window() {
    let visit = Visit::again(Link::new(100, 100, 0.0, 1.0), CongestionAlgorithm::Cubic, 5 << 20);
    let Times { resumed, .. } = visit.measure(1).expect("nothing exceeds the jump");
    assert!(resumed <= Duration::from_millis(890), "{resumed:?}");
}

/// A tenth of the capacity that is remembered: the jump loses much of itself, and the connection takes it back.
#[test]
fn a_path_that_became_narrower_is_left_to_others() {
    for algorithm in [CongestionAlgorithm::NewReno, CongestionAlgorithm::Cubic, CongestionAlgorithm::Bbr] {
        let (first, second) = (Link::new(50, 100, 0.0, 1.0), Link::new(5, 100, 0.0, 1.0));
        let Times { fresh, resumed } =
            Visit { first, second, algorithm, bytes: 2 << 20 }.measure(1).expect("nothing exceeds the jump");
        assert!(resumed < fresh * 2, "{algorithm:?}: {resumed:?}, {fresh:?} without");
    }
}

/// With another round-trip time it is another path: everything is as without a memory.
#[test]
fn another_round_trip_time_is_another_path() {
    for rtt in [40, 1_100] {
        let (first, second) = (Link::new(20, 100, 0.0, 1.0), Link::new(20, rtt, 0.0, 1.0));
        let visit = Visit { first, second, algorithm: CongestionAlgorithm::Cubic, bytes: 1 << 20 };
        let Times { fresh, resumed } = visit.measure(1).expect("nothing exceeds the jump");
        assert_eq!(fresh, resumed);
    }
}

#[test]
fn two_controllers_on_one_link_are_measured_one_by_one() {
    let until = Duration::from_secs(20);
    let pair = Fairness {
        link: Link::new(10, 50, 0.0, 1.0),
        other_rtt: Duration::from_millis(20),
        algorithms: [CongestionAlgorithm::Cubic, CongestionAlgorithm::Bbr],
        flows: Flows { count: 2, apart: until / 8, from: until / 2, until },
    };
    let outcome = measure_pair(&pair, 1).expect("the run goes to its end");
    assert!(outcome.goodput.iter().all(|bits| *bits > 100_000.0) && outcome.share > 0.9, "{outcome:?}");
}
