//! What parts cost in instructions, counted by valgrind's callgrind: the same from run to run, whatever else the machine
//! does, so a regression of a percent shows.
//!
//! Each [part](parts::PARTS) runs in a process of its own under callgrind, which counts only inside of [`counted`]. The
//! result is set beside the last recorded one. Packets are sealed by aws-lc-rs, since valgrind has no AVX-512 (what the
//! ciphers cost is in the example `speed` of `warpline-gcm`).
//!
//! Some parts count cache lines instead: what a packet touches where thousands of connections take turns, each line once,
//! since a small simulated cache has forgotten all of a connection when its turn comes again.

pub(crate) mod crowd;
pub(crate) mod pair;
mod parts;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Parser;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::machine::Machine;

/// Count the instructions of parts, under valgrind.
#[derive(Debug, Parser)]
pub struct MicroArgs {
    /// Parts, separated by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    part: Vec<String>,
    /// The results to compare with.
    #[arg(long, default_value = "bench/results/micro.json")]
    baseline: PathBuf,
    /// A part that takes this many percent more than in the baseline is a failure.
    #[arg(long, default_value_t = 3.0)]
    max_growth: f64,
    /// Write the results to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Run one part in this process, and print how many operations were counted.
    #[arg(long, hide = true)]
    only: Option<String>,
}

/// Results of a run.
#[derive(Debug, Serialize, Deserialize)]
struct Results {
    machine: Machine,
    /// Instructions of one operation, by part; of parts that say so, cache lines.
    instructions: BTreeMap<String, f64>,
}

/// What is counted of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Instructions,
    /// Lines of data that are not in a cache of half a mebibyte.
    Lines,
}

impl Unit {
    /// What callgrind is asked for.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Instructions => &[],
            Self::Lines => &["--cache-sim=yes", "--LL=524288,16,64"],
        }
    }

    /// The sum among the totals that callgrind prints: instructions; or, of Ir, Dr, Dw and the misses of each in the first and the
    /// last cache, the last two.
    fn of(self, totals: &[f64]) -> Option<f64> {
        match self {
            Self::Instructions => totals.first().copied(),
            Self::Lines => totals.get(7..9).map(|misses| misses.iter().sum()),
        }
    }
}

/// Only what is called here is counted.
#[inline(never)]
pub fn counted<T>(operation: impl FnOnce() -> T) -> T {
    // Work behind a call that the compiler can see through would move out of here.
    std::hint::black_box(operation())
}

/// Runs it.
pub fn run(args: &MicroArgs) -> Result<ExitCode> {
    if let Some(name) = &args.only {
        println!("{}", (part(name)?.run)());
        return Ok(ExitCode::SUCCESS);
    }
    let parts: Vec<_> = match args.part.as_slice() {
        [] => parts::PARTS.iter().collect(),
        names => names.iter().map(|name| part(name)).collect::<Result<_>>()?,
    };
    let baseline: Option<Results> = match std::fs::read(&args.baseline) {
        Ok(text) => Some(serde_json::from_slice(&text)?),
        Err(error) => {
            eprintln!("nothing to compare with: {}: {error}", args.baseline.display());
            None
        }
    };
    let mut results = Results { machine: Machine::this(), instructions: BTreeMap::new() };
    let mut grown = false;
    println!("{:<18} {:>12} {:>12} {:>8}  per", "part", "now", "before", "change");
    for part in parts {
        let now = count(part)?;
        let before = baseline.as_ref().and_then(|results| results.instructions.get(part.name));
        let change = before.map(|before| (now / before - 1.0) * 100.0);
        let too_much = change.is_some_and(|change| change > args.max_growth);
        grown |= too_much;
        let before = before.map_or("–".to_owned(), |before| format!("{before:.1}"));
        let change = change.map_or("–".to_owned(), |change| format!("{change:+.1} %"));
        let mark = if too_much { "  MORE" } else { "" };
        println!("{:<18} {now:>12.1} {before:>12} {change:>8}  {}{mark}", part.name, part.per);
        results.instructions.insert(part.name.to_owned(), now);
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&results)? + "\n")?;
    }
    Ok(if grown { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn part(name: &str) -> Result<&'static parts::Part> {
    let found = parts::PARTS.iter().find(|part| part.name == name);
    let names = || parts::PARTS.iter().map(|part| part.name).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| format!("there is no part {name}; there are {}", names()).into())
}

/// Instructions, or cache lines, of one operation of a part.
fn count(part: &parts::Part) -> Result<f64> {
    let name = part.name;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*micro::counted*"]);
    command.args(part.unit.options());
    command.arg(std::env::current_exe()?).args(["micro", "--only", name]);
    let output = command.output().map_err(|error| format!("valgrind: {error}; Debian package valgrind"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{name}: {said}").into());
    }
    let totals = said.lines().find_map(|line| line.split("Collected :").nth(1)).unwrap_or_default();
    let totals: Vec<f64> = totals.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let collected = part.unit.of(&totals);
    let operations = String::from_utf8_lossy(&output.stdout).trim().parse::<f64>()?;
    match collected {
        Some(collected) if collected > 0.0 => Ok(collected / operations),
        _ => Err(format!("{name}: valgrind counted nothing: {said}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_does_what_it_counts() {
        for part in parts::PARTS {
            assert!((part.run)() > 0, "{}", part.name);
        }
        assert!(part("no-such-part").is_err());
    }
}
