//! Which links are measured.

use std::time::Duration;

use serde_json::{Value, json};
use warpline_proto::congestion::CongestionAlgorithm;

use super::{Flows, QUEUE_MIN, WINDOW_MIN};

/// A link by its four numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// Bits per second, headers included.
    pub bits_per_s: u64,
    /// There and back.
    pub rtt: Duration,
    /// Probability that a packet towards the client is lost.
    pub loss: f64,
    /// The queue in bandwidth-delay products.
    pub buffer: f64,
}

impl Link {
    /// Megabits, milliseconds, percent, bandwidth-delay products.
    pub fn new(mbit: u64, rtt_ms: u64, loss_percent: f64, buffer: f64) -> Self {
        let rtt = Duration::from_millis(rtt_ms);
        Self { bits_per_s: mbit * 1_000_000, rtt, loss: loss_percent / 100.0, buffer }
    }

    /// The bandwidth-delay product in bytes.
    pub fn product(&self) -> u64 {
        (self.bits_per_s as f64 / 8.0 * self.rtt.as_secs_f64()) as u64
    }

    /// Bytes that wait at most; two packets at least.
    pub fn queue_bytes(&self) -> u64 {
        ((self.product() as f64 * self.buffer) as u64).max(QUEUE_MIN)
    }

    /// Bytes that a stream's window and a sender's buffer hold here: never what holds a flow back.
    pub fn window(&self) -> u64 {
        WINDOW_MIN.max(8 * self.product() + 2 * self.queue_bytes())
    }

    /// How long one flow runs: long where packets are few, and never less than thirty round trips.
    pub fn time(&self) -> Duration {
        let by_rate = match self.bits_per_s / 1_000_000 {
            0..100 => 60,
            100..1_000 => 30,
            1_000..10_000 => 9,
            _ => 3,
        };
        Duration::from_secs(by_rate).max(self.rtt * 30)
    }

    /// Its four numbers, as they stand in results.
    pub fn json(&self) -> Value {
        json!({
            "rate_mbit": self.bits_per_s / 1_000_000,
            "rtt_ms": self.rtt.as_millis() as u64,
            "loss_percent": (self.loss * 1e5).round() / 1e3,
            "buffer_bdp": self.buffer,
        })
    }
}

/// Two flows on one link.
#[derive(Debug, Clone, Copy)]
pub struct Fairness {
    /// The link that they share.
    pub link: Link,
    /// The round-trip time of the second flow; the link's own is the first one's.
    pub other_rtt: Duration,
    /// The controllers of both.
    pub algorithms: [CongestionAlgorithm; 2],
    /// When they begin and are measured.
    pub flows: Flows,
}

impl Fairness {
    /// Flows over `link` and over the same with a round-trip time of `other_rtt`, the second begun after a fifth of the time,
    /// measured in the last half.
    pub fn new(link: Link, other_rtt: Duration, algorithms: [CongestionAlgorithm; 2]) -> Self {
        let until = Duration::from_secs(match link.bits_per_s / 1_000_000 {
            0..10 => 200,
            10..100 => 100,
            _ => 60,
        });
        Self { link, other_rtt, algorithms, flows: Flows { count: 2, apart: until / 5, from: until / 2, until } }
    }

    /// Two flows alike of each controller, and one of either.
    pub fn on(link: Link) -> [Self; 3] {
        let [one, other] = ALGORITHMS;
        [[one; 2], [other; 2], ALGORITHMS].map(|algorithms| Self::new(link, link.rtt, algorithms))
    }
}

/// The controllers that are measured.
pub const ALGORITHMS: [CongestionAlgorithm; 2] = [CongestionAlgorithm::Cubic, CongestionAlgorithm::Bbr];

/// Every link with every controller. `quick` leaves the rates above 100 Mbit/s out, which take most of the time.
pub fn grid(quick: bool) -> Vec<(Link, CongestionAlgorithm)> {
    let mut cells = Vec::new();
    let mut add = |rates: &[u64], rtts: &[u64], losses: &[f64], buffers: &[f64]| {
        for &algorithm in &ALGORITHMS {
            for &rate in rates {
                for &loss in losses {
                    for &buffer in buffers {
                        cells.extend(rtts.iter().map(|&rtt| (Link::new(rate, rtt, loss, buffer), algorithm)));
                    }
                }
            }
        }
    };
    add(&[1, 10, 100], &[1, 10, 30, 100, 300], &[0.0, 0.1, 1.0, 2.0], &[0.1, 0.5, 1.0, 5.0]);
    if !quick {
        add(&[1_000], &[1, 10, 100, 300], &[0.0, 0.1, 1.0, 2.0], &[0.1, 1.0, 5.0]);
        add(&[10_000], &[1, 10, 100], &[0.0, 1.0], &[0.1, 1.0]);
        add(&[10_000], &[1, 10], &[0.0], &[5.0]);
        add(&[10_000], &[300], &[0.0], &[1.0]);
    }
    cells
}

/// Two flows alike, with other round-trip times, and with other controllers. `quick` leaves the rate of 100 Mbit/s out.
pub fn fairness(quick: bool) -> Vec<Fairness> {
    let rates: &[u64] = if quick { &[1, 10] } else { &[1, 10, 100] };
    let mut cells = Vec::new();
    let mut add = |algorithms, rtts: &[(u64, u64)], buffers: &[f64]| {
        for &rate in rates {
            for &(rtt, other) in rtts {
                let pair = |&buffer| {
                    Fairness::new(Link::new(rate, rtt, 0.0, buffer), Duration::from_millis(other), algorithms)
                };
                cells.extend(buffers.iter().map(pair));
            }
        }
    };
    for algorithm in ALGORITHMS {
        add([algorithm; 2], &[(10, 10), (100, 100)], &[0.5, 1.0, 5.0]);
        add([algorithm; 2], &[(100, 20)], &[1.0]);
    }
    add(ALGORITHMS, &[(10, 10), (100, 100)], &[0.5, 1.0, 5.0]);
    cells
}
