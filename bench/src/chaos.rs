//! Connections that transfer while workers come and go: every byte verified, no connection lost.
//!
//! One process with a server whose number of workers changes every second (1, 3, 2, 5, 1 and so on) and a client. Each
//! connection has blocks echoed on one stream, one after the other; every byte is a function of its place. What is
//! reported: how long a connection went without an answer at most, how many connections moved, what was dropped between
//! workers, and whether memory grew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use warpline::{ClientConfig, Connection, Endpoint, Identity, IoStats, ServerConfig, TransportConfig};

use crate::Result;

/// The numbers of workers, in turn.
const WORKERS: [usize; 5] = [3, 2, 5, 1, 1];

/// Handshakes at a time.
const CONNECTING: usize = 64;

/// Resident memory may be that much more in the last round than in the first: pools are touched as they are used, so a
/// worker that gets connections for the first time shows as growth. A leak of one small frame per move would be more.
const GROWTH_MAX: u64 = 32 << 20;

#[derive(Debug, Parser)]
pub(crate) struct ChaosArgs {
    /// How long to go on, in seconds, after all connections are there.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How many connections.
    #[arg(long, default_value_t = 200)]
    connections: usize,
    /// Bytes of a block.
    #[arg(long, default_value_t = 4096)]
    block: usize,
    /// Milliseconds between two changes.
    #[arg(long, default_value_t = 1000)]
    every: u64,
    /// Milliseconds that a connection pauses between two blocks.
    #[arg(long, default_value_t = 20)]
    pause: u64,
}

/// What all connections have done together.
#[derive(Default)]
struct Account {
    blocks: AtomicU64,
    bytes: AtomicU64,
    /// The longest time without an answer, in microseconds.
    stall: AtomicU64,
    stop: AtomicBool,
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

fn endpoints() -> Result<(Endpoint, Endpoint, Arc<ClientConfig>)> {
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
    let loopback = ([127, 0, 0, 1], 0);
    let server = Endpoint::builder().bind(loopback).workers(1).max_workers(most).server(server).start()?;
    Ok((server, Endpoint::builder().bind(loopback).start()?, Arc::new(client)))
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

/// Has blocks echoed until told to stop. An error says what went wrong.
async fn exchange(connection: Connection, seed: u64, args: (usize, Duration), account: Arc<Account>) -> Result<()> {
    let (mut send, mut recv) = connection.open_bi().await?;
    let (mut sent, mut back) = (vec![0; args.0], vec![0; args.0]);
    let mut offset = 0;
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
        tokio::time::sleep(args.1).await;
    }
    Ok(())
}

/// Runs it. An error if a connection was lost or a byte was wrong.
pub(crate) fn run(args: &ChaosArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(chaos(args))
}

async fn chaos(args: &ChaosArgs) -> Result<()> {
    let (server, client, config) = endpoints()?;
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
    let work = (args.block, Duration::from_millis(args.pause));
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
        tasks.push(tokio::spawn(exchange(connection, seed, work, Arc::clone(&account))));
    }
    println!("{} connections; one worker for two seconds, then a change every {} ms", args.connections, args.every);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let calm = Duration::from_micros(account.stall.swap(0, Ordering::Relaxed));
    let (began, mut memory) = (Instant::now(), Vec::new());
    let mut slowest = Duration::ZERO;
    let (mut changes, mut numbers) = (0, WORKERS.into_iter().cycle());
    while began.elapsed() < Duration::from_secs(args.seconds) {
        let change = Instant::now();
        server.scale_to(numbers.next().unwrap_or(1)).await?;
        slowest = slowest.max(change.elapsed());
        changes += 1;
        if changes % WORKERS.len() == 0 {
            memory.push(resident());
        }
        tokio::time::sleep(Duration::from_millis(args.every).saturating_sub(change.elapsed())).await;
        if tasks.iter().any(tokio::task::JoinHandle::is_finished) {
            break;
        }
    }
    account.stop.store(true, Ordering::Relaxed);
    let mut lost = 0;
    for task in tasks {
        if let Err(error) = task.await? {
            eprintln!("{error}");
            lost += 1;
        }
    }
    report((&server, &client), &account, (calm, slowest, changes), &memory);
    let grown = memory.last().zip(memory.first()).map_or(0, |(last, first)| last.saturating_sub(*first));
    client.shutdown(0, b"").await;
    server.shutdown(0, b"").await;
    if lost > 0 {
        return Err(format!("{lost} of {} connections failed", args.connections).into());
    }
    if grown > GROWTH_MAX {
        return Err(format!("memory grew by {} MiB from the first round of changes to the last", grown >> 20).into());
    }
    Ok(())
}

fn report(
    (server, client): (&Endpoint, &Endpoint),
    account: &Account,
    times: (Duration, Duration, usize),
    memory: &[u64],
) {
    let stats = server.stats();
    let (calm, slowest, changes) = times;
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
    let mib = |bytes: Option<&u64>| bytes.copied().unwrap_or_default() >> 20;
    println!("resident memory MiB, first and last round  {}, {}", mib(memory.first()), mib(memory.last()));
}
