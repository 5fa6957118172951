//! What is measured, and the results as JSON, as tables and as a picture.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};
use warpline_peer_kit::Result;
use warpline_proto::congestion::CongestionAlgorithm;
use warpline_sim::congestion::{self, Flows, Link, Scale, in_parallel, name};
use warpline_sim::run::{Identity, identity};

use crate::stacks::Stack;

/// Goodput that counts as the same.
const SAME: f64 = 0.99;

/// What is to be measured.
pub struct Plan {
    /// Links and controllers.
    pub cells: Vec<(Link, CongestionAlgorithm)>,
    /// Who downloads over each.
    pub stacks: Vec<Stack>,
    /// The least time of a run.
    pub time: Duration,
    /// Seeds of a link with loss.
    pub seeds: u64,
    /// Flows at the same time.
    pub flows: u32,
    /// Links at the same time.
    pub jobs: usize,
}

impl Plan {
    fn flows(&self, link: &Link) -> Flows {
        let until = self.time.max(30 * link.rtt);
        match self.flows {
            1 => Flows::from_start(until),
            count => Flows { count, apart: until / 5, from: until / 2, until },
        }
    }

    /// Without loss nothing is random.
    fn seeds(&self, link: &Link) -> std::ops::RangeInclusive<u64> {
        1..=if link.loss > 0.0 { self.seeds } else { 1 }
    }
}

/// Measures everything.
///
/// # Errors
///
/// If there is no certificate.
pub fn measured(plan: &Plan) -> Result<Value> {
    let identity = identity(1)?;
    let rows = in_parallel(&plan.cells, plan.jobs, |cell| row(plan, cell, &identity));
    Ok(json!({ "flows": plan.flows, "grid": rows }))
}

fn row(plan: &Plan, (link, algorithm): &(Link, CongestionAlgorithm), identity: &Identity) -> Value {
    let flows = plan.flows(link);
    let mut row = link.json();
    row["congestion"] = name(*algorithm).into();
    row["seconds"] = flows.until.as_secs_f64().into();
    let (mut ours, mut best) = (None, 0f64);
    for stack in &plan.stacks {
        let (mut runs, mut shares, mut jains, mut failures) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for seed in plan.seeds(link) {
            match stack.measure(link, *algorithm, &flows, seed, identity) {
                Ok(outcome) => {
                    runs.push(outcome.goodput.iter().map(|bits| rounded(bits / 1e6)).collect::<Vec<_>>());
                    shares.push(outcome.share);
                    jains.push(rounded(outcome.jain));
                }
                Err(error) => failures.push(format!("seed {seed}: {error}")),
            }
        }
        // A run that failed counts as none: the median is that of the others.
        let share = median(&mut shares);
        let mut result = json!({ "goodput_mbit": runs, "share": share.map(rounded) });
        if flows.count > 1 {
            result["jain"] = jains.into();
        }
        if !failures.is_empty() {
            result["failures"] = failures.into();
        }
        match share {
            Some(share) if *stack == Stack::Warpline => ours = Some(share),
            Some(share) if stack.is_peer(*algorithm) => best = best.max(share),
            _ => {}
        }
        row[stack.name()] = result;
    }
    if let (Some(ours), true) = (ours, best > 0.0) {
        row["beside"] = rounded(ours / best).into();
    }
    eprintln!("{row}");
    row
}

fn rounded(x: f64) -> f64 {
    (x * 10_000.0).round() / 10_000.0
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((lower + upper) / 2.0)
}

/// Several results as one.
pub fn together(reports: &[Value]) -> Value {
    let rows: Vec<&Value> = reports.iter().flat_map(rows).collect();
    json!({ "flows": reports.first().map(|report| &report["flows"]), "grid": rows })
}

