//! Order books of an exchange, kept by fibers on one thread and fanned out over QUIC:
//! `cargo run --release -p warpline --example orderbook -- --seconds 60 --feeds 50`.
//!
//! Three parties in one process, on threads of their own and with nothing in common but loopback: an exchange that
//! publishes feeds over TLS and WebSocket, and loses messages and hangs up now and then; a keeper, which has a fiber per feed, checks
//! every number and checksum, fetches a book again after a gap, and sends what it knows to subscribers; and
//! subscribers, which check everything again. The exit status is 1 if any book was wrong or incomplete, if a datagram
//! contradicts the stream, or if the exchange made less than nine tenths of what it was asked for.

mod book;
mod exchange;
mod instrument;
mod keeper;
mod latency;
mod outcome;
mod subscriber;
mod ticks;
mod tls;
mod wire;

use clap::Parser;
use outcome::Outcome;
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
    /// The exchange loses one update in so many of each feed; 0 is none.
    #[arg(long, default_value_t = 20_000)]
    lose_every: u64,
    /// The exchange hangs up after so many updates of each feed; 0 is never.
    #[arg(long, default_value_t = 30_000)]
    hang_up_every: u64,
    /// The exchange lies in one update in so many of each feed, to see that the run fails then.
    #[arg(long, default_value_t = 0)]
    lie_every: u64,
    /// The core that the keeper's thread is pinned to: the last one that the process may use, if none is named.
    #[arg(long)]
    core: Option<usize>,
}

impl Options {
    /// `None` where the system does not tell what cores there are.
    fn keeper_core(&self) -> Option<usize> {
        self.core.or_else(|| core_affinity::get_core_ids()?.last().map(|core| core.id))
    }

    /// Updates that the exchange is to make.
    fn asked(&self) -> u64 {
        self.rate * u64::from(self.feeds) * self.seconds
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(outcome) => {
            println!("{outcome}");
            if outcome.is_good() && outcome.kept_up() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<Outcome, String> {
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
    let tls = tls::Configs::generate()?;

    let control = Arc::new(exchange::Control::default());
    let (listening, listens) = mpsc::channel();
    let exchange = {
        let Options { rate, lose_every, hang_up_every, lie_every, .. } = *options;
        let plan = exchange::Plan { rate, lose_every, hang_up_every, lie_every };
        let control = control.clone();
        thread::spawn(move || {
            // The program waits for the address, so somebody takes it.
            let tell = |address| _ = listening.send(address);
            exchange::run(plan, tls.server, &tell, control)
        })
    };
    let exchange_address = listens.recv().map_err(|error| text(&error))?;
    let keeper = {
        let (options, at) = (options.clone(), keeper::Exchange { address: exchange_address, tls: tls.client });
        thread::spawn(move || keeper::run(&options, at, endpoint, epoch))
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
    let Options { feeds, seconds, .. } = *options;
    let (core, asked) = (options.keeper_core(), options.asked());
    Ok(Outcome { feeds, seconds, core, asked, control, seen, reports: reports? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(more: &[&str]) -> Options {
        let usual = ["orderbook", "--seconds", "2", "--feeds", "4", "--rate", "1000"];
        Options::parse_from(usual.iter().chain(more))
    }

    #[test]
    fn books_survive_gaps_and_hang_ups() {
        let outcome = run(&options(&["--lose-every", "300", "--hang-up-every", "500", "--subscribers", "2"]));
        let outcome = outcome.expect("the parties find each other");
        assert!(outcome.is_good(), "{outcome}");
        assert!(outcome.seen.gaps > 0 && outcome.seen.hang_ups > 0, "{outcome}");
        assert!(outcome.reports.iter().all(|report| report.ticks > 0), "{outcome}");
    }

    #[test]
    fn a_wrong_book_is_found() {
        let outcome = run(&options(&["--lie-every", "300"])).expect("the parties find each other");
        assert!(outcome.control.lies.load(Ordering::Relaxed) > 0, "{outcome}");
        assert!(!outcome.is_good() && outcome.seen.wrong > 0 && outcome.reports[0].wrong > 0, "{outcome}");
    }
}
