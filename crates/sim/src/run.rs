//! One run: a scenario with a seed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use warpline_proto::Endpoint;
use warpline_proto::config::{ClientConfig, EndpointConfig, ServerConfig, TransportConfig};

use crate::app::{ALPN, Client, Server};
use crate::check::{
    AntiAmplification, BleachedLimit, BufferLimit, CeShareLimit, HalfOpenLimit, InitialSize, Liveness, VolumeLimit,
    check_delivery, check_leaks,
};
use crate::host::Host;
use crate::log::{self, Log};
use crate::path::Path;
use crate::scenario::{Scenario, Setup};
use crate::spoofer::Spoofer;
use crate::workers::{Moving, Workers};
use crate::world::{Limits, NodeId, World};
use crate::{Instant, Node, Report, Rng, address};

/// Bounds the real time of a run that goes wrong; the largest scenario needs about a tenth.
const EVENTS_MAX: u64 = 5_000_000;

/// For how long nodes may gather what arrives, one of them in each run: not at all, as cards and drivers do, and as a program that has to
/// wait for its turn.
const GATHER: [Duration; 4] =
    [Duration::ZERO, Duration::from_micros(20), Duration::from_micros(200), Duration::from_millis(1)];

/// The share of runs in which windows and buffers are small beside what is sent.
const TIGHT: f64 = 0.5;

/// Packets that a sender may mark as ECN-capable before it knows that the path clears it: ten (RFC 9000, appendix A.4), and as many
/// beside them that do not count as in flight or are in the train of the tenth.
const BLEACHED_MAX: u64 = 20;

/// What a run that went well was like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Hash of the event log: the same seed gives the same one.
    pub hash: u64,
    /// Events on the network.
    pub events: u64,
    /// Virtual time until the clients were done.
    pub took: Duration,
}

/// What went wrong, and how to see it again.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The scenario's name.
    pub scenario: &'static str,
    /// The seed.
    pub seed: u64,
    /// What is wrong.
    pub what: String,
    /// The clients' reports and then the server's.
    pub reports: Vec<Report>,
    /// The last events before it.
    pub tail: Vec<log::Entry>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, seed, what, reports, tail } = self;
        writeln!(f, "scenario {scenario}, seed {seed}: {what}")?;
        for entry in tail.iter().rev().take(20).rev() {
            writeln!(f, "  {entry}")?;
        }
        for report in reports {
            writeln!(f, "  {report:?}")?;
        }
        write!(f, "again: cargo run --release -p warpline-sim -- --scenario {scenario} --seed {seed} --verbose")
    }
}

impl std::error::Error for Failure {}

/// Runs `scenario` with `seed`.
///
/// # Errors
///
/// What a checker found, or that the code under test panicked.
pub fn run(scenario: &Scenario, seed: u64, verbose: bool) -> Result<Outcome, Box<Failure>> {
    catch_unwind(AssertUnwindSafe(|| try_run(scenario, seed, verbose))).unwrap_or_else(|_| {
        // The panic's message and its place are on the standard error stream already.
        let what = "panicked".to_owned();
        Err(Box::new(Failure { scenario: scenario.name, seed, what, reports: Vec::new(), tail: Vec::new() }))
    })
}

fn try_run(scenario: &Scenario, seed: u64, verbose: bool) -> Result<Outcome, Box<Failure>> {
    let mut rng = Rng::new(seed);
    let mut setup = (scenario.build)(&mut rng);
    if rng.chance(TIGHT) {
        setup.tighten();
    }
    let forgotten_after = setup.forgotten_after();
    let fail = |what: String, world: Option<&World>| {
        Box::new(Failure {
            scenario: scenario.name,
            seed,
            what,
            reports: world.map(reports).unwrap_or_default(),
            tail: world.map(|world| world.log().tail().copied().collect()).unwrap_or_default(),
        })
    };
    let mut world = build(setup, &mut rng, verbose).map_err(|error| fail(error, None))?;
    world.gather(GATHER[rng.below(GATHER.len() as u64) as usize]);
    world.run().map_err(|what| fail(what, Some(&world)))?;
    let mut clients = reports(&world);
    let server = clients.pop().unwrap_or_default();
    check_delivery(&clients, &server).map_err(|what| fail(what, Some(&world)))?;
    let done_at = world.now();
    let ended = world.wind_down(done_at + forgotten_after).and_then(|()| check_leaks(world.nodes()));
    ended.map_err(|what| fail(what, Some(&world)))?;
    let log = world.log();
    Ok(Outcome { hash: log.hash(), events: log.events(), took: done_at - Instant::from_nanos(0) })
}

/// The clients' reports and then the server's.
fn reports(world: &World) -> Vec<Report> {
    let clients = (0..world.clients_len()).map(NodeId::client);
    clients.chain([NodeId::SERVER]).map(|id| world.node(id).report()).collect()
}

