//! Congestion controllers over simulated links: how much of a link a flow uses, and how two flows share one.
//!
//! Each cell is one link: a rate, a round-trip time, random loss of the packets towards the client, and a drop-tail queue.
//! Production endpoints download over it in virtual time, so that 10 Gbit/s and 300 ms need no more than patience.

mod grid;
mod nodes;
mod picture;
mod resume;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use warpline_proto::config::{RetryPolicy, TransportConfig};
use warpline_proto::congestion::CongestionAlgorithm;
use warpline_proto::limits::HALF_OPEN_PER_SOURCE;

pub use grid::{ALGORITHMS, Fairness, Link, fairness, grid};
pub use nodes::{Place, measure_nodes};
pub use picture::{Scale, heat_map, resume_table, table};
pub use resume::{Times, Visit, resume_report, visits};

use crate::app::Workload;
use crate::hop::{Bottleneck, BottleneckConfig, Delay, Direction, Hop, Loss, Shared, Ways};
use crate::run::build;
use crate::scenario::Setup;
use crate::world::{NodeId, World};
use crate::{Instant, Rng, Tally};

/// UDP payload of a full packet.
pub const PAYLOAD: u16 = 1_452;
/// Content bytes in a full packet: without header, tag and the frame's head.
const CONTENT: f64 = 1_452.0 - 32.0;
/// The same packet on the link, with the headers of IPv4 and UDP.
const WIRE: f64 = 1_480.0;
/// The least queue: two full packets.
const QUEUE_MIN: u64 = 3_000;
/// The least buffer of a sender whose flow is measured by what its buffer takes.
const BUFFER_MIN: u64 = 128 << 10;
/// Windows and buffers are at least this large, and as large as the link and its queue several times over.
const WINDOW_MIN: u64 = 32 << 20;

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Content bits per second of each flow, over the measured part.
    pub goodput: Vec<f64>,
    /// The sum as a share of what the link can carry in content.
    pub share: f64,
    /// Jain's index of the flows: 1 when all get the same.
    pub jain: f64,
}

/// The name of `algorithm` in results.
pub fn name(algorithm: CongestionAlgorithm) -> &'static str {
    match algorithm {
        CongestionAlgorithm::NewReno => "newreno",
        CongestionAlgorithm::Cubic => "cubic",
        CongestionAlgorithm::Bbr => "bbr",
    }
}

/// Runs `flows` flows under `algorithm` over `link`, each begun some time after the one before, and measures from `from`
/// to `until`.
///
/// # Errors
///
/// What went wrong in the world: a host that loops, or a configuration that is refused.
pub fn measure(link: &Link, algorithm: CongestionAlgorithm, flows: &Flows, seed: u64) -> Result<Outcome, String> {
    let mut rng = Rng::new(seed);
    let mut world = world(link, algorithm, flows, &mut rng)?;
    let delivered = |tally: Tally| tally.delivered_bytes;
    let goodput = observed(&mut world, flows, delivered)?;
    Ok(Outcome::new(goodput, link))
}

/// The same for two flows that may differ: in the controller, and in the round-trip time. The flows are uploads, so that each has a sender of
/// its own.
///
/// # Errors
///
/// As [`measure`].
pub fn measure_pair(pair: &Fairness, seed: u64) -> Result<Outcome, String> {
    let mut rng = Rng::new(seed);
    let link = &pair.link;
    let bottleneck = bottleneck(link);
    let rtts = [link.rtt, pair.other_rtt];
    let mut setup = setup(link, pair.algorithms[0], &pair.flows);
    setup.paths = rtts.iter().map(|rtt| hops(link, *rtt, &bottleneck)).collect();
    setup.client_congestion = pair.algorithms.to_vec();
    for exchange in &mut setup.workload.exchanges {
        (exchange.upload, exchange.download) = (exchange.download, 0);
    }
    // What the buffer takes is what was acknowledged, once it is full: it holds what a window does, and no more.
    setup.client.send_buffer = BUFFER_MIN.max(4 * link.product() + 2 * link.queue_bytes());
    let mut world = build(setup, &mut rng, false)?;
    let goodput = observed(&mut world, &pair.flows, |tally| tally.accepted_bytes)?;
    Ok(Outcome::new(goodput, link))
}

/// Bits per second of each client, of what `count` says, in the measured part.
fn observed(world: &mut World, flows: &Flows, count: impl Fn(Tally) -> u64) -> Result<Vec<f64>, String> {
    let all = |world: &World| -> Vec<u64> {
        (0..world.clients_len()).map(|index| count(world.node(NodeId::client(index)).tally())).collect()
    };
    let start = Instant::from_nanos(0);
    world.run_until(start + flows.from)?;
    let before = all(world);
    world.run_until(start + flows.until)?;
    let seconds = (flows.until - flows.from).as_secs_f64();
    Ok(all(world).iter().zip(&before).map(|(after, before)| (after - before) as f64 * 8.0 / seconds).collect())
}

impl Outcome {
    fn new(goodput: Vec<f64>, link: &Link) -> Self {
        let sum: f64 = goodput.iter().sum();
        let squares: f64 = goodput.iter().map(|g| g * g).sum();
        let jain = if squares > 0.0 { sum * sum / (goodput.len() as f64 * squares) } else { 0.0 };
        Self { share: sum / (link.bits_per_s as f64 * CONTENT / WIRE), goodput, jain }
    }
}

