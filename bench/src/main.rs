//! Comparisons with other stacks, side by side.
//!
//! `compare` runs [rows] of load over Warpline and [peers], in turns, each server and each client a process on a core
//! of its own, and prints medians with their spread; `plot` draws the results. `bench/README.md` has the rules of the
//! comparison and what every peer's program has to understand. `transfers` sets `warpline get` beside the programs that people use
//! today. `links` compares congestion controllers over bad networks, `rates` looks at links of a set rate. `chaos`, `cost`, `turns` and `predict` are about Warpline alone: workers that
//! come and go under load, what a packet costs, and what that means for larger machines; `micro` counts the instructions of its parts, and the cache lines. To
//! read first: [`rows::Row`], [`measure::run`],
//! [`results::Results`].
#![forbid(unsafe_code)]

mod certs;
mod chaos;
mod compare;
mod cost;
mod links;
mod machine;
mod measure;
mod micro;
mod namespaces;
mod peers;
mod plot;
mod predict;
mod process;
mod rates;
mod reception;
mod results;
mod rows;
mod stats;
mod table;
mod transfers;
mod turns;
mod veth;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use results::Results;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Compares Warpline with other stacks.
#[derive(Debug, Parser)]
#[command(name = "warpline-bench")]
struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run scenarios over peers, interleaved, and print a table.
    Compare(CompareArgs),
    /// Draw a results file as SVG.
    Plot(PlotArgs),
    /// Change the number of workers of a server under load, and verify every byte.
    Chaos(chaos::ChaosArgs),
    /// Transfer files with whole programs, Warpline's and others, and print a table.
    Transfers(transfers::TransfersArgs),
    /// Measure what a packet costs, by connections, workers and readers.
    Cost(cost::CostArgs),
    /// Measure the back ends on a virtual link, AF_XDP among them; needs root.
    Veth(veth::VethArgs),
    /// Measure what a datagram costs the protocol alone, by connections that take turns.
    Turns(turns::TurnsArgs),
    /// Predict the throughput of larger machines from measured costs.
    Predict(predict::PredictArgs),
    /// Count the instructions of parts, under valgrind.
    Micro(micro::MicroArgs),
    /// Run congestion controllers over slow, long, lossy links.
    Links(links::LinksArgs),
    /// Run bulk transfers over links of a set rate; needs root.
    Rates(rates::RatesArgs),
    /// List scenarios and peers.
    List,
}

#[derive(Debug, Parser)]
struct CompareArgs {
    /// Scenarios, separated by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// Peers, separated by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Rounds: runs of every scenario with every peer.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measured seconds of a run.
    #[arg(long, default_value_t = 5.0)]
    duration: f64,
    /// Seconds of load before measuring.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Stream receive window in bytes.
    #[arg(long, default_value_t = 4 << 20)]
    window: u64,
    /// Core that servers run on.
    #[arg(long, default_value_t = 1)]
    server_core: usize,
    /// Core that clients run on.
    #[arg(long, default_value_t = 0)]
    client_core: usize,
    /// Connections of the scenario `idle`.
    #[arg(long)]
    idle_connections: Option<u32>,
    /// Count the servers' system calls with perf; this disturbs the run, so do it in a comparison of its own.
    #[arg(long)]
    syscalls: bool,
    /// Write the results to this file, too.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Parser)]
struct PlotArgs {
    /// Results of `compare --json`.
    results: PathBuf,
    /// The picture.
    #[arg(long)]
    out: PathBuf,
    /// Scenarios, separated by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
}

fn main() -> ExitCode {
    let outcome = match Args::parse().action {
        Action::Compare(args) => run_compare(&args),
        Action::Plot(args) => run_plot(&args),
        Action::Chaos(args) => chaos::run(&args).map(|()| ExitCode::SUCCESS),
        Action::Transfers(args) => transfers::run(&args),
        Action::Cost(args) => cost::run(&args).map(|()| ExitCode::SUCCESS),
        Action::Turns(args) => turns::run(&args).map(|()| ExitCode::SUCCESS),
        Action::Veth(args) => veth::run(&args).map(|()| ExitCode::SUCCESS),
        Action::Predict(args) => predict::run(&args).map(|()| ExitCode::SUCCESS),
        Action::Micro(args) => micro::run(&args),
        Action::Links(args) => links::run(&args),
        Action::Rates(args) => rates::run(&args),
        Action::List => {
            println!("scenarios: {}", rows::ROWS.iter().map(|row| row.name).collect::<Vec<_>>().join(" "));
            println!("peers:     {}", peers::PEERS.iter().map(|peer| peer.name).collect::<Vec<_>>().join(" "));
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

/// Exits with 1 if a run failed, after all results are out.
fn run_compare(args: &CompareArgs) -> Result<ExitCode> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if args.server_core.max(args.client_core) >= cores {
        return Err(format!("this machine has {cores} cores; choose with --server-core and --client-core").into());
    }
    let seconds = |name: &str, value: f64| {
        Duration::try_from_secs_f64(value).map_err(|error| format!("--{name} {value}: {error}"))
    };
    let rows = rows::select(&args.scenario)?;
    let needs_proxy = rows.iter().any(|row| row.link.is_some());
    let proxy = needs_proxy.then(|| peers::Workspace::find()?.impairment_proxy()).transpose()?;
    let setup = measure::Setup {
        duration: seconds("duration", args.duration)?,
        warmup: seconds("warmup", args.warmup)?,
        window: args.window,
        server_core: args.server_core,
        client_core: args.client_core,
        idle_connections: args.idle_connections,
        syscalls: args.syscalls,
        proxy,
    };
    let rounds = args.rounds.clamp(1, compare::ROUNDS_MAX);
    let results = compare::compare(&rows, &peers::select(&args.peers)?, rounds, &setup)?;
    print!("{}", table::render(&results));
    if let Some(path) = &args.json {
        results.write(path)?;
    }
    Ok(if results.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn run_plot(args: &PlotArgs) -> Result<ExitCode> {
    let results = Results::read(&args.results)?;
    std::fs::write(&args.out, plot::render(&results, &args.scenario))?;
    Ok(ExitCode::SUCCESS)
}
