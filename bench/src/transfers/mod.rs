//! Whole programs: `warpline get` beside what people use today, on the same trees, in turns.
//!
//! Each program serves a directory with a server of its own on the loopback and fetches it into an empty directory, or into
//! one that has everything already. What arrived is compared with the original after the clock has stopped; a transfer that
//! differs is a failure. Nothing is pinned: programs use the cores as they would at their users'.

mod data;
mod tools;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use serde::Serialize;

use crate::Result;
use crate::machine::{self, Machine};
use crate::peers::Workspace;
use crate::results::{Absent, Entry, Failure};
use crate::stats::Summary;
use tools::{Place, Tool};

#[derive(Debug, Parser)]
pub struct TransfersArgs {
    /// Programs, separated by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    tools: Vec<String>,
    /// Scenarios (large, small, unchanged), separated by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// Rounds of every scenario with every program.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// MiB of the one file of `large`.
    #[arg(long, default_value_t = 4096)]
    large: u64,
    /// Files of `small` and `unchanged`, of 10 KiB each.
    #[arg(long, default_value_t = 100_000)]
    files: u32,
    /// Where trees and copies lie; a file system with room for three times the data.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Write the results to this file, too.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    /// One file into an empty directory.
    Large,
    /// Many files into an empty directory.
    Small,
    /// The same many files where all are there already.
    Unchanged,
}

impl Scenario {
    const ALL: [Self; 3] = [Self::Large, Self::Small, Self::Unchanged];

    fn name(self) -> &'static str {
        match self {
            Self::Large => "large",
            Self::Small => "small",
            Self::Unchanged => "unchanged",
        }
    }
}

/// What is written with `--json`.
#[derive(Debug, Serialize)]
struct Document {
    unix_time: u64,
    machine: Machine,
    file_system: String,
    large_mib: u64,
    small_files: u32,
    versions: BTreeMap<String, String>,
    load_averages: Vec<f64>,
    results: Vec<Entry>,
    failures: Vec<Failure>,
    absent: Vec<Absent>,
}

/// One transfer.
struct Sample {
    seconds: f64,
    cpu_seconds: f64,
}