/// The world of a setup, watched by the checkers.
pub(crate) fn build(setup: Setup, rng: &mut Rng, verbose: bool) -> Result<World, String> {
    let (buffered_max, half_open_max) = (setup.buffered_max(), setup.half_open_max());
    let Setup { paths, workload, client, client_congestion, server, retry, .. } = setup;
    let Setup {
        ce_share_max,
        bleached,
        deadline,
        stall_max,
        server_sends_max,
        half_open_per_source,
        certificate_names,
        spoofed,
        server_workers,
        client_workers,
        ..
    } = setup;
    let endpoint_config = Arc::new(EndpointConfig::new(&rng.seed()));
    let Identity { certificate, key } = identity(certificate_names)?;
    let mut server_config =
        ServerConfig::with_single_cert(vec![certificate], key, &[ALPN]).map_err(|error| error.to_string())?;
    server_config.retry = retry;
    server_config.half_open_per_source = half_open_per_source;
    let server_config = server_config.transport(server).and_then(|config| config.early_data(workload.early_data));
    let server_config = server_config.map_err(|error| error.to_string())?;
    let workers = make_workers(&endpoint_config, Some(&Arc::new(server_config)), server_workers, rng);
    let server = Host::new(address::SERVER, workers, Server::new(workload.chunk_max));

    let mut least_rtt = Duration::MAX;
    let mut clients: Vec<(Box<dyn Node>, Path)> = Vec::new();
    for (index, hops) in (0u16..).zip(paths) {
        // One TLS configuration each: it holds the session tickets, which must not leak from run to run.
        let congestion = client_congestion.get(usize::from(index)).copied().unwrap_or(client.congestion);
        let transport = TransportConfig { congestion, ..client.clone() };
        let config = ClientConfig::insecure(&[ALPN]).and_then(|config| config.transport(transport));
        let mut config = config.map_err(|error| error.to_string())?;
        config.early_data = workload.early_data;
        let workers = make_workers(&Arc::new(EndpointConfig::new(&rng.seed())), None, client_workers, rng);
        let starts_at = Instant::from_nanos(0) + workload.apart * u32::from(index);
        let app = Client::new(Arc::new(config), workload.clone(), rng.fork(), starts_at);
        let path = Path::new(hops, rng.fork());
        least_rtt = least_rtt.min(2 * path.least_delay());
        clients.push((Box::new(Host::new(address::client(index), workers, app)), path));
    }

    if let Some((hops, spoofing)) = spoofed {
        let index = clients.len() as u16;
        let config = ClientConfig::insecure(&[ALPN]).map_err(|error| error.to_string())?;
        let path = Path::new(hops, rng.fork());
        least_rtt = least_rtt.min(2 * path.least_delay());
        clients.push((Box::new(Spoofer::new(index, config, spoofing, rng.fork())), path));
    }

    let limits = Limits { deadline, events_max: EVENTS_MAX };
    let mut world = World::new(Box::new(server), clients, limits, Log::new(verbose));
    world.watch(Box::new(AntiAmplification::new(least_rtt)));
    world.watch(Box::new(InitialSize::default()));
    world.watch(Box::new(Liveness::new(stall_max)));
    if let Some(share_max) = ce_share_max {
        world.watch(Box::new(CeShareLimit::new(share_max)));
    }
    if let Some(ways) = bleached {
        world.watch(Box::new(BleachedLimit::new(ways, BLEACHED_MAX)));
    }
    if let Some(bytes_max) = server_sends_max {
        world.watch(Box::new(VolumeLimit::new(NodeId::SERVER, bytes_max)));
    }
    world.watch(Box::new(BufferLimit::new(buffered_max)));
    world.watch(Box::new(HalfOpenLimit::new(half_open_max)));
    Ok(world)
}

/// The workers of a host: one, or several that connections move between.
fn make_workers(
    config: &Arc<EndpointConfig>,
    server: Option<&Arc<ServerConfig>>,
    moving: Option<Moving>,
    rng: &mut Rng,
) -> Workers {
    let endpoint = |seed| Endpoint::new(Arc::clone(config), server.cloned(), seed);
    match moving {
        Some(moving) => Workers::several(moving, rng.fork(), endpoint),
        None => Workers::one(endpoint(rng.seed())),
    }
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Identity {
    /// Signed by itself.
    pub certificate: CertificateDer<'static>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

/// A certificate whose signatures have one length. With ECDSA the handshake's datagrams would differ in size from run to
/// run; the serial number is fixed for the same reason. It is for `localhost` and `names` less one others.
///
/// # Errors
///
/// If it cannot be made.
pub fn identity(names: usize) -> Result<Identity, String> {
    type Made = (CertificateDer<'static>, Vec<u8>);
    static IDENTITIES: Mutex<BTreeMap<usize, Made>> = Mutex::new(BTreeMap::new());
    let make = || -> Result<Made, rcgen::Error> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        let others = (1..names).map(|nth| format!("host-{nth:03}.of.many.example.net"));
        let mut params =
            rcgen::CertificateParams::new(iter::once("localhost".to_owned()).chain(others).collect::<Vec<_>>())?;
        params.serial_number = Some(1u64.into());
        let certificate = params.self_signed(&key)?;
        Ok((certificate.der().clone(), key.serialize_der()))
    };
    let mut identities = IDENTITIES.lock().unwrap_or_else(PoisonError::into_inner);
    let (certificate, key) = match identities.entry(names) {
        Entry::Occupied(made) => made.get().clone(),
        Entry::Vacant(place) => place.insert(make().map_err(|error| error.to_string())?).clone(),
    };
    Ok(Identity { certificate, key: PrivatePkcs8KeyDer::from(key).into() })
}