fn rows(report: &Value) -> &[Value] {
    report["grid"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Markdown: every link, shares in percent of what it carries in content.
pub fn table(report: &Value) -> String {
    let stacks = ["warpline", "quinn", "noq"];
    let mut text = format!("| controller | rate | RTT | loss | queue | {} | beside the best |\n", stacks.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(6 + stacks.len()));
    for row in rows(report) {
        let _ = write!(
            text,
            "| {} | {} Mbit/s | {} ms | {} % | {} BDP |",
            row["congestion"].as_str().unwrap_or("?"),
            row["rate_mbit"],
            row["rtt_ms"],
            row["loss_percent"],
            row["buffer_bdp"]
        );
        for stack in stacks {
            let share = row[stack]["share"].as_f64();
            let _ = write!(text, " {} |", share.map_or_else(|| "–".to_owned(), |s| format!("{:.1}", s * 100.0)));
        }
        let beside = row["beside"].as_f64();
        let _ = writeln!(text, " {} |", beside.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.3}")));
    }
    text
}

/// Markdown: by rate and loss, on how many links Warpline has at least as much as the best of the others, and by how much it has less or more.
pub fn summary(report: &Value) -> String {
    let mut text = String::from(
        "| controller | rate | loss | links | 0.99 and more | least | median | most |\n|---|---|---|---|---|---|---|---|\n",
    );
    for congestion in ["cubic", "bbr"] {
        let mut groups: Vec<(f64, f64, Vec<f64>)> = Vec::new();
        for row in rows(report).iter().filter(|row| row["congestion"] == congestion) {
            let (Some(rate), Some(loss)) = (row["rate_mbit"].as_f64(), row["loss_percent"].as_f64()) else { continue };
            let Some(beside) = row["beside"].as_f64() else { continue };
            match groups.iter_mut().find(|group| (group.0, group.1) == (rate, loss)) {
                Some(group) => group.2.push(beside),
                None => groups.push((rate, loss, vec![beside])),
            }
        }
        let mut all: Vec<f64> = groups.iter().flat_map(|group| group.2.clone()).collect();
        for (rate, loss, mut ratios) in groups {
            let _ = writeln!(text, "| {congestion} | {rate} Mbit/s | {loss} % |{}", extent(&mut ratios));
        }
        if !all.is_empty() {
            let _ = writeln!(text, "| {congestion} | all | all |{}", extent(&mut all));
        }
    }
    text
}

fn extent(ratios: &mut [f64]) -> String {
    let same = ratios.iter().filter(|ratio| **ratio >= SAME).count();
    let middle = median(ratios).unwrap_or(f64::NAN);
    let (least, most) = (ratios.first().unwrap_or(&f64::NAN), ratios.last().unwrap_or(&f64::NAN));
    format!(" {} | {same} | {least:.2} | {middle:.2} | {most:.2} |", ratios.len())
}

/// SVG: Warpline's goodput as a share of the best of the others, link by link.
pub fn picture(report: &Value, congestion: &str) -> String {
    let note = format!(
        "{congestion}: goodput of the first 8 s in percent of that of the best other stack; rates in bits per second"
    );
    congestion::heat_map(report, congestion, &Scale { key: "beside", worst: 0.8, best: 1.0, note })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(beside: &[f64]) -> Value {
        let row = |ratio: &f64| {
            let mut row = Link::new(10, 30, 1.0, 0.5).json();
            row["congestion"] = "bbr".into();
            row["beside"] = (*ratio).into();
            row["warpline"] = json!({ "share": 0.87654 });
            row
        };
        json!({ "flows": 1, "grid": beside.iter().map(row).collect::<Vec<_>>() })
    }

    #[test]
    fn the_table_has_shares_and_ratios() {
        let text = table(&report(&[0.98]));
        assert!(text.contains("| bbr | 10 Mbit/s | 30 ms | 1.0 % | 0.5 BDP | 87.7 | – | – | 0.980 |"), "{text}");
    }

    #[test]
    fn the_summary_counts_links() {
        let text = summary(&report(&[0.98, 1.2, 0.99]));
        assert!(text.contains("| bbr | 10 Mbit/s | 1 % | 3 | 2 | 0.98 | 0.99 | 1.20 |"), "{text}");
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0]), Some(2.5));
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn a_stack_gives_the_same_twice() {
        let identity = identity(1).unwrap();
        let flows = Flows::from_start(Duration::from_secs(2));
        for stack in [Stack::Warpline, Stack::Quinn, Stack::Noq] {
            for algorithm in congestion::ALGORITHMS {
                let run =
                    |seed| stack.measure(&Link::new(10, 30, 1.0, 0.5), algorithm, &flows, seed, &identity).unwrap();
                let (first, second) = (run(1), run(1));
                // noq's BBR draws the times of its probes from the system.
                let repeats = (stack, algorithm) != (Stack::Noq, CongestionAlgorithm::Bbr);
                assert!(!repeats || first == second, "{stack:?}: {first:?}, {second:?}");
                assert!(first.share > 0.4 && first.share <= 1.0, "{stack:?}: {}", first.share);
            }
        }
    }
}
