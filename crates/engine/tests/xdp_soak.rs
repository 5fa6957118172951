//! Connections that come and go over AF_XDP at both ends, in every way in which they can end, and then the account: each
//! frame must be in one place. In debug builds the back end adds its frames up in every turn as well and panics if one is
//! missing. Needs root; without it the story says that it was skipped.
//!
//! The link has two queues, the client two workers and the server three: so packets come to other workers' queues and move
//! on as frames, and one worker, a guest, builds its packets in frames that another one lends it. More guests come and go. The
//! interface goes down again and again, and away at times.
//!
//! It takes some seconds; `WARPLINE_SOAK_SECONDS` makes it longer. With `--nocapture` it says every minute how it stands.
#![cfg(target_os = "linux")]

mod common;
#[path = "../../pktio/tests/common/netns.rs"]
mod netns;

use common::{config, echo, on_worker_number, pair_with, pattern, serve, server_config};
use std::cell::Cell;
use std::ops::Add;
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
/// Connections that come and go at a time, on each worker.
const TASKS: u64 = 12;
const QUEUES: usize = 2;
/// What a guest has to build packets in (`XDP_GUEST_FRAMES`).
const GUEST_FRAMES: usize = 512;
/// One more than there are queues: a guest.
const SERVER_WORKERS: usize = 3;
/// The server's workers from one disturbance to the next. Two own queues.
const CHANGES: [usize; 4] = [5, 2, 4, SERVER_WORKERS];
/// Between two times that the interface goes down for a moment.
const DOWN_EVERY: Duration = Duration::from_secs(3);
/// Every so often it does not go down, but away.
const AWAY_EVERY: u64 = 20;
const TELL_EVERY: Duration = Duration::from_secs(60);
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

impl Add for Churn {
    type Output = Churn;

    fn add(self, other: Churn) -> Churn {
        Churn {
            connections: self.connections + other.connections,
            complete: self.complete + other.complete,
            abandoned: self.abandoned + other.abandoned,
            cut_off: self.cut_off + other.cut_off,
        }
    }
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

/// The connections of one of the client's workers.
fn churn_on(client: &Engine, worker: usize, config: Arc<ClientConfig>, stop: Arc<AtomicBool>) -> Churn {
    on_worker_number(client, worker, move |own| async move {
        let churn = Rc::new(Cell::new(Churn::default()));
        let numbers = (0..TASKS).map(|task| task + worker as u64 * TASKS);
        let start = |task| lives(own.clone(), Arc::clone(&config), task, Arc::clone(&stop), Rc::clone(&churn));
        let tasks: Vec<_> = numbers.map(|task| spawn(start(task)).expect("on its worker")).collect();
        for task in tasks {
            task.await.expect("no connection panics");
        }
        churn.get()
    })
}

/// Has the server so many workers, if there is room for them: those that were removed take a while to finish what they have.
fn scale(server: &Arc<Engine>, client: &Engine, workers: usize) -> bool {
    let server = Arc::clone(server);
    match on_worker_number(client, 0, move |_| async move { server.scale_to(workers).await }) {
        Ok(()) => true,
        Err(error) => {
            assert!(error.to_string().contains("still finishing"), "{error}");
            false
        }
    }
}

/// Takes the interface down again and again, and away at times, changes the number of the server's workers, and says how it
/// stands. Returns how many changes there were.
fn disturb(net: &netns::Pair, server: &Arc<Engine>, client: &Engine, time: Duration) -> usize {
    let (start, mut told, mut changes) = (Instant::now(), Instant::now(), 0);
    for (round, workers) in (1..).zip(CHANGES.into_iter().cycle()) {
        let left = time.saturating_sub(start.elapsed());
        if left.is_zero() {
            break;
        }
        std::thread::sleep(DOWN_EVERY.min(left));
        if round % AWAY_EVERY == 0 {
            net.ip(0, "link del wl0");
            std::thread::sleep(Duration::from_millis(200));
            net.link_again(QUEUES as u32);
        } else {
            net.ip(0, "link set wl0 down");
            std::thread::sleep(Duration::from_millis(200));
            net.ip(0, "link set wl0 up");
        }
        changes += usize::from(scale(server, client, workers));
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            println!("after {} s:", start.elapsed().as_secs());
            [server, client].into_iter().for_each(tell);
        }
    }
    changes
}

