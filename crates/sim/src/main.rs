//! Runs scenarios with many seeds, or one seed again.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use warpline_sim::run::run;
use warpline_sim::scenario::{ALL, Scenario, find};

#[derive(Parser)]
#[command(about = "A deterministic network simulator for the production protocol code")]
struct Cli {
    /// Seeds per scenario
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// Only this scenario
    #[arg(long, value_parser = scenario)]
    scenario: Option<&'static Scenario>,
    /// Only this seed
    #[arg(long)]
    seed: Option<u64>,
    /// Print every event
    #[arg(long)]
    verbose: bool,
    /// Name the scenarios and stop
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.list {
        for scenario in ALL {
            println!("{:<18} {}", scenario.name, scenario.about);
        }
        return ExitCode::SUCCESS;
    }
    let scenarios = cli.scenario.map_or(ALL, std::slice::from_ref);
    let seeds = cli.seed.map_or(0..cli.seeds, |seed| seed..seed + 1);
    let mut failures = 0u64;
    for scenario in scenarios {
        failures += all_seeds(scenario, seeds.clone(), cli.verbose);
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one scenario and returns how many seeds failed.
fn all_seeds(scenario: &Scenario, seeds: std::ops::Range<u64>, verbose: bool) -> u64 {
    let (mut runs, mut events, mut failures) = (0u64, 0, 0);
    let mut longest = std::time::Duration::ZERO;
    for seed in seeds {
        match run(scenario, seed, verbose) {
            Ok(outcome) => {
                events += outcome.events;
                longest = longest.max(outcome.took);
            }
            Err(failure) => {
                failures += 1;
                eprintln!("{failure}");
            }
        }
        runs += 1;
    }
    println!("{:<18} {runs} runs, {failures} failed, {events} events, longest {longest:.1?}", scenario.name);
    failures
}

fn scenario(name: &str) -> Result<&'static Scenario, String> {
    find(name).ok_or_else(|| {
        let names: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
        format!("there are {}", names.join(", "))
    })
}
