//! Warpline's back ends over a virtual link between two network namespaces: what a server's core does with each.
//!
//! The other rows run on the loopback, which AF_XDP cannot have. Here the client is the same in all runs, on the kernel's
//! sockets; the server changes. What counts is the server's CPU time for each operation. On a link without hardware the
//! kernel's share of reception is done where the sender runs, for every back end: of the server's time a part is the client's
//! reception and the other way round, so the time of both ends is told too. With `--own-reception` each end's core receives for
//! itself, as two machines would, and what counts is all that the server's core does.
//!
//! Operations are compared, not packets: a back end that lets more small datagrams share a packet has fewer of those. Where
//! each packet carries one message, both say the same.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use serde::Serialize;
use serde_json::Value;

use crate::Result;
use crate::machine::{Machine, load_average};
use crate::namespaces::{Pair, SERVER};
use crate::process::cpu_seconds;
use crate::reception::busy_seconds;
use crate::stats::Summary;

/// How long a program may take beyond its measured time.
const LIMIT: Duration = Duration::from_secs(20);
/// The back ends of the server, the reference first, with what each takes.
const BACKENDS: [(&str, &[&str]); 6] = [
    ("udp", &["--io", "udp"]),
    ("uring", &["--io", "uring"]),
    ("xdp", &["--io", "xdp", "--interface", "wl0"]),
    ("xdp-poll-sends", &["--io", "xdp", "--interface", "wl0", "--xdp-wakeups", "poll"]),
    ("xdp-uring-sleeps", &["--io", "xdp", "--interface", "wl0", "--xdp-wakeups", "uring"]),
    ("xdp-busy-poll", &["--io", "xdp", "--interface", "wl0", "--xdp-busy-poll", "64", "--busy-poll", "50"]),
];
/// The loads, with the figure that an operation is counted by.
const LOADS: [(&str, &[&str], &str); 5] = [
    // Each connection has one small request under way: hardly two packets in a row go to the same peer.
    ("requests", &["--scenario", "reqresp", "--connections", "64", "--in-flight", "64"], "requests"),
    (
        "datagrams",
        &["--scenario", "datagram-echo", "--connections", "64", "--in-flight", "1", "--bytes", "100"],
        "requests",
    ),
    // No two fit one packet: every packet goes to another peer than the one before.
    (
        "large-datagrams",
        &["--scenario", "datagram-echo", "--connections", "64", "--in-flight", "1", "--bytes", "1000"],
        "requests",
    ),
    // Where the kernel's segmentation helps most.
    ("download", &["--scenario", "download", "--bytes", "100000000"], "bytes"),
    ("handshakes", &["--scenario", "connect", "--in-flight", "8"], "requests"),
];

/// Arguments of `veth`.
#[derive(Debug, Parser)]
pub struct VethArgs {
    /// Rounds: runs of every load with every back end.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measured seconds of a run.
    #[arg(long, default_value_t = 2.0)]
    duration: f64,
    /// The `warpline` program, of a release build.
    #[arg(long, default_value = "target/release/warpline")]
    warpline: PathBuf,
    /// Core that servers run on.
    #[arg(long, default_value_t = 1)]
    server_core: usize,
    /// Core that clients run on.
    #[arg(long, default_value_t = 0)]
    client_core: usize,
    /// Each end's core receives what comes for it, the client goes by AF_XDP, so that no two packets share a train, and the
    /// cores' busy time counts instead of the programs': nothing else may run on them.
    #[arg(long)]
    own_reception: bool,
    /// Loads to measure, of requests, datagrams, large-datagrams, download and handshakes; all by default.
    #[arg(long, value_delimiter = ',')]
    loads: Vec<String>,
    /// Back ends to measure beside udp, of uring, xdp, xdp-poll-sends, xdp-uring-sleeps and xdp-busy-poll; all by default.
    #[arg(long, value_delimiter = ',')]
    backends: Vec<String>,
    /// Write the results to this file, too.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    load_average: f64,
    seconds: f64,
    own_reception: bool,
    entries: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    load: &'static str,
    backend: &'static str,
    /// What the program says of its back end.
    why: String,
    /// Per second of the server's CPU time, each round: requests, echoes or bytes.
    per_cpu_second: Vec<f64>,
    /// The same per second of the CPU time of both ends.
    per_cpu_second_of_both: Vec<f64>,
    /// Datagrams that the server received and sent, per second of its CPU time.
    packets_per_cpu_second: Vec<f64>,
    /// Per second.
    per_second: Vec<f64>,
    /// Of the server's packets, system calls each.
    calls_per_packet: Vec<f64>,
}

/// Runs it; needs root.
pub fn run(args: &VethArgs) -> Result<()> {
    let loads = chosen(&LOADS.map(|(name, ..)| name), &args.loads, None)?;
    let backends = chosen(&BACKENDS.map(|(name, _)| name), &args.backends, Some(BACKENDS[0].0))?;
    let net = Pair::new()?;
    if args.own_reception {
        net.receive_on([args.server_core, args.client_core])?;
    }
    let mut entries: Vec<Entry> = Vec::new();
    for round in 1..=args.rounds {
        for &load in &loads {
            for &backend in &backends {
                eprintln!("round {round}: {load} over {backend}");
                let run = one(&net, args, load, backend)?;
                let index = entries.iter().position(|entry| (entry.load, entry.backend) == (load, backend));
                let index = index.unwrap_or_else(|| {
                    let (why, none) = (run.why.clone(), Vec::new);
                    let [per_cpu_second, per_cpu_second_of_both, packets_per_cpu_second, per_second, calls_per_packet] =
                        [none; 5].map(|f| f());
                    entries.push(Entry {
                        load,
                        backend,
                        why,
                        per_cpu_second,
                        per_cpu_second_of_both,
                        packets_per_cpu_second,
                        per_second,
                        calls_per_packet,
                    });
                    entries.len() - 1
                });
                let entry = &mut entries[index];
                entry.per_cpu_second.push(run.operations / run.cpu);
                entry.per_cpu_second_of_both.push(run.operations / (run.cpu + run.client_cpu));
                entry.packets_per_cpu_second.push(run.packets / run.cpu);
                entry.per_second.push(run.operations / run.seconds);
                entry.calls_per_packet.push(run.calls / run.packets);
            }
        }
    }
    print(&entries);
    let results = Results {
        machine: Machine::this(),
        load_average: load_average(),
        seconds: args.duration,
        own_reception: args.own_reception,
        entries,
    };
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&results)?)?;
    }
    Ok(())
}

