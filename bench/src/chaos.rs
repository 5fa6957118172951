//! Connections that transfer while workers come and go: every byte verified, no connection lost.
//!
//! With `--io xdp` both are on AF_XDP, in namespaces of their own: workers that come are guests of the one that owns the queue.
//!
//! One process with a server whose number of workers changes every second (1, 3, 2, 5, 1 and so on) and a client. Each
//! connection has blocks echoed on one stream, one after the other, with a pause in between, all of them spread evenly; every byte is a function of its
//! place. What is reported: how long a connection went without an answer at most, how many connections moved, what was
//! dropped between workers, and whether memory grew.
//!
//! Memory is the heap in use as the allocator counts it, when nothing is under way: after the first round of changes, and
//! after the last. Between the two every connection has moved many times, so what stays behind of each move adds up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::sync::watch;
use warpline::{
    Backend, ClientConfig, Connection, Endpoint, EndpointBuilder, Identity, InterfaceName, IoConfig, IoStats,
    ServerConfig, TransportConfig, XdpConfig,
};

use warpline_frame::heap_in_use;

use crate::Result;
use crate::namespaces::{Pair, SERVER};

/// The numbers of workers, in turn, from one on. Each is a change.
const WORKERS: [usize; 4] = [3, 2, 5, 1];

/// Fewer rounds say nothing of growth: the first only gets everything to where it will be.
const ROUNDS_MIN: usize = 3;

/// Handshakes at a time.
const CONNECTING: usize = 64;

/// How much more of the heap may be in use after the last round than after the first, with nothing under way.
const GROWTH_MAX: u64 = 1 << 20;

/// Resident memory may be that much more in the last round than in the first: pools are touched as they are used, so a
/// worker that gets connections for the first time shows as growth.
const RESIDENT_GROWTH_MAX: u64 = 32 << 20;

#[derive(Debug, Parser)]
pub(crate) struct ChaosArgs {
    /// How long to go on, in seconds, after all connections are there; at least three rounds of changes.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// How many connections.
    #[arg(long, default_value_t = 2000)]
    connections: usize,
    /// Bytes of a block.
    #[arg(long, default_value_t = 4096)]
    block: usize,
    /// Milliseconds between two changes.
    #[arg(long, default_value_t = 1000)]
    every: u64,
    /// Milliseconds that a connection pauses between two blocks. With two cores 2,000 connections need a second: they
    /// serve some 19,000 blocks of 4 KiB a second on both sides, and what is beyond that waits.
    #[arg(long, default_value_t = 1000)]
    pause: u64,
    /// The back end of both ends: auto, udp, uring or xdp. The last puts them into namespaces with a virtual link in between, which takes
    /// root.
    #[arg(long, default_value_t)]
    io: Backend,
}

/// What all connections have done together.
#[derive(Default)]
struct Account {
    blocks: AtomicU64,
    bytes: AtomicU64,
    /// The longest time without an answer, in microseconds.
    stall: AtomicU64,
    stop: AtomicBool,
    /// Whether connections are to rest, and how many do.
    rest: watch::Sender<bool>,
    resting: AtomicUsize,
}

impl Account {
    /// What is in use of the heap while no connection has anything under way. `None` if one has ended.
    async fn heap_at_rest(&self, connections: usize, failed: impl Fn() -> bool) -> Option<u64> {
        self.rest.send_replace(true);
        while self.resting.load(Ordering::Acquire) < connections {
            if failed() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The last acknowledgements are out after the longest time that one may be held back.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let used = heap_in_use();
        self.rest.send_replace(false);
        used
    }
}

fn fill(buf: &mut [u8], seed: u64, offset: u64) {
    for (place, byte) in (offset..).zip(buf) {
        *byte = (place.wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503)) >> 11) as u8;
    }
}

/// Resident memory in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok()).unwrap_or_default();
    pages * 4096
}

/// Both ends, what to connect with, and the link if it is not the loopback.
fn endpoints(backend: Backend) -> Result<(Option<Pair>, Endpoint, Endpoint, Arc<ClientConfig>)> {
    let id = Identity::generate(["localhost"])?;
    // What all connections have under way fits into the pools.
    let transport = TransportConfig {
        stream_window: 64 << 10,
        stream_window_max: 64 << 10,
        connection_window: 64 << 10,
        connection_window_max: 64 << 10,
        ..TransportConfig::default()
    };
    let server = ServerConfig::with_single_cert(vec![id.certificate.clone()], id.key(), &[b"chaos"])?;
    let client = ClientConfig::with_pinned_fingerprint(&id.fingerprint().0, &[b"chaos"])?;
    let (server, client) = (server.transport(transport.clone())?, client.transport(transport)?);
    let most = WORKERS.into_iter().max().unwrap_or(1);
    let link = (backend == Backend::Xdp).then(Pair::new).transpose()?;
    let server = start(link.as_ref(), 0, backend, Endpoint::builder().workers(1).max_workers(most).server(server))?;
    let connecting = start(link.as_ref(), 1, backend, Endpoint::builder())?;
    Ok((link, server, connecting, Arc::new(client)))
}

