//! Scenarios: what the network is like and what the hosts do on it, by topic. Each is a function of a seed.

mod address;
mod amplification;
mod damage;
mod ecn;
mod handshake;
mod load;
mod migration;
mod mtu;
mod outage;
mod rate;
mod workers;

use std::time::Duration;

use warpline_proto::config::{RetryPolicy, TransportConfig};
use warpline_proto::congestion::CongestionAlgorithm;
use warpline_proto::limits::HALF_OPEN_PER_SOURCE;

use crate::app::Workload;
use crate::hop::{Bottleneck, BottleneckConfig, Delay, Hop, Ways};
use crate::spoofer::Spoofing;
use crate::workers::Moving;
use crate::{Instant, Rng};

/// A named way to set up a run.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Draws the details from the seed's generator.
    pub build: fn(&mut Rng) -> Setup,
}

/// Everything that makes a run, but the seed.
#[derive(Debug)]
pub struct Setup {
    /// The hops between each client and the server. One client per path.
    pub paths: Vec<Vec<Box<dyn Hop>>>,
    /// What every client does.
    pub workload: Workload,
    /// The clients' transport.
    pub client: TransportConfig,
    /// The server's transport.
    pub server: TransportConfig,
    /// The controllers of the clients, one each; those that have none here take their transport's.
    pub client_congestion: Vec<CongestionAlgorithm>,
    /// When the server validates addresses.
    pub retry: RetryPolicy,
    /// Handshakes that the server keeps open for one IP address.
    pub half_open_per_source: usize,
    /// Names in the server's certificate, about 30 bytes each.
    pub certificate_names: usize,
    /// First flights of addresses that never answer, and the hops that they take.
    pub spoofed: Option<(Vec<Box<dyn Hop>>, Spoofing)>,
    /// Virtual time for everything.
    pub deadline: Duration,
    /// The longest time without progress.
    pub stall_max: Duration,
    /// The most of the packets of a direction that may arrive with a CE mark, between 0 and 1.
    pub ce_share_max: Option<f64>,
    /// Where a router clears ECN codepoints.
    pub bleached: Option<Ways>,
    /// The most bytes of UDP payload that the server may send.
    pub server_sends_max: Option<u64>,
    /// The server has several workers, and connections move between them.
    pub server_workers: Option<Moving>,
    /// So does each client.
    pub client_workers: Option<Moving>,
}

impl Setup {
    /// One client on a path of these hops, with default settings.
    pub fn new(hops: Vec<Box<dyn Hop>>, workload: Workload) -> Self {
        Self {
            paths: vec![hops],
            workload,
            client: TransportConfig::default(),
            client_congestion: Vec::new(),
            server: TransportConfig::default(),
            retry: RetryPolicy::Never,
            half_open_per_source: HALF_OPEN_PER_SOURCE,
            certificate_names: 1,
            spoofed: None,
            deadline: Duration::from_secs(300),
            stall_max: Duration::from_secs(20),
            ce_share_max: None,
            bleached: None,
            server_sends_max: None,
            server_workers: None,
            client_workers: None,
        }
    }

    /// The most content bytes that all nodes may hold: for each connection, both ends of both directions, and what streams that are
    /// abandoned never deliver.
    pub fn buffered_max(&self) -> u64 {
        let buffers = |from: &TransportConfig, to: &TransportConfig| from.send_buffer + to.connection_window_max;
        let live = buffers(&self.client, &self.server) + buffers(&self.server, &self.client);
        let abandoned = self.workload.undelivered_max();
        self.paths.len() as u64 * (live + abandoned)
    }

    /// The most handshakes that the server may keep open: those that each source may, without Retry addresses that never answer
    /// included. Each worker counts for itself.
    pub fn half_open_max(&self) -> usize {
        let spoofed = self.spoofed.as_ref().map_or(0, |(_, spoofing)| usize::from(spoofing.sources));
        let silent = if self.retry == RetryPolicy::Always { 0 } else { spoofed };
        let workers = self.server_workers.map_or(1, |moving| moving.workers);
        self.half_open_per_source * (self.paths.len() + silent) * workers
    }

