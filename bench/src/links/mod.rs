//! Congestion controllers side by side: one download of every stack over the same links, made by the impairment proxy.
//!
//! Time is real, so the rates are modest; `warpline-sim congestion` covers the wide range for Warpline alone.

mod picture;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};
use warpline_peer_kit::Congestion;

use crate::Result;
use crate::certs::Identity;
use crate::machine::{self, Machine};
use crate::measure::{self, Setup};
use crate::peers::{self, Availability, Program, Workspace};
use crate::rows::{self, Link, Metric, Row};
use crate::stats::Summary;

/// Bytes that a bottleneck holds at least: two full packets.
const QUEUE_MIN: u64 = 3_000;
/// Stream receive window: more than any of the links holds together with its queue.
const WINDOW: u64 = 16 << 20;

/// Arguments of `links`.
#[derive(Debug, Parser)]
pub struct LinksArgs {
    /// Rates in Mbit/s, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100")]
    rates: Vec<u64>,
    /// Round-trip times in milliseconds.
    #[arg(long, value_delimiter = ',', default_value = "10,100")]
    rtts: Vec<u64>,
    /// Loss of the packets towards the client, in percent.
    #[arg(long, value_delimiter = ',', default_value = "0,1")]
    losses: Vec<f64>,
    /// The bottleneck's queue in bandwidth-delay products.
    #[arg(long, value_delimiter = ',', default_value = "0.5,1")]
    buffers: Vec<f64>,
    /// Peers, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "warpline-udp,quinn,noq,quiche")]
    peers: Vec<String>,
    /// Controllers, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "cubic,bbr")]
    congestion: Vec<Congestion>,
    /// Runs of everything.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Measured seconds of a run, from the beginning of the connection.
    #[arg(long, default_value_t = 8.0)]
    duration: f64,
    /// Runs at the same time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Write the results to this file, too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw the results as SVG into this file.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Read the results from a file instead of measuring.
    #[arg(long, conflicts_with = "json")]
    from: Option<PathBuf>,
}

/// A link by its four numbers.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Cell {
    /// Mbit/s.
    pub rate_mbit: u64,
    /// Milliseconds.
    pub rtt_ms: u64,
    /// Percent.
    pub loss_percent: f64,
    /// Bandwidth-delay products.
    pub buffer_bdp: f64,
}

/// What one stack with one controller reached on one link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// The link.
    pub link: Cell,
    /// The controller.
    pub congestion: Congestion,
    /// The stack.
    pub peer: String,
    /// Goodput in Mbit/s, a run each.
    pub goodput_mbit: Vec<f64>,
}

/// A results file.
#[derive(Debug, Serialize, Deserialize)]
pub struct LinkResults {
    /// Where it was measured.
    pub machine: Machine,
    /// Measured seconds of a run.
    pub duration_s: f64,
    /// Runs at the same time.
    pub jobs: usize,
    /// The stacks' versions.
    pub versions: BTreeMap<String, String>,
    /// What was reached.
    pub results: Vec<Reached>,
    /// What was not measured, and why.
    pub failures: Vec<String>,
}

impl Cell {
    fn link(self) -> Link {
        let product = (self.rate_mbit * 125 * self.rtt_ms) as f64;
        let queue = ((product * self.buffer_bdp) as u64).max(QUEUE_MIN);
        let Self { rate_mbit, rtt_ms, loss_percent, .. } = self;
        Link { rate_mbit, rtt_ms, loss_percent, loss_up_percent: 0.0, queue: Some(queue) }
    }
}

impl Reached {
    /// The median of the runs.
    pub fn median(&self) -> f64 {
        Summary::of(&self.goodput_mbit).map_or(0.0, |summary| summary.median)
    }
}

/// One run that is to be made.
struct Turn<'a> {
    cell: Cell,
    congestion: Congestion,
    peer: &'static str,
    program: &'a Program,
}

