//! Connections that come and go over AF_XDP at both ends, in every way in which they can end, and then the account: each
//! frame must be in one place. In debug builds the back end adds its frames up in every turn as well and panics if one is
//! missing. Needs root; without it the story says that it was skipped.
//!
//! It takes some seconds; `WARPLINE_SOAK_SECONDS` makes it longer.
#![cfg(target_os = "linux")]

mod common;
#[path = "../../pktio/tests/common/netns.rs"]
mod netns;

use common::{config, echo, on_worker, pair_with, pattern, serve, server_config};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use warpline_engine::local::{Connection, Worker, sleep, spawn, timeout};
use warpline_engine::{Engine, EngineConfig};
use warpline_pktio::xdp::{InterfaceName, XdpConfig, XdpFrames};
use warpline_pktio::{Backend, IoConfig};
use warpline_proto::config::{ClientConfig, TransportConfig};

const SERVER: &str = "10.77.0.1:4433";
/// Seconds of churn unless the variable says otherwise.
const SECONDS: u64 = 6;
/// Connections that come and go at a time.
const TASKS: u64 = 24;
/// Between two times that the interface goes down for a moment.
const DOWN_EVERY: Duration = Duration::from_secs(3);
/// A connection that takes longer than this was cut off by the interface.
const PATIENCE: Duration = Duration::from_secs(8);

/// What became of the connections.
#[derive(Debug, Default, Clone, Copy)]
struct Churn {
    connections: u64,
    /// Closed by us after everything had come back.
    complete: u64,
    /// Given up in the middle, on purpose.
    abandoned: u64,
    /// Cut off while the interface was down.
    cut_off: u64,
}

fn start(net: &netns::Pair, end: usize, mut config: EngineConfig) -> Engine {
    let interface = InterfaceName::new(&net.interface(end)).expect("a short name");
    let xdp = XdpConfig::new(interface);
    config.io = IoConfig { backend: Backend::Xdp, xdp: Some(xdp), ..IoConfig::default() };
    net.inside(end, || Engine::start(config, serve(echo)).expect("AF_XDP on veth"))
}

/// A stream there and back: read to the end, reset in the middle, stopped in the middle, or simply dropped.
async fn stream(connection: &Connection, seed: u64) -> Result<bool, Box<dyn std::error::Error>> {
    let (mut send, mut recv) = connection.open_bi().await?;
    let data = pattern(seed as usize, (seed % 40_000) as usize + 1);
    send.write_all(&data).await?;
    match seed % 8 {
        0 => send.reset(7)?,
        1 => recv.stop(7)?,
        2 => return Ok(false),
        _ => {
            send.finish()?;
            let mut got = Vec::new();
            // What is read is held for a while, as programs do.
            let mut held = Vec::new();
            while let Some(chunk) = recv.read_chunk(usize::MAX).await? {
                got.extend_from_slice(&chunk);
                held.push(chunk);
            }
            assert_eq!(got, data, "what comes back is what was sent");
            sleep(Duration::from_millis(seed % 3)).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// One connection's life; whether everything it wanted came back.
async fn life(worker: &Worker, config: Arc<ClientConfig>, seed: u64) -> Result<bool, Box<dyn std::error::Error>> {
    let connection = worker.connect(config, SERVER.parse()?, "localhost").await?;
    let mut complete = true;
    for n in 0..=seed % 3 {
        complete &= stream(&connection, seed.wrapping_mul(0x9e37_79b9).wrapping_add(n * 7919) >> 3).await?;
    }
    if complete {
        connection.close(0, b"done");
    }
    Ok(complete)
}

/// Connections one after the other until it is enough.
async fn lives(worker: Worker, config: Arc<ClientConfig>, task: u64, stop: Arc<AtomicBool>, churn: Rc<Cell<Churn>>) {
    let mut seed = task << 32;
    while !stop.load(Ordering::Relaxed) {
        seed += 1;
        let outcome = timeout(PATIENCE, life(&worker, Arc::clone(&config), seed)).await;
        let mut now = churn.get();
        now.connections += 1;
        match outcome {
            Ok(Ok(true)) => now.complete += 1,
            Ok(Ok(false)) => now.abandoned += 1,
            Ok(Err(_)) | Err(_) => now.cut_off += 1,
        }
        churn.set(now);
    }
}

/// All frames of an engine that has nothing to do.
fn frames_at_rest(engine: &Engine) -> XdpFrames {
    let look = || engine.workers()[0].xdp_frames().expect("it is AF_XDP");
    for _ in 0..600 {
        let frames = look();
        if frames.add_up() && frames.with_program == 0 && frames.sending == 0 {
            return frames;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("frames are missing: {:?}", look());
}

#[test]
fn connections_that_come_and_go_leak_no_frame() {
    let Some(net) = netns::Pair::new("soak") else { return };
    let seconds = std::env::var("WARPLINE_SOAK_SECONDS").map_or(SECONDS, |text| text.parse().expect("a number"));
    let transport = || TransportConfig { max_idle_timeout: Some(Duration::from_secs(4)), ..TransportConfig::default() };
    let pair = pair_with(transport(), transport());
    let bound = |config: EngineConfig, bind: &str| EngineConfig { bind: bind.parse().expect("a literal"), ..config };
    let server = start(&net, 0, bound(server_config(&pair, 1), SERVER));
    let client = start(&net, 1, bound(config(1), "10.77.0.2:5000"));
    let (fresh_server, fresh_client) = (frames_at_rest(&server), frames_at_rest(&client));
    let stop = Arc::new(AtomicBool::new(false));
    let churn = std::thread::scope(|scope| {
        scope.spawn(|| {
            let end = Instant::now() + Duration::from_secs(seconds);
            while Instant::now() < end {
                std::thread::sleep(DOWN_EVERY.min(end - Instant::now()));
                net.ip(0, "link set wl0 down");
                std::thread::sleep(Duration::from_millis(200));
                net.ip(0, "link set wl0 up");
            }
            stop.store(true, Ordering::Relaxed);
        });
        let (config, stop) = (Arc::clone(&pair.client), Arc::clone(&stop));
        on_worker(&client, move |worker| async move {
            let churn = Rc::new(Cell::new(Churn::default()));
            let start = |task| lives(worker.clone(), Arc::clone(&config), task, Arc::clone(&stop), Rc::clone(&churn));
            let tasks: Vec<_> = (0..TASKS).map(|task| spawn(start(task)).expect("on its worker")).collect();
            for task in tasks {
                task.await.expect("no connection panics");
            }
            churn.get()
        })
    });
    let served = server.workers()[0].stats();
    println!("{seconds} s: {churn:?}; the server: {} datagrams in {} turns", served.datagrams, served.turns);
    assert!(churn.complete > 0 && churn.abandoned > 0, "{churn:?}");
    assert!(churn.cut_off < churn.connections / 4, "{churn:?}");
    for (engine, fresh) in [(&server, fresh_server), (&client, fresh_client)] {
        let frames = frames_at_rest(engine);
        assert_eq!((frames.capacity, frames.kept), (fresh.capacity, fresh.kept), "{frames:?} {fresh:?}");
        println!("{frames:?}");
    }
}