/// How many flows, and when they are measured.
#[derive(Debug, Clone, Copy)]
pub struct Flows {
    /// How many.
    pub count: u32,
    /// Each begins so much later than the one before.
    pub apart: Duration,
    /// The measured part begins.
    pub from: Duration,
    /// The measured part ends.
    pub until: Duration,
}

impl Flows {
    /// One flow, measured in the last two thirds of `time`.
    pub fn one(time: Duration) -> Self {
        Self { count: 1, apart: Duration::ZERO, from: time / 3, until: time }
    }

    /// One flow, measured from its first packet on, handshake and start included.
    pub fn from_start(time: Duration) -> Self {
        Self { count: 1, apart: Duration::ZERO, from: Duration::ZERO, until: time }
    }
}

/// The link's queue, for all that go over it.
fn bottleneck(link: &Link) -> Shared {
    let config =
        BottleneckConfig { bits_per_s: link.bits_per_s, queue_bytes: link.queue_bytes(), ce_above_bytes: None };
    Shared::new(Bottleneck::new(config))
}

/// A path over the link with a round-trip time of its own.
fn hops(link: &Link, rtt: Duration, bottleneck: &Shared) -> Vec<Box<dyn Hop>> {
    let mut hops: Vec<Box<dyn Hop>> = vec![Box::new(Delay::new(rtt / 2)), Box::new(bottleneck.clone())];
    if link.loss > 0.0 {
        hops.push(Box::new(Loss::new(Ways::Only(Direction::Down), link.loss)));
    }
    hops
}

fn world(link: &Link, algorithm: CongestionAlgorithm, flows: &Flows, rng: &mut Rng) -> Result<World, String> {
    build(setup(link, algorithm, flows), rng, false)
}

fn setup(link: &Link, algorithm: CongestionAlgorithm, flows: &Flows) -> Setup {
    let bottleneck = bottleneck(link);
    let volume = link.bits_per_s / 8 * (flows.until.as_secs() + 1);
    let mut workload = Workload::streams(1, 0, volume);
    workload.chunk_max = 64 << 10;
    workload.apart = flows.apart;
    let window = link.window();
    let transport = TransportConfig {
        initial_mtu: PAYLOAD,
        mtu_ceiling: PAYLOAD,
        stream_window: window,
        stream_window_max: window,
        connection_window: 2 * window,
        connection_window_max: 2 * window,
        send_buffer: window,
        congestion: algorithm,
        ..TransportConfig::default()
    };
    Setup {
        paths: (0..flows.count).map(|_| hops(link, link.rtt, &bottleneck)).collect(),
        workload,
        client: transport.clone(),
        client_congestion: Vec::new(),
        server: transport,
        retry: RetryPolicy::Never,
        half_open_per_source: HALF_OPEN_PER_SOURCE,
        certificate_names: 1,
        spoofed: None,
        deadline: flows.until,
        stall_max: flows.until,
        ce_share_max: None,
        bleached: None,
        server_sends_max: None,
        server_workers: None,
        client_workers: None,
    }
}

/// Runs the grid and the fairness cells, `jobs` at a time, and returns everything as JSON. `flow` says when the one flow of a
/// cell of the grid is measured.
pub fn report(
    links: &[(Link, CongestionAlgorithm)],
    flow: impl Fn(&Link) -> Flows + Sync,
    pairs: &[Fairness],
    jobs: usize,
    seed: u64,
) -> Value {
    let singles = in_parallel(links, jobs, |(link, algorithm)| {
        let flows = flow(link);
        let outcome = measure(link, *algorithm, &flows, seed);
        let mut value = link.json();
        value["congestion"] = name(*algorithm).into();
        value["seconds"] = flows.until.as_secs_f64().into();
        if flows.from.is_zero() {
            value["from_start"] = true.into();
        }
        fill(&mut value, &outcome);
        value
    });
    let pairs = in_parallel(pairs, jobs, |pair| {
        let outcome = measure_pair(pair, seed);
        let mut value = pair.link.json();
        let [one, other] = pair.algorithms.map(name);
        value["congestion"] = if one == other { one.to_owned() } else { format!("{one}+{other}") }.into();
        value["other_rtt_ms"] = (pair.other_rtt.as_millis() as u64).into();
        value["seconds"] = pair.flows.until.as_secs_f64().into();
        fill(&mut value, &outcome);
        value
    });
    json!({ "seed": seed, "grid": singles, "fairness": pairs })
}

fn fill(value: &mut Value, outcome: &Result<Outcome, String>) {
    match outcome {
        Ok(Outcome { goodput, share, jain }) => {
            let rounded = |x: f64| (x * 10_000.0).round() / 10_000.0;
            let mbit: Vec<f64> = goodput.iter().map(|bits| rounded(bits / 1e6)).collect();
            value["goodput_mbit"] = mbit.into();
            value["share"] = rounded(*share).into();
            value["jain"] = rounded(*jain).into();
        }
        Err(error) => value["error"] = error.clone().into(),
    }
    eprintln!("{value}");
}

/// `work` on each of `items`, in order, on `jobs` threads.
pub fn in_parallel<T: Sync>(items: &[T], jobs: usize, work: impl Fn(&T) -> Value + Sync) -> Vec<Value> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(vec![Value::Null; items.len()]));
    let take = || {
        while let Some((index, item)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            items.get(index).map(|item| (index, item))
        } {
            let value = work(item);
            if let Some(slot) = done.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
                *slot = value;
            }
        }
    };
    thread::scope(|scope| (0..jobs.max(1)).for_each(|_| drop(scope.spawn(take))));
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}