/// How an engine stands now: it works, so the numbers of frames are of slightly different moments.
fn tell(engine: &Engine) {
    for (number, worker) in engine.workers().iter().enumerate() {
        let (stats, frames) = (worker.stats(), worker.xdp_frames());
        println!(
            "  worker {number}: {} turns, {} connections now, {} datagrams handed over, {} taken over; {frames:?}",
            stats.turns, stats.connections, stats.handed_over, stats.taken_over
        );
    }
}

/// All frames of an engine that has nothing to do, queue by queue, once as many are with programs as are `lent` to guests.
fn frames_at_rest(engine: &Engine, lent: usize) -> [XdpFrames; QUEUES] {
    let look = |queue: usize| engine.workers()[queue].xdp_frames().expect("it is AF_XDP");
    for _ in 0..600 {
        let frames: [XdpFrames; QUEUES] = std::array::from_fn(look);
        let out: usize = frames.iter().map(|frames| frames.with_program).sum();
        if out == lent && frames.iter().all(|frames| frames.add_up() && frames.sending == 0) {
            return frames;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("frames are missing: {:?}", [0, 1].map(look));
}

#[test]
fn connections_that_come_and_go_leak_no_frame() {
    let Some(net) = netns::Pair::with_queues("soak", QUEUES as u32) else { return };
    let seconds = std::env::var("WARPLINE_SOAK_SECONDS").map_or(SECONDS, |text| text.parse().expect("a number"));
    let transport = || TransportConfig { max_idle_timeout: Some(Duration::from_secs(4)), ..TransportConfig::default() };
    let pair = pair_with(transport(), transport());
    let bound = |config: EngineConfig, bind: &str| EngineConfig { bind: bind.parse().expect("a literal"), ..config };
    let most = CHANGES.into_iter().max().unwrap_or_default();
    let growing = EngineConfig { workers_max: most, ..server_config(&pair, SERVER_WORKERS) };
    let server = Arc::new(start(&net, 0, bound(growing, SERVER)));
    let client = start(&net, 1, bound(config(QUEUES), "10.77.0.2:5000"));
    // The guest has its frames from the beginning.
    let ends = [(&*server, GUEST_FRAMES), (&client, 0)];
    let fresh = ends.map(|(engine, lent)| frames_at_rest(engine, lent));
    let stop = Arc::new(AtomicBool::new(false));
    let (churn, changes) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..QUEUES)
            .map(|worker| {
                let (client, config, stop) = (&client, Arc::clone(&pair.client), Arc::clone(&stop));
                scope.spawn(move || churn_on(client, worker, config, stop))
            })
            .collect();
        let changes = disturb(&net, &server, &client, Duration::from_secs(seconds));
        stop.store(true, Ordering::Relaxed);
        let churns = workers.into_iter().map(|worker| worker.join().expect("no worker panics"));
        (churns.fold(Churn::default(), Add::add), changes)
    });
    // Those that were removed end with their last connections.
    while !scale(&server, &client, SERVER_WORKERS) || server.running().len() > SERVER_WORKERS {
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("{seconds} s, {changes} changes, frames counted in every turn: {}: {churn:?}", cfg!(debug_assertions));
    assert!(changes > 0, "there was no room for any other number of workers");
    assert!(churn.complete > 0 && churn.abandoned > 0, "{churn:?}");
    assert!(churn.cut_off < churn.connections / 4, "{churn:?}");
    for ((engine, lent), fresh) in ends.into_iter().zip(fresh) {
        let frames = frames_at_rest(engine, lent);
        tell(engine);
        for (frames, fresh) in frames.into_iter().zip(fresh) {
            // Which owner has the guest may have changed.
            let all = |frames: XdpFrames| (frames.capacity, frames.kept + frames.with_program);
            assert_eq!(all(frames), all(fresh), "{frames:?} {fresh:?}");
        }
        let stats = engine.stats();
        assert!(stats.handed_over > 0 && stats.taken_over > 0, "frames move between workers: {stats:?}");
        let owners = engine.workers().into_iter().take(QUEUES);
        assert!(owners.map(|worker| worker.io_stats().tx_datagrams).all(|sent| sent > 0), "every owner sends");
    }
}