/// Runs `links`.
pub fn run(args: &LinksArgs) -> Result<ExitCode> {
    let results = match &args.from {
        Some(path) => serde_json::from_str(&std::fs::read_to_string(path)?)?,
        None => measured(args)?,
    };
    print!("{}", table(&results));
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&results)?)?;
    }
    if let Some(path) = &args.svg {
        std::fs::write(path, picture::render(&results))?;
    }
    Ok(if results.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn measured(args: &LinksArgs) -> Result<LinkResults> {
    let workspace = Workspace::find()?;
    let directory = tempfile::tempdir()?;
    let identity = Identity::create(directory.path())?;
    let chosen = peers::select(&args.peers)?;
    let setup = Setup {
        duration: Duration::try_from_secs_f64(args.duration)?,
        warmup: Duration::ZERO,
        window: WINDOW,
        server_core: 1.min(thread::available_parallelism().map_or(0, |cores| cores.get() - 1)),
        client_core: 0,
        idle_connections: None,
        syscalls: false,
        proxy: Some(workspace.impairment_proxy()?),
    };
    let (mut programs, mut failures) = (Vec::new(), Vec::new());
    for peer in &chosen {
        match peer.prepare(&workspace) {
            Availability::Ready(program) => programs.push((peer.name, peer.has_bbr, program)),
            Availability::Absent(why) | Availability::Failed(why) => failures.push(format!("{}: {why}", peer.name)),
        }
    }
    let turns = turns(args, &programs);
    let done = all(&turns, args.jobs, &setup, &identity);
    let mut results: Vec<Reached> = Vec::new();
    for (turn, outcome) in turns.iter().zip(done) {
        match outcome {
            Ok(goodput) => add(&mut results, turn, goodput),
            Err(why) => failures.push(format!("{} {} {:?}: {why}", turn.peer, turn.congestion.name(), turn.cell)),
        }
    }
    let packages: Vec<&str> = chosen.iter().map(|peer| peer.locked).collect();
    let versions = machine::versions(&workspace.root, &packages)?;
    Ok(LinkResults {
        machine: Machine::this(),
        duration_s: args.duration,
        jobs: args.jobs,
        versions,
        results,
        failures,
    })
}

/// Every run, the stacks of a link one after the other.
fn turns<'a>(args: &LinksArgs, programs: &'a [(&'static str, bool, Program)]) -> Vec<Turn<'a>> {
    let mut turns = Vec::new();
    for _ in 0..args.rounds.max(1) {
        for &rate_mbit in &args.rates {
            for &rtt_ms in &args.rtts {
                for &loss_percent in &args.losses {
                    for &buffer_bdp in &args.buffers {
                        let cell = Cell { rate_mbit, rtt_ms, loss_percent, buffer_bdp };
                        for &congestion in &args.congestion {
                            let able = programs.iter().filter(|(_, bbr, _)| *bbr || congestion != Congestion::Bbr);
                            turns.extend(able.map(|(peer, _, program)| Turn { cell, congestion, peer, program }));
                        }
                    }
                }
            }
        }
    }
    turns
}

/// Makes the runs, `jobs` at a time; their goodput in Mbit/s, in order.
fn all(turns: &[Turn<'_>], jobs: usize, setup: &Setup, identity: &Identity) -> Vec<Result<f64, String>> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(turn) = turns.get(index) else { return };
            let outcome = one(turn, setup, identity).map_err(|error| error.to_string());
            let Turn { cell, congestion, peer, .. } = turn;
            eprintln!("{}/{}  {cell:?} {} {peer}: {outcome:.3?}", index + 1, turns.len(), congestion.name());
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(index, outcome);
        }
    };
    thread::scope(|scope| (0..jobs.max(1)).for_each(|_| drop(scope.spawn(work))));
    done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_values().collect()
}

fn one(turn: &Turn<'_>, setup: &Setup, identity: &Identity) -> Result<f64> {
    let row = Row {
        name: "link",
        link: Some(turn.cell.link()),
        congestion: Some(turn.congestion),
        metric: Metric::LinkGoodput,
        ..rows::BULK
    };
    Ok(measure::run(turn.program, &row, setup, identity)?.value)
}

fn add(results: &mut Vec<Reached>, turn: &Turn<'_>, goodput: f64) {
    let Turn { cell: link, congestion, peer, .. } = *turn;
    match results.iter_mut().find(|r| r.link == link && r.congestion == congestion && r.peer == peer) {
        Some(reached) => reached.goodput_mbit.push(goodput),
        None => results.push(Reached { link, congestion, peer: peer.to_owned(), goodput_mbit: vec![goodput] }),
    }
}

/// The links in the order in which they were measured.
fn cells(results: &LinkResults) -> Vec<Cell> {
    let mut cells = Vec::new();
    for reached in &results.results {
        if !cells.contains(&reached.link) {
            cells.push(reached.link);
        }
    }
    cells
}

/// The columns: controller and stack.
fn columns(results: &LinkResults) -> Vec<(Congestion, &str)> {
    let mut columns: Vec<(Congestion, &str)> = Vec::new();
    for reached in &results.results {
        let column = (reached.congestion, reached.peer.as_str());
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    columns
}

fn find<'a>(results: &'a LinkResults, cell: Cell, column: (Congestion, &str)) -> Option<&'a Reached> {
    results.results.iter().find(|r| r.link == cell && (r.congestion, r.peer.as_str()) == column)
}

/// A Markdown table in Mbit/s, and what failed.
fn table(results: &LinkResults) -> String {
    let columns = columns(results);
    let mut text = String::from("| rate | RTT | loss | queue |");
    for (congestion, peer) in &columns {
        text += &format!(" {} {peer} |", congestion.name());
    }
    text += &format!("\n|{}\n", "---|".repeat(4 + columns.len()));
    for cell in cells(results) {
        let Cell { rate_mbit, rtt_ms, loss_percent, buffer_bdp } = cell;
        text += &format!("| {rate_mbit} Mbit/s | {rtt_ms} ms | {loss_percent} % | {buffer_bdp} BDP |");
        for column in &columns {
            let value = find(results, cell, *column).map_or("–".to_owned(), |r| format!("{:.2}", r.median()));
            text += &format!(" {value} |");
        }
        text.push('\n');
    }
    for failure in &results.failures {
        text += &format!("\nfailed: {failure}\n");
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> LinkResults {
        let link = Cell { rate_mbit: 10, rtt_ms: 100, loss_percent: 1.0, buffer_bdp: 0.5 };
        let reached = |peer: &str, goodput_mbit: Vec<f64>| Reached {
            link,
            congestion: Congestion::Cubic,
            peer: peer.to_owned(),
            goodput_mbit,
        };
        LinkResults {
            machine: Machine::this(),
            duration_s: 8.0,
            jobs: 1,
            versions: BTreeMap::new(),
            results: vec![reached("warpline-udp", vec![1.0, 3.0, 2.0]), reached("quinn", vec![1.5])],
            failures: vec!["noq: <gone>".to_owned()],
        }
    }

    #[test]
    fn the_table_has_medians_and_failures() {
        let text = table(&example());
        assert!(text.contains("| 10 Mbit/s | 100 ms | 1 % | 0.5 BDP | 2.00 | 1.50 |"), "{text}");
        assert!(text.contains("failed: noq"), "{text}");
    }

    #[test]
    fn the_queue_is_a_share_of_the_product() {
        let cell = Cell { rate_mbit: 10, rtt_ms: 100, loss_percent: 1.0, buffer_bdp: 0.5 };
        assert_eq!(cell.link().queue, Some(62_500));
        let tiny = Cell { rate_mbit: 1, rtt_ms: 10, ..cell };
        assert_eq!(tiny.link().queue, Some(QUEUE_MIN));
        assert!(tiny.link().proxy_args().join(" ").contains("--delay 5000us --loss-down 1% --loss-up 0%"));
    }
}
