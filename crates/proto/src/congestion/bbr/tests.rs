//! Steps of the state machine that whole runs do not show.

use super::*;
use crate::recovery::rate::RateSample;

const MTU: u16 = 1000;
const RTT: Duration = Duration::from_millis(40);

/// A path of 25 MB/s and 40 ms, one acknowledgement a round trip: 1,000 datagrams fill it.
struct Path {
    bbr: Bbr,
    now: Instant,
    delivered: u64,
    lost: u64,
}

impl Path {
    fn new() -> Self {
        Self { bbr: Bbr::new(MTU), now: Instant::from_nanos(1_000_000_000), delivered: 0, lost: 0 }
    }

    /// A round trip in which `bytes` are sent as fast as the path is, and delivered at `rate`.
    fn round(&mut self, bytes: u64, rate: u64) {
        self.round_at(bytes, [25_000_000, rate], 0);
    }

    /// A round trip in which `bytes` are sent and delivered at `rates`, and `lost` more are not.
    fn round_at(&mut self, bytes: u64, rates: [u64; 2], lost: u64) {
        let [send_elapsed, passing] = rates.map(|rate| Duration::from_secs_f64(bytes as f64 / rate as f64));
        let sent_at = self.now;
        let mut in_flight = 0;
        while in_flight < bytes {
            self.bbr.on_sent(sent_at, u64::from(MTU), in_flight, false);
            in_flight += u64::from(MTU);
        }
        let interval = RTT.max(passing);
        self.now += interval;
        let prior_delivered = self.delivered;
        self.delivered += bytes;
        self.bbr.on_ack(&AckSample {
            now: self.now,
            acked_bytes: bytes,
            in_flight_before: bytes,
            newest_sent_at: self.now.checked_sub(RTT).unwrap(),
            smoothed_rtt: RTT,
            min_rtt: RTT,
            latest_rtt: RTT,
            rate: RateSample {
                delivered_bytes: bytes,
                interval,
                send_elapsed,
                app_limited: false,
                prior_delivered,
                total_delivered: self.delivered,
                tx_in_flight: bytes,
                lost_since_sent: lost,
            },
        });
    }

    /// Rounds at full rate until the state is `state`.
    fn until(&mut self, state: State) {
        for _ in 0..200 {
            if self.bbr.state == state {
                return;
            }
            self.round(self.bbr.window().min(1_000_000), 25_000_000);
        }
        panic!("{state:?} was not reached from {:?}", self.bbr.state);
    }

    /// Loses `count` datagrams, every `step`th, of a flight of `in_flight` bytes.
    fn lose(&mut self, count: u64, step: u64, in_flight: u64) {
        for i in 0..count {
            self.lost += 1;
            self.bbr.on_packet_lost(
                self.now,
                &LostPacket {
                    number: 1_000_000 + self.lost * step,
                    sent_at: self.now,
                    size: MTU,
                    tx_in_flight: in_flight,
                    lost_since_sent: (i + 1) * u64::from(MTU),
                    app_limited: false,
                },
            );
        }
    }
}

#[test]
fn startup_doubles_until_the_rate_stays() {
    let mut path = Path::new();
    let mut windows = Vec::new();
    while path.bbr.state == State::Startup {
        windows.push(path.bbr.window());
        path.round(path.bbr.window(), 25_000_000);
    }
    assert!(windows.windows(2).take(6).all(|w| w[1] == 2 * w[0]), "{windows:?}");
    assert_eq!(path.bbr.bandwidth(), 25_000_000);
    assert!(path.bbr.full_pipe.reached);
}

#[test]
fn pacing_follows_the_table() {
    let mut path = Path::new();
    assert_eq!(path.bbr.pacing_rate(Duration::from_millis(100)), 277_000);
    for (state, gain) in
        [(State::ProbeBwCruise, 1.0), (State::ProbeBwRefill, 1.0), (State::ProbeBwUp, 1.25), (State::ProbeBwDown, 0.9)]
    {
        path.until(state);
        let expected = 25_000_000.0 * gain * 0.99;
        let rate = path.bbr.pacing_rate(RTT);
        assert!((rate as f64 - expected).abs() < 2.0, "{state:?}: {rate}");
    }
}

#[test]
fn excess_loss_in_a_probe_sets_the_long_term_bound_and_ends_it() {
    let mut path = Path::new();
    path.until(State::ProbeBwUp);
    path.lose(10, 2, 1_200_000);
    assert_eq!((path.bbr.state, path.bbr.volume.longterm), (State::ProbeBwUp, UNBOUNDED));
    path.lose(31, 2, 1_200_000);
    assert_eq!(path.bbr.state, State::ProbeBwUp);
    path.lose(32, 2, 1_200_000);
    // 2 % of 1,200 datagrams are 24, and chance may add one and a half times the root of that.
    assert_eq!(path.bbr.state, State::ProbeBwDown);
    assert!((1_190_000..1_195_000).contains(&path.bbr.volume.longterm), "{}", path.bbr.volume.longterm);
    assert!(path.bbr.probe.was_too_high);
    let longterm = path.bbr.volume.longterm;
    assert_eq!(path.bbr.in_flight_with_headroom(), longterm - longterm * 15 / 100);
    // All of it arrived after all: the probe is taken up again.
    path.bbr.on_spurious_loss(path.now);
    assert_eq!((path.bbr.state, path.bbr.volume.longterm), (State::ProbeBwRefill, UNBOUNDED));
}