/// Of `all` the `wanted` ones and `always`, in their order; all if none are wanted.
fn chosen(all: &[&'static str], wanted: &[String], always: Option<&str>) -> Result<Vec<&'static str>> {
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(&name.as_str())) {
        return Err(format!("{unknown} is none of {}", all.join(", ")).into());
    }
    let is_chosen = |name: &&str| wanted.is_empty() || always == Some(*name) || wanted.iter().any(|w| w == name);
    Ok(all.iter().copied().filter(|name| is_chosen(name)).collect())
}

fn print(entries: &[Entry]) {
    println!(
        "| load | back end | packets per CPU second | operations per CPU second | to udp | both ends, to udp | calls per packet |"
    );
    println!("|---|---|---|---|---|---|---|");
    let median = |values: &[f64]| Summary::of(values).map_or(f64::NAN, |summary| summary.median);
    for entry in entries {
        let reference = entries.iter().find(|other| other.load == entry.load && other.backend == BACKENDS[0].0);
        let operations = median(&entry.per_cpu_second);
        let to_udp =
            |of: fn(&Entry) -> &[f64]| median(of(entry)) / reference.map_or(f64::NAN, |other| median(of(other)));
        let (ratio, both) = (to_udp(|entry| &entry.per_cpu_second), to_udp(|entry| &entry.per_cpu_second_of_both));
        println!(
            "| {} | {} | {:.0} | {operations:.0} ± {:.0} % | {ratio:.2} | {both:.2} | {:.3} |",
            entry.load,
            entry.backend,
            median(&entry.packets_per_cpu_second),
            Summary::of(&entry.per_cpu_second).map_or(f64::NAN, |summary| summary.spread() * 100.0),
            median(&entry.calls_per_packet),
        );
    }
}

/// One run, of the server's side where nothing else is said.
struct Run {
    why: String,
    operations: f64,
    /// Of the client's measured span.
    seconds: f64,
    /// For as many operations.
    cpu: f64,
    client_cpu: f64,
    packets: f64,
    calls: f64,
}

fn one(net: &Pair, args: &VethArgs, load: &str, backend: &'static str) -> Result<Run> {
    let own = |table: &[(&'static str, &'static [&'static str])]| -> Vec<&'static str> {
        table.iter().find(|(name, _)| *name == backend).map_or(Vec::new(), |(_, flags)| flags.to_vec())
    };
    let start = |end: usize, flags: Vec<String>, core| net.start(end, &args.warpline, flags, core);
    let text = |flags: &[&str]| flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>();
    let flags = [vec!["perf", "server", "--bind", SERVER], own(&BACKENDS)].concat();
    let mut server = start(0, text(&flags), args.server_core)?;
    server.line(LIMIT)?;
    let (_, flags, counted) = *LOADS.iter().find(|(name, ..)| *name == load).ok_or("no such load")?;
    let duration = args.duration.to_string();
    // No warm-up: all that the server does is for operations that are counted, but for the handshakes.
    let common = ["perf", "client", SERVER, "--insecure", "--warmup", "0", "--duration", &duration];
    let io: &[&str] = if args.own_reception { &["--io", "xdp", "--interface", "wl1"] } else { &["--io", "udp"] };
    let spent = |core, process| if args.own_reception { busy_seconds(core) } else { process };
    let before = spent(args.server_core, cpu_seconds(server.id()))?;
    let client_before = spent(args.client_core, Ok(0.0))?;
    let mut client = start(1, text(&[&common[..], io, flags].concat()), args.client_core)?;
    let report: Value = serde_json::from_str(&client.line(Duration::from_secs_f64(args.duration) + LIMIT)?)?;
    let client_cpu = spent(args.client_core, cpu_seconds(client.id()))? - client_before;
    client.stop()?;
    let cpu = spent(args.server_core, cpu_seconds(server.id()))? - before;
    let said: Value = serde_json::from_str(&server.last_words()?)?;
    let number = |value: &Value| value.as_f64().ok_or("a figure is missing in a report");
    Ok(Run {
        why: said["why"].as_str().unwrap_or_default().to_owned(),
        operations: number(&report[counted])?,
        seconds: number(&report["seconds"])?,
        cpu,
        client_cpu,
        packets: number(&said["datagrams"])?,
        calls: number(&said["syscalls"])?,
    })
}

#[cfg(test)]
mod tests {
    use super::chosen;

    #[test]
    fn names_are_chosen_in_their_order_or_refused() {
        let all = ["udp", "uring", "xdp"];
        let wanted = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(chosen(&all, &[], None).unwrap(), all);
        assert_eq!(chosen(&all, &wanted(&["xdp"]), Some("udp")).unwrap(), ["udp", "xdp"]);
        assert_eq!(chosen(&all, &wanted(&["xdp", "uring"]), None).unwrap(), ["uring", "xdp"]);
        assert!(chosen(&all, &wanted(&["tcp"]), None).is_err());
    }
}
