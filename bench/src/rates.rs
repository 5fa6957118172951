//! Links of a set rate: how much of it a stack uses and how soon.
//!
//! Two network namespaces are joined by a virtual link that a token bucket keeps to a rate, both ways, with a queue of a few
//! milliseconds. What the receiving device counts is read twenty times a second, from the first packet on.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Serialize;
use serde_json::Value;

use crate::Result;
use crate::certs::Identity;
use crate::machine::{Machine, load_average};
use crate::namespaces::{Pair, SERVER};
use crate::peers::{self, Availability, Program, Workspace};
use crate::stats::Summary;

/// How long a program may take beyond its measured time.
const LIMIT: Duration = Duration::from_secs(20);
/// Time between two looks at the device.
const STEP: Duration = Duration::from_millis(50);
/// Looks that a rate is averaged over.
const WINDOW: usize = 5;
/// Of the final rate: from here on it counts as reached.
const REACHED: f64 = 0.95;
const SCENARIOS: [&str; 2] = ["download", "upload"];

/// Arguments of `rates`.
#[derive(Debug, Parser)]
pub struct RatesArgs {
    /// Rates in Mbit/s, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    rates: Vec<u64>,
    /// Peers, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "warpline-udp,quinn,s2n-quic,tcp")]
    peers: Vec<String>,
    /// Rounds: runs of everything.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measured seconds of a run, from the beginning of the connection.
    #[arg(long, default_value_t = 4.0)]
    duration: f64,
    /// Milliseconds that the link's queue holds.
    #[arg(long, default_value_t = 5)]
    queue: u64,
    /// Core that servers run on.
    #[arg(long, default_value_t = 1)]
    server_core: usize,
    /// Core that clients run on.
    #[arg(long, default_value_t = 0)]
    client_core: usize,
    /// Write the results to this file, too.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Document {
    machine: Machine,
    load_average: f64,
    seconds: f64,
    queue_ms: u64,
    entries: Vec<Entry>,
    failures: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Entry {
    mbits: u64,
    scenario: &'static str,
    peer: &'static str,
    /// Payload of streams in bits per second, each round.
    goodput: Vec<f64>,
    /// Seconds until the rate was first within 5 % of that of the run's second half, each round.
    reached: Vec<f64>,
}

/// Runs it; needs root. Exits with 1 if a run failed, after all results are out.
pub fn run(args: &RatesArgs) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let mut programs = Vec::new();
    for peer in peers::select(&args.peers)? {
        match peer.prepare(&workspace) {
            Availability::Ready(program) => programs.push((peer.name, program)),
            Availability::Absent(why) | Availability::Failed(why) => {
                return Err(format!("{}: {why}", peer.name).into());
            }
        }
    }
    let scratch = tempfile::tempdir()?;
    let identity = Identity::create(scratch.path())?;
    let mut document = Document {
        machine: Machine::this(),
        load_average: load_average(),
        seconds: args.duration,
        queue_ms: args.queue,
        entries: Vec::new(),
        failures: Vec::new(),
    };
    for round in 1..=args.rounds {
        for &mbits in &args.rates {
            for scenario in SCENARIOS {
                for (peer, program) in &programs {
                    eprintln!("round {round}/{}: {mbits} Mbit/s, {scenario}, {peer}", args.rounds);
                    match one(args, &identity, program, mbits, scenario) {
                        Ok((goodput, reached)) => document.add(mbits, scenario, peer, goodput, reached),
                        Err(error) => document.failures.push(format!("{mbits} {scenario} {peer}: {error}")),
                    }
                }
            }
        }
    }
    document.print();
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(&document)? + "\n")?;
    }
    Ok(if document.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

impl Document {
    fn add(&mut self, mbits: u64, scenario: &'static str, peer: &'static str, goodput: f64, reached: f64) {
        let is_it = |e: &Entry| (e.mbits, e.scenario, e.peer) == (mbits, scenario, peer);
        let at = self.entries.iter().position(is_it).unwrap_or_else(|| {
            self.entries.push(Entry { mbits, scenario, peer, goodput: Vec::new(), reached: Vec::new() });
            self.entries.len() - 1
        });
        self.entries[at].goodput.push(goodput);
        self.entries[at].reached.push(reached);
    }

    fn print(&self) {
        println!("| Mbit/s | scenario | peer | of the rate | within 5 % of its final rate after |");
        println!("|---|---|---|---|---|");
        for entry in &self.entries {
            let median = |values: &[f64]| Summary::of(values).map_or(f64::NAN, |summary| summary.median);
            let share = median(&entry.goodput) / (entry.mbits as f64 * 1e6) * 100.0;
            let reached = median(&entry.reached);
            println!("| {} | {} | {} | {share:.1} % | {reached:.2} s |", entry.mbits, entry.scenario, entry.peer);
        }
        for failure in &self.failures {
            println!("failed: {failure}");
        }
    }
}

/// Goodput in bits per second, and seconds until the final rate.
fn one(
    args: &RatesArgs,
    identity: &Identity,
    program: &Program,
    mbits: u64,
    scenario: &'static str,
) -> Result<(f64, f64)> {
    let net = Pair::new()?;
    net.shape(mbits, args.queue)?;
    let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let (cert, key) = (identity.cert.display().to_string(), identity.key.display().to_string());
    let flags = text(&["--bind", SERVER, "--cert", &cert, "--key", &key]);
    let mut server = net.start(0, program.path(), program.args("server", flags), args.server_core)?;
    server.line(LIMIT)?;
    let (duration, bytes) = (args.duration.to_string(), (1u64 << 40).to_string());
    let load = ["--scenario", scenario, "--duration", &duration, "--warmup", "0", "--bytes", &bytes];
    let shape = ["--streams", "1", "--connections", "1", "--in-flight", "1"];
    let flags = text(&[&[SERVER, "--ca", &cert][..], &load, &shape].concat());
    let mut client = net.start(1, program.path(), program.args("client", flags), args.client_core)?;
    let (receiver, device) = if scenario == "download" { (client.id(), "wl1") } else { (server.id(), "wl0") };
    let seen = watch(receiver, device, Duration::from_secs_f64(args.duration))?;
    let report: Value = serde_json::from_str(&client.line(LIMIT)?)?;
    client.stop()?;
    server.stop()?;
    let goodput = report["goodput_bps"].as_f64().ok_or("a report without goodput")?;
    Ok((goodput, reached(&seen)))
}

/// What the device has received at every step, from the first packet on.
fn watch(pid: u32, device: &str, span: Duration) -> Result<Vec<u64>> {
    let given_up = Instant::now() + LIMIT;
    let mut seen = vec![received(pid, device).unwrap_or_default()];
    let mut began = None;
    while began.is_none_or(|at: Instant| at.elapsed() < span) {
        thread::sleep(if began.is_some() { STEP } else { Duration::from_millis(1) });
        // The program that enters the namespace is not there at once.
        let now = received(pid, device).unwrap_or_default();
        if began.is_some() {
            seen.push(now);
        } else if now > seen[0] + 1_000 {
            began = Some(Instant::now());
        } else if Instant::now() > given_up {
            return Err("nothing was received".into());
        }
    }
    Ok(seen)
}

/// Bytes that a device of the process's namespace has received.
fn received(pid: u32, device: &str) -> Option<u64> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(device)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Seconds until the bytes per window are first what they are in the second half, but for 5 %.
fn reached(seen: &[u64]) -> f64 {
    let windows: Vec<f64> = seen.windows(WINDOW + 1).map(|w| (w[WINDOW] - w[0]) as f64).collect();
    let Some(last) = Summary::of(&windows[windows.len() / 2..]) else { return f64::NAN };
    let first = windows.iter().position(|&bytes| bytes >= last.median * REACHED);
    first.map_or(f64::NAN, |at| (at + WINDOW) as f64 * STEP.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_final_rate_is_reached_where_a_window_first_has_it() {
        let steady: Vec<u64> = (0..100).map(|at| at * 1_000).collect();
        assert_eq!(reached(&steady), WINDOW as f64 * STEP.as_secs_f64());
        let slow_at_first: Vec<u64> = (0u64..100).map(|at| at * 10 + at.saturating_sub(20) * 1_000).collect();
        assert_eq!(reached(&slow_at_first), (20 + WINDOW) as f64 * STEP.as_secs_f64());
        assert!(reached(&[0, 1]).is_nan());
    }
}
