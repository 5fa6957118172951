//! Order books of an exchange, kept by fibers on one thread and fanned out over QUIC:
//! `cargo run --release -p warpline-orderbook -- --seconds 60`.
//!
//! Three parties in one process, on threads of their own and with nothing in common but loopback: an exchange that
//! publishes feeds over WebSocket, and loses messages and hangs up now and then; a keeper, which has a fiber per feed, checks
//! every number and checksum, fetches a book again after a gap, and sends what it knows to subscribers; and
//! subscribers, which check everything again. The exit status is 1 if any book was wrong or incomplete.

mod book;
mod exchange;
mod keeper;
mod latency;
mod subscriber;
mod wire;

use clap::Parser;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use warpline::{ClientConfig, Endpoint, Identity, ServerConfig};

/// Keeps order books and proves it.
#[derive(Clone, Debug, Parser)]
struct Options {
    /// How long updates flow.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Feeds, each with a book.
    #[arg(long, default_value_t = 50)]
    feeds: u16,
    /// Updates per second of each feed.
    #[arg(long, default_value_t = 2000)]
    rate: u64,
    /// Subscribers, each with a copy of all books.
    #[arg(long, default_value_t = 1)]
    subscribers: usize,
    /// The core that the keeper's thread is pinned to.
    #[arg(long)]
    core: Option<usize>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all books were right.
fn run(options: &Options) -> Result<bool, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let epoch = Instant::now();
    let id = Identity::generate(["localhost"]).map_err(|error| text(&error))?;
    let server = ServerConfig::with_single_cert(vec![id.certificate.clone()], id.key(), &[b"orderbook"])
        .map_err(|error| text(&error))?;
    let client =
        ClientConfig::with_pinned_fingerprint(&id.fingerprint().0, &[b"orderbook"]).map_err(|error| text(&error))?;
    let endpoint =
        Endpoint::builder().bind(([127, 0, 0, 1], 0)).server(server).start().map_err(|error| text(&error))?;
    let address = endpoint.local_addr();

    let control = Arc::new(exchange::Control::default());
    let (listening, listens) = mpsc::channel();
    let exchange = {
        let (rate, control) = (options.rate, control.clone());
        thread::spawn(move || {
            // The program waits for the address, so somebody takes it.
            let tell = |address| _ = listening.send(address);
            exchange::run(rate, &tell, control)
        })
    };
    let exchange_address = listens.recv().map_err(|error| text(&error))?;
    let keeper = {
        let options = options.clone();
        thread::spawn(move || keeper::run(&options, exchange_address, endpoint, epoch))
    };
    let subscribers: Vec<_> = (0..options.subscribers)
        .map(|_| {
            let (client, feeds) = (client.clone(), options.feeds);
            thread::spawn(move || subscriber::run(client, address, feeds, epoch))
        })
        .collect();
    thread::sleep(Duration::from_secs(options.seconds));
    control.stop.store(true, Ordering::Relaxed);

    let panicked = |_| "a thread panicked".to_owned();
    let reports: Result<Vec<_>, String> =
        subscribers.into_iter().map(|thread| thread.join().map_err(panicked)?).collect();
    let seen = keeper.join().map_err(panicked)??;
    control.done.store(true, Ordering::Relaxed);
    exchange.join().map_err(panicked)??;
    Ok(tell(options, &control, seen, &reports?))
}

/// Shows what happened. Whether all books were right.
fn tell(options: &Options, control: &exchange::Control, seen: keeper::Seen, reports: &[subscriber::Report]) -> bool {
    let (sent, lost) = (control.sent.load(Ordering::Relaxed), control.lost.load(Ordering::Relaxed));
    let hung_up = control.hung_up.load(Ordering::Relaxed);
    println!(
        "exchange: {} feeds, {sent} updates sent ({:.0} a second), {lost} lost on purpose, {hung_up} hang-ups",
        options.feeds,
        sent as f64 / options.seconds.max(1) as f64
    );
    let keeper::Seen { updates, gaps, hang_ups, wrong } = seen;
    println!("keeper: {updates} updates, books fetched again after {gaps} gaps and {hang_ups} hang-ups, {wrong} wrong");
    let mut good = wrong == 0 && updates > 0;
    for (index, report) in reports.iter().enumerate() {
        let subscriber::Report { updates: received, ticks, missing, wrong, complete, latencies } = report;
        println!(
            "subscriber {index}: {received} updates, {ticks} ticks, {missing} missing, {wrong} wrong, {complete} of {} books \
             equal the exchange's",
            options.feeds
        );
        println!(
            "  from socket to subscriber in µs: p50 {:.0}, p99 {:.0}, p99.9 {:.0}, longest {:.0}",
            latencies.quantile(0.5),
            latencies.quantile(0.99),
            latencies.quantile(0.999),
            latencies.max()
        );
        good &= *missing == 0 && *wrong == 0 && *complete == usize::from(options.feeds) && *received == updates;
    }
    println!("{}", if good { "all books are right" } else { "a book is wrong or lost" });
    good
}
