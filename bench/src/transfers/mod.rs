//! Whole programs: `warpline get` beside what people use today, on the same trees, in turns.
//!
//! Each program serves a directory with a server of its own on the loopback and fetches it into an empty directory, or into
//! one that has everything already, or older versions of it. What arrived is compared with the original after the clock has stopped; a transfer that
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
use data::Change;
use tools::{Place, Tool};

/// The older version of what has changed.
const OLDER: &str = "older";

#[derive(Debug, Parser)]
pub struct TransfersArgs {
    /// Programs, separated by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    tools: Vec<String>,
    /// Scenarios (large, small, cold, unchanged, changed, inserted), separated by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// Rounds of every scenario with every program.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// MiB of the one file of `large`.
    #[arg(long, default_value_t = 4096)]
    large: u64,
    /// MiB of the one file of `changed` and `inserted`.
    #[arg(long, default_value_t = 1024)]
    changed: u64,
    /// Files of `small`, `cold` and `unchanged`, of 10 KiB each.
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
    /// The same, none of which is in the page cache. Needs root.
    Cold,
    /// The same many files where all are there already.
    Unchanged,
    /// One file of which a tenth has changed.
    Changed,
    /// One file into which little was inserted at many places.
    Inserted,
}

impl Scenario {
    const ALL: [Self; 6] = [Self::Large, Self::Small, Self::Cold, Self::Unchanged, Self::Changed, Self::Inserted];

    fn name(self) -> &'static str {
        match self {
            Self::Large => "large",
            Self::Small => "small",
            Self::Cold => "cold",
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
            Self::Inserted => "inserted",
        }
    }

    /// The tree that it transfers.
    fn source(self) -> &'static str {
        match self {
            Self::Large => "large",
            Self::Small | Self::Cold | Self::Unchanged => "small",
            Self::Changed => "changed",
            Self::Inserted => "inserted",
        }
    }

    /// How the tree differs from its older version, if there is one.
    fn change(self) -> Option<Change> {
        match self {
            Self::Changed => Some(Change::Blocks),
            Self::Inserted => Some(Change::Insertions),
            _ => None,
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
    changed_mib: u64,
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
    /// Bytes that crossed the loopback in both directions, headers and all.
    wire_mib: f64,
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
        changed_mib: args.changed,
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
    make_trees(directory.path(), &scenarios, args)?;
    let mut samples: BTreeMap<(usize, usize), Vec<Sample>> = BTreeMap::new();
    for round in 0..args.rounds {
        document.load_averages.push(machine::load_average());
        for (at, scenario) in scenarios.iter().enumerate() {
            let source = &directory.path().join(scenario.source());
            for turn in 0..present.len() {
                let index = (turn + round) % present.len();
                let tool = present[index];
                let has_some = *scenario == Scenario::Unchanged || scenario.change().is_some();
                if has_some && !tool.brings_up_to_date() {
                    continue;
                }
                eprint!("round {}/{}  {:10} {:13} ", round + 1, args.rounds, scenario.name(), tool.name());
                match transfer(tool, *scenario, source, &place) {
                    Ok(sample) => {
                        let Sample { seconds, cpu_seconds, wire_mib } = sample;
                        eprintln!("{seconds:.2} s, {cpu_seconds:.2} s of CPU time, {wire_mib:.1} MiB");
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

/// Makes what the scenarios transfer.
fn make_trees(dir: &Path, scenarios: &[Scenario], args: &TransfersArgs) -> Result<()> {
    let older = dir.join(OLDER);
    for scenario in scenarios {
        let tree = dir.join(scenario.source());
        if tree.exists() {
            continue;
        }
        match (scenario.change(), scenario) {
            (Some(change), _) => {
                if !older.exists() {
                    data::make_large(&older, args.changed << 20)?;
                }
                data::make_changed(&older, &tree, change)?;
            }
            (None, Scenario::Large) => data::make_large(&tree, args.large << 20)?,
            (None, _) => data::make_small(&tree, args.files)?,
        }
    }
    Ok(())
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
    if scenario.change().is_some() {
        data::put_older(&place.dir.join(OLDER), &tool.arrives_at(source, &out))?;
    }
    let before = cpu_of_children()?;
    let server = tool.serve(source, place)?;
    if scenario == Scenario::Cold {
        data::empty_page_cache()?;
    }
    let sent_before = sent_over_loopback()?;
    let began = Instant::now();
    fetch(tool, source, &out, place)?;
    let seconds = began.elapsed().as_secs_f64();
    let wire_mib = (sent_over_loopback()? - sent_before) as f64 / f64::from(1 << 20);
    server.stop()?;
    let cpu_seconds = cpu_of_children()? - before;
    data::compare(source, &tool.arrives_at(source, &out))?;
    data::remove(&out)?;
    Ok(Sample { seconds, cpu_seconds, wire_mib })
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

/// Bytes that the loopback has carried so far.
fn sent_over_loopback() -> Result<u64> {
    Ok(std::fs::read_to_string("/sys/class/net/lo/statistics/tx_bytes")?.trim().parse()?)
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
        details: [("cpu_s".to_owned(), of(|s| s.cpu_seconds)?), ("wire_mib".to_owned(), of(|s| s.wire_mib)?)].into(),
    })
}

fn table(document: &Document) -> String {
    use std::fmt::Write;
    let mut text = format!(
        "{}, {} cores, Linux {}, {}; large: {} MiB, changed: {} MiB, small: {} files of 10 KiB; load average {:?}\n",
        document.machine.cpu,
        document.machine.cores,
        document.machine.kernel,
        document.file_system,
        document.large_mib,
        document.changed_mib,
        document.small_files,
        document.load_averages
    );
    for entry in &document.results {
        let Summary { median, min, max } = entry.summary;
        let ours = document.results.iter().find(|e| e.scenario == entry.scenario && e.peer == "warpline");
        let ratio = ours.map_or(String::new(), |ours| format!("{:.2} × warpline", median / ours.summary.median));
        let detail = |name: &str| entry.details.get(name).map_or(0.0, |detail| detail.median);
        let (cpu, wire) = (detail("cpu_s"), detail("wire_mib"));
        let _ = writeln!(
            text,
            "{:10} {:13} {median:8.2} s ({min:.2} .. {max:.2})  CPU {cpu:7.2} s  {wire:8.1} MiB  {ratio}",
            entry.scenario, entry.peer
        );
    }
    for Absent { peer, reason } in &document.absent {
        let _ = writeln!(text, "{peer} absent: {reason}");
    }
    text
}