    /// Makes windows and buffers small beside what is sent, so that flow control has something to do and
    /// [`buffered_max`](Self::buffered_max) is well below the volume. Smaller ones stay.
    pub(crate) fn tighten(&mut self) {
        let window =
            (self.workload.volume() / u64::from(self.workload.connections.max(1)) / TIGHT_SHARE).max(TIGHT_MIN);
        for transport in [&mut self.client, &mut self.server] {
            for bytes in [
                &mut transport.stream_window,
                &mut transport.stream_window_max,
                &mut transport.connection_window,
                &mut transport.connection_window_max,
                &mut transport.send_buffer,
            ] {
                *bytes = window.min(*bytes);
            }
        }
    }

    /// Virtual time after which both sides have forgotten everything: a side that does not hear of the end waits for its idle
    /// timeout, twice if that began just before, and a few probe timeouts.
    pub(crate) fn forgotten_after(&self) -> Duration {
        let idle = self.client.max_idle_timeout.max(self.server.max_idle_timeout).unwrap_or_default();
        2 * idle + Duration::from_secs(60)
    }

    /// Both sides wait this long before they give up, `None` for ever.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.client.max_idle_timeout = timeout;
        self.server.max_idle_timeout = timeout;
        self
    }
}

/// [`Setup::tighten`] leaves so much of what a connection sends, both ways, for each window and buffer: the four of a connection hold
/// a quarter of it.
const TIGHT_SHARE: u64 = 16;

/// But not less than this: what the smallest transfers need to be done in a few round trips.
const TIGHT_MIN: u64 = 8_000;

/// All scenarios.
pub const ALL: &[Scenario] = &[
    handshake::EACH_FLIGHT_LOST,
    handshake::RETRY_UNDER_LOSS,
    damage::CORRUPTION,
    damage::REORDERING,
    damage::BURST_LOSS,
    outage::BLACK_HOLE,
    outage::PTO_STORM,
    address::PORT_REBINDING,
    address::ADDRESS_CHANGE,
    migration::MIGRATION,
    amplification::AMPLIFICATION,
    ecn::MARKING,
    ecn::BLEACHING,
    mtu::SMALL_PATH,
    mtu::SHRINKING_PATH,
    rate::LONG_RTT,
    rate::TINY_BANDWIDTH,
    rate::HUGE_BANDWIDTH,
    load::MANY_STREAMS,
    load::CHURN,
    load::RESETS,
    load::SLOW_READER,
    load::DATAGRAMS,
    workers::MOVING_WORKERS,
];

/// The scenario of this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

/// The moment `ms` milliseconds after the start.
fn at_ms(ms: u64) -> Instant {
    Instant::from_nanos(0) + Duration::from_millis(ms)
}

/// A one-way delay, drawn from a range of milliseconds.
fn delay(rng: &mut Rng, low_ms: u64, high_ms: u64) -> Box<dyn Hop> {
    Box::new(Delay::new(Duration::from_micros(rng.range(low_ms * 1_000, high_ms * 1_000))))
}

/// A bottleneck with a queue of `queue_ms` milliseconds, at least two packets.
fn bottleneck(bits_per_s: u64, queue_ms: u64) -> Box<dyn Hop> {
    let queue_bytes = (bits_per_s / 8 * queue_ms / 1_000).max(3_000);
    Box::new(Bottleneck::new(BottleneckConfig { bits_per_s, queue_bytes, ce_above_bytes: None }))
}

/// An ordinary link: 2 to 100 Mbit/s, 1 to 60 ms one way, 20 to 200 ms of queue.
fn link(rng: &mut Rng) -> Vec<Box<dyn Hop>> {
    vec![bottleneck(rng.range(2, 100) * 1_000_000, rng.range(20, 200)), delay(rng, 1, 60)]
}
