//! Runs scenarios with many seeds, or one seed again.
#![forbid(unsafe_code)]

use std::fmt;
use std::num::NonZero;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use warpline_proto::congestion::CongestionAlgorithm;
use warpline_sim::congestion::{self, Fairness, Flows, Scale};
use warpline_sim::run::run;
use warpline_sim::scenario::{ALL, Scenario, find};

#[derive(Parser)]
#[command(
    about = "A deterministic network simulator for the production protocol code",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Seeds per scenario
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// Only this scenario
    #[arg(long, value_parser = scenario)]
    scenario: Option<&'static Scenario>,
    /// Only this seed
    #[arg(long)]
    seed: Option<u64>,
    /// Runs at the same time, each on a thread of its own [default: one per core]
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
    /// Print every event; one run at a time
    #[arg(long)]
    verbose: bool,
    /// Name the scenarios and stop
    #[arg(long)]
    list: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Measures how much of a link each congestion controller uses, and how two flows share it
    Congestion(CongestionArgs),
}

#[derive(Args)]
struct CongestionArgs {
    /// Leave out the rates above 100 Mbit/s
    #[arg(long)]
    quick: bool,
    /// Instead: downloads by servers that remember the path from a connection before, and by such that do not
    #[arg(long, conflicts_with_all = ["quick", "link", "svg", "from"])]
    resume: bool,
    /// Only how two flows share a link: that of --link, or those of the table in docs/congestion.md
    #[arg(long, conflicts_with_all = ["svg", "resume", "from"])]
    fairness: bool,
    /// One link, such as 100,50,1,0.5: Mbit/s, milliseconds of round trip, percent of loss, queue in bandwidth-delay products
    #[arg(long, value_parser = link)]
    link: Option<congestion::Link>,
    /// Measure single flows in so many seconds from their first packet on, start included, instead of when they are under way
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["resume", "fairness", "from"])]
    from_start: Option<u64>,
    /// Only cells with this controller: cubic or bbr
    #[arg(long, value_parser = controller, conflicts_with_all = ["resume", "from"])]
    congestion: Option<CongestionAlgorithm>,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Cells measured at the same time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Write the results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Read the results from this file instead of measuring
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "quick", "link"])]
    from: Option<PathBuf>,
    /// Draw congestion-cubic.svg and congestion-bbr.svg in this directory
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Congestion(args)) = &cli.command {
        return match measure_congestion(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    if cli.list {
        for scenario in ALL {
            println!("{:<18} {}", scenario.name, scenario.about);
        }
        return ExitCode::SUCCESS;
    }
    let scenarios = cli.scenario.map_or(ALL, std::slice::from_ref);
    let seeds = cli.seed.map_or(0..cli.seeds, |seed| seed..seed + 1);
    let jobs = if cli.verbose { NonZero::<usize>::MIN } else { cli.jobs.unwrap_or_else(cores) };
    let mut failures = 0u64;
    for scenario in scenarios {
        let tally = all_seeds(scenario, seeds.clone(), jobs, cli.verbose);
        println!("{:<18} {tally}", scenario.name);
        failures += tally.failures;
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn cores() -> NonZero<usize> {
    thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

/// What the runs of one scenario came to.
#[derive(Default)]
struct Tally {
    runs: u64,
    failures: u64,
    events: u64,
    longest: Duration,
}

impl Tally {
    fn add(self, other: Self) -> Self {
        Self {
            runs: self.runs + other.runs,
            failures: self.failures + other.failures,
            events: self.events + other.events,
            longest: self.longest.max(other.longest),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, failures, events, longest } = self;
        write!(f, "{runs} runs, {failures} failed, {events} events, longest {longest:.1?}")
    }
}

/// Runs one scenario with all seeds; a run shares nothing with another, so they may go side by side.
fn all_seeds(scenario: &Scenario, seeds: Range<u64>, jobs: NonZero<usize>, verbose: bool) -> Tally {
    let next = AtomicU64::new(seeds.start);
    let take_seeds = || {
        let mut tally = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return tally;
            }
            tally = tally.add(one_seed(scenario, seed, verbose));
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.get()).map(|_| scope.spawn(take_seeds)).collect();
        // A panic of the code under test is a failure that was counted; one of this program is not to be hidden.
        let tallies = threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        tallies.fold(Tally::default(), Tally::add)
    })
}

fn one_seed(scenario: &Scenario, seed: u64, verbose: bool) -> Tally {
    match run(scenario, seed, verbose) {
        Ok(outcome) => Tally { runs: 1, failures: 0, events: outcome.events, longest: outcome.took },
        Err(failure) => {
            eprintln!("{failure}");
            Tally { runs: 1, failures: 1, ..Tally::default() }
        }
    }
}

fn measure_congestion(args: &CongestionArgs) -> Result<(), Box<dyn std::error::Error>> {
    if args.resume {
        let report = congestion::resume_report(&congestion::visits(), args.seed);
        println!("{}", congestion::resume_table(&report));
        return write_json(args, &report);
    }
    let report = match &args.from {
        Some(path) => serde_json::from_str(&std::fs::read_to_string(path)?)?,
        None => {
            let (mut cells, mut pairs) = (congestion::grid(args.quick), congestion::fairness(args.quick));
            if let Some(link) = args.link {
                pairs = if args.fairness { Fairness::on(link).to_vec() } else { Vec::new() };
                cells.truncate(0);
                cells.extend(congestion::ALGORITHMS.map(|algorithm| (link, algorithm)));
            }
            if args.fairness {
                cells.clear();
            }
            if let Some(only) = args.congestion {
                cells.retain(|(_, algorithm)| *algorithm == only);
                pairs.retain(|pair| pair.algorithms.contains(&only));
            }
            if args.from_start.is_some() {
                pairs.clear();
            }
            let flow = |link: &congestion::Link| match args.from_start {
                Some(seconds) => Flows::from_start(Duration::from_secs(seconds)),
                None => Flows::one(link.time()),
            };
            congestion::report(&cells, flow, &pairs, args.jobs, args.seed)
        }
    };
    println!("{}", congestion::table(&report));
    write_json(args, &report)?;
    if let Some(directory) = &args.svg {
        for algorithm in congestion::ALGORITHMS.map(congestion::name) {
            std::fs::write(
                directory.join(format!("congestion-{algorithm}.svg")),
                congestion::heat_map(&report, algorithm, &Scale::share(algorithm)),
            )?;
        }
    }
    Ok(())
}

fn write_json(args: &CongestionArgs, report: &serde_json::Value) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(report)?)?;
    }
    Ok(())
}

fn link(text: &str) -> Result<congestion::Link, String> {
    let numbers: Vec<f64> = text.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|e| format!("{e}"))?;
    match numbers[..] {
        [rate, rtt, loss, queue] if rate >= 1.0 && rtt >= 1.0 && (0.0..=100.0).contains(&loss) && queue >= 0.0 => {
            Ok(congestion::Link::new(rate as u64, rtt as u64, loss, queue))
        }
        _ => Err("expected four numbers: Mbit/s and milliseconds of at least 1, percent, queue".into()),
    }
}

fn controller(name: &str) -> Result<CongestionAlgorithm, String> {
    let found = congestion::ALGORITHMS.into_iter().find(|algorithm| congestion::name(*algorithm) == name);
    found.ok_or_else(|| format!("there are {}", congestion::ALGORITHMS.map(congestion::name).join(", ")))
}

fn scenario(name: &str) -> Result<&'static Scenario, String> {
    find(name).ok_or_else(|| {
        let names: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
        format!("there are {}", names.join(", "))
    })
}
