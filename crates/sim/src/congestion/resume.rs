//! Careful resume on simulated links: how long a download takes, the first time and the second.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use warpline_proto::config::{PathMemory, RetryPolicy, TransportConfig};
use warpline_proto::congestion::CongestionAlgorithm;
use warpline_proto::limits::HALF_OPEN_PER_SOURCE;

use super::{Link, PAYLOAD, WINDOW_MIN, bottleneck, hops, name};
use crate::app::Workload;
use crate::check::JumpLimit;
use crate::run::build;
use crate::scenario::Setup;
use crate::world::NodeId;
use crate::{Instant, Rng};

/// Longest download.
const DEADLINE: Duration = Duration::from_secs(600);
/// How finely the end of a download is timed.
const STEP: Duration = Duration::from_millis(2);
/// Bytes that may be in flight beside the bound: an initial window, for the jump begins with what is on its way.
const SLACK: u64 = 10 * PAYLOAD as u64;

/// A download that is repeated.
#[derive(Debug, Clone, Copy)]
pub struct Visit {
    /// The link of the first connection.
    pub first: Link,
    /// The link of the second.
    pub second: Link,
    /// The server's controller.
    pub algorithm: CongestionAlgorithm,
    /// Content bytes of either.
    pub bytes: u64,
}

/// Times of the second connection, from its first packet to the content's last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Of a server that remembers nothing.
    pub fresh: Duration,
    /// Of one that remembers the first connection.
    pub resumed: Duration,
}

impl Visit {
    /// One link, visited twice.
    pub fn again(link: Link, algorithm: CongestionAlgorithm, bytes: u64) -> Self {
        Self { first: link, second: link, algorithm, bytes }
    }

    /// Downloads over the second link, with and without having downloaded over the first. The checkers watch that
    /// the server begins with no more than half of what the first link carries, or twice that with BBR, whose window is not what
    /// holds it back.
    ///
    /// # Errors
    ///
    /// What went wrong in a world, or what a checker found.
    pub fn measure(&self, seed: u64) -> Result<Times, String> {
        let memory = Arc::new(PathMemory::default());
        let fresh = self.download(&self.second, None, seed)?;
        self.download(&self.first, Some(&memory), seed)?;
        Ok(Times { fresh, resumed: self.download(&self.second, Some(&memory), seed)? })
    }

    fn download(&self, link: &Link, memory: Option<&Arc<PathMemory>>, seed: u64) -> Result<Duration, String> {
        let mut rng = Rng::new(seed);
        let bottleneck = bottleneck(link);
        let mut workload = Workload::streams(1, 0, self.bytes);
        workload.chunk_max = 64 << 10;
        let transport = TransportConfig {
            initial_mtu: PAYLOAD,
            mtu_ceiling: PAYLOAD,
            stream_window: WINDOW_MIN,
            stream_window_max: WINDOW_MIN,
            connection_window: 2 * WINDOW_MIN,
            connection_window_max: 2 * WINDOW_MIN,
            send_buffer: WINDOW_MIN,
            congestion: self.algorithm,
            ..TransportConfig::default()
        };
        let setup = Setup {
            paths: vec![hops(link, link.rtt, &bottleneck)],
            workload,
            client: transport.clone(),
            server: TransportConfig { careful_resume: memory.cloned(), ..transport },
            client_congestion: Vec::new(),
            retry: RetryPolicy::Never,
            half_open_per_source: HALF_OPEN_PER_SOURCE,
            certificate_names: 1,
            spoofed: None,
            deadline: DEADLINE,
            stall_max: DEADLINE,
            ce_share_max: None,
            bleached: None,
            server_sends_max: None,
            server_workers: None,
            client_workers: None,
        };
        let mut world = build(setup, &mut rng, false)?;
        if memory.is_some_and(|memory| !memory.is_empty()) {
            let jump = if self.algorithm == CongestionAlgorithm::Bbr {
                self.first.product()
            } else {
                self.first.product() / 2
            };
            world.watch(Box::new(JumpLimit::new(jump + SLACK, link.rtt / 2)));
        }
        let start = Instant::from_nanos(0);
        let mut took = Duration::ZERO;
        while world.node(NodeId::client(0)).tally().delivered_bytes < self.bytes {
            took += STEP;
            if took > DEADLINE {
                return Err(format!("{} bytes did not arrive within {DEADLINE:?}", self.bytes));
            }
            world.run_until(start + took)?;
        }
        world.run()?;
        Ok(took)
    }
}

/// The downloads of the table in docs/congestion.md.
pub fn visits() -> Vec<Visit> {
    let mut visits = Vec::new();
    for algorithm in [CongestionAlgorithm::NewReno, CongestionAlgorithm::Cubic, CongestionAlgorithm::Bbr] {
        for (rate, rtt, bytes) in [(10, 600, 1), (10, 600, 5), (50, 300, 5), (100, 100, 1), (100, 100, 5), (100, 30, 1)]
        {
            visits.push(Visit::again(Link::new(rate, rtt, 0.0, 1.0), algorithm, bytes << 20));
        }
        let wide = Link::new(100, 100, 0.0, 1.0);
        let visit = |second| Visit { first: wide, second, algorithm, bytes: 5 << 20 };
        visits.push(visit(Link::new(20, 100, 0.0, 1.0)));
        visits.push(visit(Link::new(5, 100, 0.0, 1.0)));
        visits.push(visit(Link::new(100, 40, 0.0, 1.0)));
    }
    visits
}

/// Measures `visits` and returns them as JSON.
pub fn resume_report(visits: &[Visit], seed: u64) -> Value {
    let rows: Vec<Value> = visits
        .iter()
        .map(|visit| {
            let link = |link: &Link| format!("{} Mbit/s, {} ms", link.bits_per_s / 1_000_000, link.rtt.as_millis());
            let mut row = json!({
                "congestion": name(visit.algorithm), "first": link(&visit.first), "second": link(&visit.second),
                "mib": visit.bytes >> 20,
            });
            match visit.measure(seed) {
                Ok(Times { fresh, resumed }) => {
                    row["fresh_ms"] = (fresh.as_millis() as u64).into();
                    row["resumed_ms"] = (resumed.as_millis() as u64).into();
                }
                Err(error) => row["error"] = error.into(),
            }
            eprintln!("{row}");
            row
        })
        .collect();
    json!({ "seed": seed, "resume": rows })
}
