//! `warpline demo`: the whole product once, on this machine, with nothing taken on trust.

mod compare;
mod kills;
mod place;
mod process;
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
    /// How often to kill, in turn the receiver and the host: once half-way, or several times at random moments.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    kills: u32,
    /// Run host and receiver in two network namespaces that are made for it, which takes root.
    #[arg(long)]
    namespaces: bool,
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
    let kills: Vec<_> =
        o.interrupted.kills.iter().map(|(side, at)| serde_json::json!({ "side": side, "at_bytes": at })).collect();
    serde_json::json!({
        "bytes": o.first.bytes,
        "files": o.first.files,
        "seconds": o.first.seconds,
        "goodput_bps": o.first.goodput_bps,
        "verified": o.first.verified,
        "host_cpu_s_per_gib": o.host_cpu_per_gib(),
        "get_cpu_s_per_gib": o.get_cpu_per_gib(),
        "host_syscalls": o.host.syscalls,
        "get_syscalls": o.first.syscalls,
        "host_peak_memory": o.host.peak_memory,
        "get_peak_memory": o.first.peak_memory,
        "packets_lost": o.first.packets_lost,
        "interrupted": {
            "kills": kills,
            "reused_bytes": o.interrupted.last.reused_bytes,
            "received_bytes": o.interrupted.last.received_bytes,
            "seconds": o.interrupted.last.seconds,
            "bytes_on_wire": o.interrupted.on_wire,
            "overhead": o.overhead(),
        },
        "compared_entries": o.compared,
        "differences": o.differences,
    })
}

fn table(o: &Outcome) {
    let per_gib = |seconds: f64| format!("{seconds:.2} s");
    let last = &o.interrupted.last;
    let mut kills = o.interrupted.kills.iter().map(|(side, at)| format!("{side} at {}", output::bytes(*at)));
    let rows = [
        ("fetched", format!("{} files, {}", o.first.files, output::bytes(o.first.bytes))),
        ("time", format!("{:.2} s", o.first.seconds)),
        ("goodput", output::rate(o.first.goodput_bps)),
        ("files per second", format!("{:.0}", o.first.files as f64 / o.first.seconds.max(0.001))),
        ("CPU per GiB, host / get", format!("{} / {}", per_gib(o.host_cpu_per_gib()), per_gib(o.get_cpu_per_gib()))),
        (
            "most memory, host / get",
            format!("{} / {}", output::bytes(o.host.peak_memory), output::bytes(o.first.peak_memory)),
        ),
        ("system calls for packets, host / get", format!("{} / {}", o.host.syscalls, o.first.syscalls)),
        ("packets lost", o.first.packets_lost.to_string()),
        ("killed (SIGKILL)", kills.by_ref().take(3).collect::<Vec<_>>().join(", ")),
        ("killed more often", kills.count().to_string()),
        ("kept by the last run", output::bytes(last.reused_bytes)),
        ("fetched by the last run", output::bytes(last.received_bytes)),
        (
            "sent too much, headers included",
            o.overhead().map_or("not measured".into(), |part| format!("{:.2} %", part * 100.0)),
        ),
        (
            "compared, in two copies",
            format!("{} entries: bytes, names, modes, times, links, holes, attributes", o.compared),
        ),
        ("differences", o.differences.len().to_string()),
    ];
    for (name, value) in rows {
        println!("{name:<38} {value}");
    }
}
