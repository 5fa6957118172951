//! `warpline demo`: the whole product once, on this machine, with nothing taken on trust.

mod compare;
mod run;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::{exit, output};
use run::Outcome;

/// Prove in two minutes that it works here: share, fetch, compare, interrupt, resume.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Directory to share; without it a tree of mixed files is made and removed afterwards.
    dir: Option<PathBuf>,
    /// Where to put the copies, which are removed afterwards; by default beside the system's temporary files.
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// MiB in the large files of the tree that is made.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(8..=1_000_000))]
    size: u64,
    /// Small files in the tree that is made.
    #[arg(long, default_value_t = 10_000)]
    files: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs it; fails if anything differs.
pub fn run(args: &DemoArgs) -> ExitCode {
    match run::demo(args) {
        Ok(outcome) => {
            if args.json {
                println!("{}", json(&outcome))
            } else {
                table(&outcome)
            }
            if outcome.is_good() {
                return ExitCode::SUCCESS;
            }
            for difference in outcome.differences.iter().take(20) {
                eprintln!("warpline demo: {difference}");
            }
            eprintln!("warpline demo: the copy differs in {} places", outcome.differences.len());
            ExitCode::from(exit::FAILED)
        }
        Err(error) => {
            eprintln!("warpline demo: {error}");
            ExitCode::from(exit::FAILED)
        }
    }
}

fn json(o: &Outcome) -> serde_json::Value {
    serde_json::json!({
        "bytes": o.first.bytes,
        "files": o.first.files,
        "seconds": o.first.seconds,
        "goodput_bps": o.first.goodput_bps,
        "verified": o.first.verified,
        "host_cpu_s_per_gib": o.host_cpu_per_gib(),
        "get_cpu_s_per_gib": o.get_cpu_per_gib(),
        "host_syscalls": o.host_syscalls,
        "get_syscalls": o.first.syscalls,
        "packets_lost": o.first.packets_lost,
        "resumed": {
            "killed_after_bytes": o.killed_after,
            "reused_bytes": o.second.reused_bytes,
            "received_bytes": o.second.received_bytes,
            "seconds": o.second.seconds,
        },
        "compared_entries": o.compared,
        "differences": o.differences,
    })
}

fn table(o: &Outcome) {
    let per_gib = |seconds: f64| format!("{seconds:.2} s");
    let rows = [
        ("fetched", format!("{} files, {}", o.first.files, output::bytes(o.first.bytes))),
        ("time", format!("{:.2} s", o.first.seconds)),
        ("goodput", output::rate(o.first.goodput_bps)),
        ("CPU per GiB, host", per_gib(o.host_cpu_per_gib())),
        ("CPU per GiB, get", per_gib(o.get_cpu_per_gib())),
        ("system calls for packets, host / get", format!("{} / {}", o.host_syscalls, o.first.syscalls)),
        ("packets lost", o.first.packets_lost.to_string()),
        ("killed (SIGKILL) after", output::bytes(o.killed_after)),
        ("kept by the next run", output::bytes(o.second.reused_bytes)),
        ("fetched by the next run", output::bytes(o.second.received_bytes)),
        ("compared, twice", format!("{} entries: bytes, names, modes, times, links, holes, attributes", o.compared)),
        ("differences", o.differences.len().to_string()),
    ];
    for (name, value) in rows {
        println!("{name:<38} {value}");
    }
}
