//! The comparison as a table for a terminal.

use std::fmt::Write;

use crate::peers;
use crate::results::{Entry, Results};

/// Renders all rows, and everything needed to judge them.
pub fn render(results: &Results) -> String {
    let mut text = String::new();
    let machine = &results.machine;
    let parameters = &results.parameters;
    let loads: Vec<String> = results.load_averages.iter().map(|load| format!("{load:.2}")).collect();
    let _ = writeln!(text, "{}, {} cores, Linux {}", machine.cpu, machine.cores, machine.kernel);
    let _ = writeln!(text, "{}; {}; window {} KiB", parameters.tls, parameters.congestion, parameters.window >> 10);
    let _ = writeln!(
        text,
        "{} interleaved rounds of {} s after {} s; server on core {}, client on core {}; load average {}",
        parameters.rounds,
        parameters.duration_s,
        parameters.warmup_s,
        parameters.server_core,
        parameters.client_core,
        loads.join(" ")
    );
    for (peer, version) in &results.versions {
        let _ = write!(text, "{peer} {version}  ");
    }
    text.push('\n');
    for scenario in scenarios(results) {
        text.push('\n');
        text.push_str(&row(results, scenario));
    }
    for absent in &results.absent {
        let _ = writeln!(text, "\n{} absent: {}", absent.peer, absent.reason);
    }
    text
}

/// The rows that there is something to say about, in the order in which they come first.
pub fn scenarios(results: &Results) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    let measured = results.results.iter().map(|entry| entry.scenario.as_str());
    for name in measured.chain(results.failures.iter().map(|failure| failure.scenario.as_str())) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn row(results: &Results, scenario: &str) -> String {
    let entries: Vec<&Entry> = results.results.iter().filter(|entry| entry.scenario == scenario).collect();
    let unit = entries.first().map_or("", |entry| entry.unit.as_str());
    let mut text = format!(
        "{:16} {:>12} {:>25} {:>9} {:>9}  {}\n",
        scenario,
        format!("median {unit}"),
        "min .. max",
        "× best",
        "× TCP",
        "server / client"
    );
    let best = results.best_other(scenario, true);
    let tcp = results.best_other(scenario, false);
    for entry in &entries {
        let ratio = |other: Option<&Entry>| {
            let other = other.filter(|other| other.peer != entry.peer);
            other.map_or(String::from("–"), |other| format!("{:.2}", entry.ratio_to(other)))
        };
        let summary = &entry.summary;
        let spread = format!("{} .. {} (±{:.0} %)", number(summary.min), number(summary.max), summary.spread() * 100.0);
        let _ = write!(text, "  {:14} {:>12} {spread:>25} ", entry.peer, number(summary.median));
        let _ = write!(text, "{:>9} {:>9}  {}", ratio(best), ratio(tcp), costs(entry));
        if entry.rounds < results.parameters.rounds {
            let _ = write!(text, "  ({} of {} rounds)", entry.rounds, results.parameters.rounds);
        }
        text.push('\n');
    }
    for failure in results.failures.iter().filter(|failure| failure.scenario == scenario) {
        let _ = writeln!(text, "  {:14} failed: {}", failure.peer, failure.reason);
    }
    text
}

/// What the work cost, in the unit that fits the row.
fn costs(entry: &Entry) -> String {
    let median = |name: &str| entry.details.get(name).map(|summary| summary.median);
    let mut parts = Vec::new();
    for (server, client, unit) in [
        ("server_cpu_s_per_gib", "client_cpu_s_per_gib", "CPU s/GiB"),
        ("server_cpu_us_per_op", "client_cpu_us_per_op", "CPU µs each"),
    ] {
        if let (Some(server), Some(client)) = (median(server), median(client)) {
            parts.push(format!("{server:.2} / {client:.2} {unit}"));
        }
    }
    if entry.unit == "µs" {
        parts.extend(median("p99_us").map(|p99| format!("p99 {p99:.0} µs")));
    }
    parts.extend(median("server_syscalls_per_packet").map(|calls| format!("{calls:.3} calls/packet")));
    parts.extend(median("server_syscalls_per_op").map(|calls| format!("{calls:.3} calls each")));
    parts.join(", ")
}

/// Three or four significant digits, thousands separated.
pub fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 1_000.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Whether a peer is drawn as ours.
pub fn is_ours(entry: &Entry) -> bool {
    peers::is_ours(&entry.peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    #[test]
    fn numbers_read_well() {
        let cases =
            [(1.234, "1.23"), (12.34, "12.3"), (999.94, "999.9"), (1_234.0, "1,234"), (1_234_567.0, "1,234,567")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn the_table_names_everything() {
        let text = render(&example());
        for part in
            ["warpline-udp", "2.00", "failed: it & that", "warpline-xdp absent: not built", "14.00 / 14.00 CPU s/GiB"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