/// Runs it; exits with 1 if a transfer failed, after all results are out.
pub fn run(args: &TransfersArgs) -> Result<ExitCode> {
    let scenarios = select(&args.scenario, &Scenario::ALL, Scenario::name)?;
    let tools = select(&args.tools, &Tool::ALL, Tool::name)?;
    let directory = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let place = Place::prepare(directory.path(), Workspace::find()?.warpline()?)?;
    let mut document = Document {
        unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        machine: Machine::this(),
        file_system: data::file_system(directory.path())?,
        large_mib: args.large,
        small_files: args.files,
        versions: BTreeMap::new(),
        load_averages: Vec::new(),
        results: Vec::new(),
        failures: Vec::new(),
        absent: Vec::new(),
    };
    let mut present = Vec::new();
    for tool in tools {
        match tool.version(&place) {
            Ok(version) => {
                document.versions.insert(tool.name().to_owned(), version);
                present.push(tool);
            }
            Err(error) => document.absent.push(Absent { peer: tool.name().to_owned(), reason: error.to_string() }),
        }
    }
    let large = directory.path().join("large");
    let small = directory.path().join("small");
    if scenarios.contains(&Scenario::Large) {
        data::make_large(&large, args.large << 20)?;
    }
    if scenarios.iter().any(|s| *s != Scenario::Large) {
        data::make_small(&small, args.files)?;
    }
    let mut samples: BTreeMap<(usize, usize), Vec<Sample>> = BTreeMap::new();
    for round in 0..args.rounds {
        document.load_averages.push(machine::load_average());
        for (at, scenario) in scenarios.iter().enumerate() {
            let source = if *scenario == Scenario::Large { &large } else { &small };
            for turn in 0..present.len() {
                let index = (turn + round) % present.len();
                let tool = present[index];
                if *scenario == Scenario::Unchanged && !tool.brings_up_to_date() {
                    continue;
                }
                eprint!("round {}/{}  {:10} {:13} ", round + 1, args.rounds, scenario.name(), tool.name());
                match transfer(tool, *scenario, source, &place) {
                    Ok(sample) => {
                        eprintln!("{:.2} s, {:.2} s of CPU time", sample.seconds, sample.cpu_seconds);
                        samples.entry((at, index)).or_default().push(sample);
                    }
                    Err(error) => {
                        eprintln!("failed: {error}");
                        let (scenario, peer) = (scenario.name().to_owned(), tool.name().to_owned());
                        let failure = Failure { scenario, peer, round: round + 1, reason: error.to_string() };
                        document.failures.push(failure);
                    }
                }
            }
        }
    }
    document.results = samples
        .iter()
        .filter_map(|(&(at, index), samples)| entry(scenarios[at].name(), present[index].name(), samples))
        .collect();
    print!("{}", table(&document));
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&document)? + "\n")?;
    }
    Ok(if document.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn select<T: Copy>(names: &[String], all: &[T], name_of: impl Fn(T) -> &'static str) -> Result<Vec<T>> {
    if names.is_empty() {
        return Ok(all.to_vec());
    }
    let find = |name: &String| {
        let found = all.iter().copied().find(|one| name_of(*one) == name);
        found.ok_or_else(|| {
            let known: Vec<_> = all.iter().map(|one| name_of(*one)).collect();
            format!("there is no {name}; there are {}", known.join(", ")).into()
        })
    };
    names.iter().map(find).collect()
}

/// One transfer from a fresh server, and the comparison of what came of it.
fn transfer(tool: Tool, scenario: Scenario, source: &Path, place: &Place) -> Result<Sample> {
    let out = place.dir.join("out");
    data::remove(&out)?;
    std::fs::create_dir(&out)?;
    if scenario == Scenario::Unchanged {
        let server = tool.serve(source, place)?;
        fetch(tool, source, &out, place)?;
        server.stop()?;
    }
    let before = cpu_of_children()?;
    let server = tool.serve(source, place)?;
    let began = Instant::now();
    fetch(tool, source, &out, place)?;
    let seconds = began.elapsed().as_secs_f64();
    server.stop()?;
    let cpu_seconds = cpu_of_children()? - before;
    data::compare(source, &tool.arrives_at(source, &out))?;
    data::remove(&out)?;
    Ok(Sample { seconds, cpu_seconds })
}

fn fetch(tool: Tool, source: &Path, out: &Path, place: &Place) -> Result<()> {
    let mut command = tool.fetch(source, out, place)?;
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let complaints = String::from_utf8_lossy(&output.stderr);
    let last = complaints.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(format!("{}: {last}", output.status).into())
}

/// CPU time of all children that have ended and been waited for, and of theirs.
fn cpu_of_children() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name.split_ascii_whitespace().skip(13).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn entry(scenario: &str, peer: &str, samples: &[Sample]) -> Option<Entry> {
    let of = |value: fn(&Sample) -> f64| Summary::of(&samples.iter().map(value).collect::<Vec<_>>());
    Some(Entry {
        scenario: scenario.to_owned(),
        peer: peer.to_owned(),
        summary: of(|s| s.seconds)?,
        unit: "s".to_owned(),
        lower_is_better: true,
        rounds: samples.len(),
        details: [("cpu_s".to_owned(), of(|s| s.cpu_seconds)?)].into(),
    })
}

fn table(document: &Document) -> String {
    use std::fmt::Write;
    let mut text = format!(
        "{}, {} cores, Linux {}, {}; large: {} MiB, small: {} files of 10 KiB; load average {:?}\n",
        document.machine.cpu,
        document.machine.cores,
        document.machine.kernel,
        document.file_system,
        document.large_mib,
        document.small_files,
        document.load_averages
    );
    for entry in &document.results {
        let Summary { median, min, max } = entry.summary;
        let ours = document.results.iter().find(|e| e.scenario == entry.scenario && e.peer == "warpline");
        let ratio = ours.map_or(String::new(), |ours| format!("{:.2} × warpline", median / ours.summary.median));
        let cpu = entry.details.get("cpu_s").map_or(0.0, |cpu| cpu.median);
        let _ = writeln!(
            text,
            "{:10} {:13} {median:8.2} s ({min:.2} .. {max:.2})  CPU {cpu:7.2} s  {ratio}",
            entry.scenario, entry.peer
        );
    }
    for Absent { peer, reason } in &document.absent {
        let _ = writeln!(text, "{peer} absent: {reason}");
    }
    text
}
