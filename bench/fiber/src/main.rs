//! Fibers beside `corosensei`'s bare switch, `may`, tokio's current-thread runtime and plain threads, in one run:
//! `cargo run --release -p warpline-bench-fiber`.
//!
//! Every figure is the median of several rounds in which the contenders take turns, so that what disturbs the machine
//! disturbs all alike. The exit status says nothing about who won.

mod bare;
mod clock;
mod echo;
mod load;
mod micro;
mod report;

use clap::Parser;
use report::Report;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Measures fibers beside their peers.
#[derive(Debug, Parser)]
struct Options {
    /// Sockets of the echo test, a descriptor of both processes each.
    #[arg(long, default_value_t = 10_000)]
    sockets: usize,
    /// Rounds per figure, of which the median is shown.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Rounds of so many times fewer operations: where the machine is busy, short rounds find the moments when it is not,
    /// and the lowest figure says something.
    #[arg(long, default_value_t = 1)]
    shorter: u64,
    /// Rounds of the echo test.
    #[arg(long, default_value_t = 3)]
    echo_rounds: usize,
    /// Seconds per echo round.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Only the tests with this in their titles.
    #[arg(long, default_value = "")]
    only: String,
    /// Only the contenders with this in their names.
    #[arg(long, default_value = "")]
    contender: String,
    /// Measures for so many seconds how far the clock drifts from the system's.
    #[arg(long, default_value_t = 0)]
    drift: u64,
    /// Is the clients of the echo test instead, to a server at this address.
    #[arg(long, hide = true)]
    load: Option<SocketAddr>,
    /// Also writes everything to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Some tests have rounds of a thousand operations within.
const SHORTER_MAX: u64 = 100;

/// A contender: its name, and a function that runs so many operations and says how long they took.
struct Contender {
    name: &'static str,
    run: Box<dyn FnMut(u64) -> Duration>,
}

/// A test's title, its operations per round, and who takes part.
type Test = (&'static str, u64, fn() -> Vec<Contender>);

fn contender(name: &'static str, run: impl FnMut(u64) -> Duration + 'static) -> Contender {
    Contender { name, run: Box::new(run) }
}

fn timed(f: impl FnOnce()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}

/// Runs contenders in turns: nanoseconds per operation.
fn compare(options: &Options, report: &mut Report, title: &str, operations: u64, mut contenders: Vec<Contender>) {
    contenders.retain(|contender| contender.name.contains(&options.contender));
    if !title.contains(&options.only) || contenders.is_empty() {
        return;
    }
    let operations = operations / options.shorter.clamp(1, SHORTER_MAX);
    let mut figures = vec![Vec::new(); contenders.len()];
    for _ in 0..options.rounds.max(1) {
        for (contender, figures) in contenders.iter_mut().zip(&mut figures) {
            let took = (contender.run)(operations);
            figures.push(took.as_nanos() as f64 / operations as f64);
        }
    }
    let names = contenders.iter().map(|contender| contender.name);
    report.add(title, "ns per operation", names.zip(figures));
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    if let Some(address) = options.load {
        return Ok(load::run(address, options.sockets)?);
    }
    let mut report = Report::new();
    let tests: [Test; 10] = [
        ("yield to another fiber", 1_000_000, micro::switch),
        ("yield to another fiber, over 1,000 stacks", 1_000_000, micro::switch_many),
        ("baton hand-over", 1_000_000, micro::hand_over),
        ("baton hand-over, over 1,000 stacks", 1_000_000, micro::hand_over_in_line),
        ("baton hand-over, over 1,000 stacks at random", 1_000_000, micro::hand_over_at_random),
        ("spawn, run and join", 300_000, micro::spawn),
        ("channel ping-pong, round trip", 200_000, micro::ping_pong),
        ("timer: add and cancel", 300_000, micro::timer_add),
        ("timer: add and fire", 100_000, micro::timer_fire),
        ("clock read", 1_000_000, clock::read),
    ];
    for (title, operations, contenders) in tests {
        compare(&options, &mut report, title, operations, contenders());
    }
    if options.drift > 0 {
        report.drift = clock::drift(Duration::from_secs(options.drift));
    }
    if echo::TITLE.contains(&options.only) {
        echo::compare(&options, &mut report);
    }
    report.print_tables();
    match &options.json {
        Some(path) => Ok(report.write(path)?),
        None => Ok(()),
    }
}