#[test]
fn loss_in_cruise_lowers_the_short_term_model_once_a_round() {
    let mut path = Path::new();
    path.until(State::ProbeBwCruise);
    path.lose(100, 1, 1_000_000);
    path.round(500_000, 12_500_000);
    // The best of the round with the loss and of the one before: nothing changed yet.
    assert_eq!(path.bbr.bandwidth.shortterm, 25_000_000);
    path.lose(100, 1, 1_000_000);
    path.round(500_000, 12_500_000);
    // Now it is half of it; Beta allows no less than 0.7.
    assert_eq!(path.bbr.bandwidth.shortterm, 17_500_000);
    assert_eq!(path.bbr.bandwidth(), 17_500_000);
    assert!(path.bbr.volume.shortterm < UNBOUNDED);
    path.until(State::ProbeBwRefill);
    assert_eq!((path.bbr.bandwidth.shortterm, path.bbr.volume.shortterm), (UNBOUNDED, UNBOUNDED));
}

/// After ProbeBW_DOWN and ProbeRTT the rounds deliver less than the path carries because less was sent.
#[test]
fn what_was_not_sent_is_no_news_of_the_path() {
    let mut path = Path::new();
    path.until(State::ProbeBwCruise);
    for _ in 0..3 {
        path.lose(5, 1, 500_000);
        path.round_at(500_000, [12_500_000; 2], 5_000);
    }
    let (bandwidth, volume) = (path.bbr.bandwidth.shortterm, path.bbr.volume.shortterm);
    assert!((24_000_000..25_000_000).contains(&bandwidth), "{bandwidth}");
    // Room for what that bandwidth keeps on the way, and for an acknowledgement that covers a round trip.
    assert!(volume >= 960_000 + 500_000, "{volume}");
    // A mark is a queue's: half the rate was delivered, and the bounds go there.
    for _ in 0..2 {
        path.bbr.on_ecn_ce(path.now, 1, path.now);
        path.round_at(500_000, [12_500_000; 2], 0);
    }
    let (bandwidth, after) = (path.bbr.bandwidth.shortterm, path.bbr.volume.shortterm);
    assert!(bandwidth < 18_000_000 && after <= volume / 2, "{bandwidth} {volume} {after}");
}

#[test]
fn startup_ends_on_loss_in_many_places_and_can_be_resumed() {
    let lossy = |count, step| {
        let mut path = Path::new();
        for _ in 0..3 {
            path.round(path.bbr.window(), 25_000_000);
        }
        path.lose(count, step, path.bbr.window());
        let window = path.bbr.window();
        let prior = path.delivered;
        path.delivered += window;
        path.now += RTT;
        path.bbr.on_ack(&AckSample {
            now: path.now,
            acked_bytes: window,
            in_flight_before: window,
            newest_sent_at: path.now.checked_sub(RTT).unwrap(),
            smoothed_rtt: RTT,
            min_rtt: RTT,
            latest_rtt: RTT,
            rate: RateSample {
                delivered_bytes: window,
                interval: RTT,
                send_elapsed: RTT,
                app_limited: true,
                prior_delivered: prior,
                total_delivered: path.delivered,
                tx_in_flight: window,
                lost_since_sent: count * u64::from(MTU),
            },
        });
        path
    };
    assert_eq!(lossy(10, 1).bbr.state, State::Startup, "one burst is no full pipe");
    let mut path = lossy(10, 2);
    assert_ne!(path.bbr.state, State::Startup);
    assert!(path.bbr.volume.longterm < UNBOUNDED);
    path.bbr.on_spurious_loss(path.now);
    assert_eq!((path.bbr.state, path.bbr.full_pipe.reached), (State::Startup, false));
}

#[test]
fn marks_count_like_losses() {
    let mut path = Path::new();
    path.until(State::ProbeBwUp);
    let round = path.bbr.loss.last_tx_in_flight / u64::from(MTU);
    path.bbr.on_ecn_ce(path.now, round / 100, path.now);
    assert_eq!(path.bbr.state, State::ProbeBwUp);
    path.bbr.on_ecn_ce(path.now, round / 50, path.now);
    assert_eq!(path.bbr.state, State::ProbeBwDown);
    assert!(path.bbr.probe.was_too_high);
}

#[test]
fn restart_from_idle_paces_at_the_bandwidth() {
    let mut path = Path::new();
    path.until(State::ProbeBwDown);
    assert!(path.bbr.pacing_rate(RTT) < 23_000_000);
    path.now += Duration::from_secs(30);
    path.bbr.on_sent(path.now, u64::from(MTU), 0, true);
    assert_eq!(path.bbr.pacing_rate(RTT), 24_750_000);
    assert!(path.bbr.idle_restart);
    // The pause drained the queue: no ProbeRTT although five seconds went by.
    path.round(500_000, 25_000_000);
    assert_ne!(path.bbr.state, State::ProbeRtt);
    assert!(!path.bbr.idle_restart);
}

#[test]
fn persistent_congestion_leaves_room_for_one_datagram_and_recovers() {
    let mut path = Path::new();
    path.until(State::ProbeBwCruise);
    let before = path.bbr.window();
    let loss = LossSample { now: path.now, lost_bytes: 1_000, largest_lost_sent_at: path.now, persistent: true };
    path.bbr.in_flight = 0;
    path.bbr.on_congestion(&loss);
    assert_eq!(path.bbr.window(), 2_000);
    for _ in 0..4 {
        path.round(path.bbr.window(), 25_000_000);
    }
    assert!(path.bbr.window() >= before / 2, "{} {before}", path.bbr.window());
}
