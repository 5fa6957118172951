//! Congestion controllers of several stacks over the same simulated links, in virtual time: nothing depends on the machine or on what
//! else runs on it, and the same seed gives the same result, but with noq's BBR, which draws the times of its probes from the system.
//!
//! Each stack talks to itself: one download by production code, from the connection's first packet on. quinn-proto and noq-proto take
//! the time as an argument, as Warpline does. quiche reads the process's clock, and is compared on the real clock only
//! (`warpline-bench links`).
#![forbid(unsafe_code)]
#![expect(clippy::duplicate_mod, reason = "quinn and noq have the same interface under two names")]

mod noq;
mod quinn;
mod report;
mod stacks;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use report::Plan;
use stacks::Stack;
use warpline_peer_kit::{Congestion, Result};
use warpline_proto::congestion::CongestionAlgorithm;
use warpline_sim::congestion::Link;

/// Arguments.
#[derive(Debug, Parser)]
#[command(about = "Congestion controllers of several stacks over the same simulated links")]
struct Args {
    /// Rates in Mbit/s
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000")]
    rates: Vec<u64>,
    /// Round-trip times in milliseconds
    #[arg(long, value_delimiter = ',', default_value = "1,10,30,100,300")]
    rtts: Vec<u64>,
    /// Loss of the packets towards the client, in percent
    #[arg(long, value_delimiter = ',', default_value = "0,0.1,1,2")]
    losses: Vec<f64>,
    /// The bottleneck's queue in bandwidth-delay products; two packets at least
    #[arg(long, value_delimiter = ',', default_value = "0.1,0.5,1,5")]
    buffers: Vec<f64>,
    /// Stacks
    #[arg(long, value_enum, value_delimiter = ',', default_value = "warpline,quinn,noq")]
    stacks: Vec<Stack>,
    /// Controllers
    #[arg(long, value_enum, value_delimiter = ',', default_value = "cubic,bbr")]
    congestion: Vec<Congestion>,
    /// Virtual seconds of a run, from its first packet on; never less than thirty round trips
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Seeds of a link with loss; one without loss has one
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Flows, each begun a fifth of the time after the one before and measured in the last half; 1 is measured from its start on
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    flows: u32,
    /// Links measured at the same time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Write the results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Read results from these files instead of measuring
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    from: Vec<PathBuf>,
    /// Draw congestion-peers-cubic.svg and congestion-peers-bbr.svg in this directory
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let report = if args.from.is_empty() {
        report::measured(&plan(&args))?
    } else {
        let files = args.from.iter().map(|path| Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?));
        report::together(&files.collect::<Result<Vec<_>>>()?)
    };
    println!("{}", report::table(&report));
    println!("{}", report::summary(&report));
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(directory) = &args.svg {
        for congestion in ["cubic", "bbr"] {
            let picture = report::picture(&report, congestion);
            std::fs::write(directory.join(format!("congestion-peers-{congestion}.svg")), picture)?;
        }
    }
    Ok(())
}

fn plan(args: &Args) -> Plan {
    let mut cells = Vec::new();
    for congestion in args.congestion.iter().map(|congestion| algorithm(*congestion)) {
        for &rate in &args.rates {
            for &rtt in &args.rtts {
                for &loss in &args.losses {
                    cells.extend(args.buffers.iter().map(|&buffer| (Link::new(rate, rtt, loss, buffer), congestion)));
                }
            }
        }
    }
    let time = Duration::from_secs(args.seconds);
    Plan { cells, stacks: args.stacks.clone(), time, seeds: args.seeds, flows: args.flows, jobs: args.jobs }
}

fn algorithm(congestion: Congestion) -> CongestionAlgorithm {
    match congestion {
        Congestion::NewReno => CongestionAlgorithm::NewReno,
        Congestion::Cubic => CongestionAlgorithm::Cubic,
        Congestion::Bbr => CongestionAlgorithm::Bbr,
    }
}