/// Starts one end on the loopback or at its end of the link.
fn start(link: Option<&Pair>, end: usize, backend: Backend, builder: EndpointBuilder) -> Result<Endpoint> {
    let io = IoConfig { backend, ..IoConfig::default() };
    let Some(link) = link else { return Ok(builder.bind(([127, 0, 0, 1], 0)).io(io).start()?) };
    let xdp = XdpConfig::new(InterfaceName::new(&format!("wl{end}"))?);
    let address: SocketAddr = if end == 0 { SERVER.parse()? } else { ([0, 0, 0, 0], 0).into() };
    let builder = builder.bind(address).io(IoConfig { xdp: Some(xdp), ..io });
    link.inside(end, || Ok(builder.start()?))
}

async fn serve(connection: Connection) {
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        tokio::spawn(async move {
            while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX).await {
                if send.write_chunk(chunk).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// What a connection is to do.
#[derive(Clone, Copy)]
struct Work {
    /// Bytes.
    block: usize,
    /// Between two blocks.
    pause: Duration,
    /// How much later than the first connection this one begins: together they are as even a load as can be.
    delay: Duration,
}

/// Has blocks echoed until told to stop. An error says what went wrong.
async fn exchange(connection: Connection, seed: u64, work: Work, account: Arc<Account>) -> Result<()> {
    let (mut send, mut recv) = connection.open_bi().await?;
    let (mut sent, mut back) = (vec![0; work.block], vec![0; work.block]);
    let mut offset = 0;
    tokio::time::sleep(work.delay).await;
    while !account.stop.load(Ordering::Relaxed) {
        fill(&mut sent, seed, offset);
        let asked = Instant::now();
        send.write_all(&sent).await?;
        recv.read_exact(&mut back).await?;
        if sent != back {
            return Err(format!("connection {seed}: wrong bytes after {offset}").into());
        }
        let took = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
        account.stall.fetch_max(took, Ordering::Relaxed);
        account.blocks.fetch_add(1, Ordering::Relaxed);
        account.bytes.fetch_add(2 * sent.len() as u64, Ordering::Relaxed);
        offset += sent.len() as u64;
        tokio::time::sleep(work.pause).await;
        let mut rest = account.rest.subscribe();
        if *rest.borrow_and_update() {
            account.resting.fetch_add(1, Ordering::Release);
            // The account has the other end.
            let _ = rest.wait_for(|rest| !rest).await;
            account.resting.fetch_sub(1, Ordering::Release);
            tokio::time::sleep(work.delay).await;
        }
    }
    Ok(())
}

/// Runs it. An error if a connection was lost or a byte was wrong.
pub(crate) fn run(args: &ChaosArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(chaos(args))
}

async fn chaos(args: &ChaosArgs) -> Result<()> {
    // The link goes last.
    let (_link, server, client, config) = endpoints(args.io)?;
    let to = server.local_addr();
    let accepting = server.clone();
    tokio::spawn(async move {
        while let Some(connection) = accepting.accept().await {
            tokio::spawn(serve(connection));
        }
    });
    let account = Arc::new(Account::default());
    let mut tasks = Vec::new();
    let mut pending = tokio::task::JoinSet::new();
    let pause = Duration::from_millis(args.pause);
    let mut connected = Vec::new();
    for _ in 0..args.connections {
        if pending.len() >= CONNECTING
            && let Some(done) = pending.join_next().await
        {
            connected.push(done??);
        }
        let (client, config) = (client.clone(), Arc::clone(&config));
        pending.spawn(async move { client.connect(to, "localhost", config).await });
    }
    while let Some(done) = pending.join_next().await {
        connected.push(done??);
    }
    for (seed, connection) in (0..).zip(connected) {
        let work = Work { block: args.block, pause, delay: pause.mul_f64(seed as f64 / args.connections as f64) };
        tasks.push(tokio::spawn(exchange(connection, seed, work, Arc::clone(&account))));
    }
    println!(
        "{} connections that have blocks of {} bytes echoed, {} ms pause in between",
        args.connections, args.block, args.pause
    );
    println!("one worker for two seconds, then a change every {} ms for {} s", args.every, args.seconds);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let calm = Duration::from_micros(account.stall.swap(0, Ordering::Relaxed));
    let mut seen = Seen { calm, ..Seen::default() };
    let failed = || tasks.iter().any(tokio::task::JoinHandle::is_finished);
    let began = Instant::now();
    while !failed() && (began.elapsed() < Duration::from_secs(args.seconds) || seen.rounds < ROUNDS_MIN) {
        for workers in WORKERS {
            let change = Instant::now();
            server.scale_to(workers).await?;
            seen.slowest = seen.slowest.max(change.elapsed());
            seen.changes += 1;
            tokio::time::sleep(Duration::from_millis(args.every).saturating_sub(change.elapsed())).await;
        }
        seen.rounds += 1;
        seen.resident.push(resident());
        if seen.rounds == 1 {
            seen.heap.0 = account.heap_at_rest(args.connections, failed).await;
        }
    }
    seen.heap.1 = account.heap_at_rest(args.connections, failed).await;
    account.stop.store(true, Ordering::Relaxed);
    let mut lost = 0;
    for task in tasks {
        if let Err(error) = task.await? {
            eprintln!("{error}");
            lost += 1;
        }
    }
    report((&server, &client), &account, &seen);
    client.shutdown(0, b"").await;
    server.shutdown(0, b"").await;
    if lost > 0 {
        return Err(format!("{lost} of {} connections failed", args.connections).into());
    }
    seen.judge()
}

/// What the changes were like.
#[derive(Default)]
struct Seen {
    /// The longest wait before them.
    calm: Duration,
    slowest: Duration,
    changes: usize,
    rounds: usize,
    /// In use with nothing under way, after the first round and after the last.
    heap: (Option<u64>, Option<u64>),
    /// After each round.
    resident: Vec<u64>,
}

impl Seen {
    /// An error if memory grew.
    fn judge(&self) -> Result<()> {
        let (Some(first), Some(last)) = self.heap else { return Err("memory could not be looked at".into()) };
        let grown = last.saturating_sub(first);
        if grown > GROWTH_MAX {
            return Err(format!("the heap in use grew by {grown} bytes in {} changes", self.changes).into());
        }
        let resident = self.resident.last().zip(self.resident.first());
        let grown = resident.map_or(0, |(last, first)| last.saturating_sub(*first));
        if grown > RESIDENT_GROWTH_MAX {
            return Err(
                format!("memory grew by {} MiB from the first round of changes to the last", grown >> 20).into()
            );
        }
        Ok(())
    }
}

fn report((server, client): (&Endpoint, &Endpoint), account: &Account, seen: &Seen) {
    let stats = server.stats();
    let Seen { calm, slowest, changes, rounds, heap, resident } = seen;
    let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
    let stall = Duration::from_micros(load(&account.stall));
    println!("changes of the number of workers   {changes}, the slowest {slowest:.1?}");
    println!("connections moved                  {}", stats.moved_in);
    println!("blocks echoed, bytes verified      {}, {}", load(&account.blocks), load(&account.bytes));
    println!("longest wait for an answer         {stall:.1?} with changes, {calm:.1?} before them");
    println!("datagrams handed over, dropped     {}, {}", stats.handed_over, stats.handover_dropped);
    let sum = |of: fn(&IoStats) -> u64| [server, client].map(|end| end.io_stats().iter().map(of).sum::<u64>());
    println!("of server (workers of the end) and client:");
    println!("  datagrams received               {:?}", sum(|io| io.rx_datagrams));
    println!("  messages copied to lesser frames {:?}", sum(|io| io.rx_copied));
    println!("  datagrams put on the heap        {:?}", sum(|io| io.rx_spilled));
    println!("  bytes of it still there          {:?}", sum(|io| io.spilled_bytes));
    println!("  dropped for want of memory       {:?}", sum(|io| io.drop_rx_no_memory));
    let bytes = |used: Option<u64>| used.map_or("–".to_owned(), |used| used.to_string());
    println!(
        "heap in use at rest, bytes         {} after the first round, {} after round {rounds}",
        bytes(heap.0),
        bytes(heap.1)
    );
    let mib = |bytes: Option<&u64>| bytes.copied().unwrap_or_default() >> 20;
    println!(
        "resident memory MiB                {} after the first round, {} after the last",
        mib(resident.first()),
        mib(resident.last())
    );
}
