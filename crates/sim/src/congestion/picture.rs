//! The results as a heat map and as Markdown tables.

use std::fmt::Write;

use serde_json::Value;

const CELL_W: f64 = 46.0;
const CELL_H: f64 = 20.0;
const LABEL: f64 = 76.0;
const TITLE: f64 = 40.0;
const GAP: f64 = 18.0;
const MARGIN: f64 = 12.0;

/// The distinct values of `key`, in the order of their size.
fn values(cells: &[&Value], key: &str) -> Vec<f64> {
    let mut values: Vec<f64> = cells.iter().filter_map(|cell| cell[key].as_f64()).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

fn of<'a>(report: &'a Value, part: &str, congestion: &str) -> Vec<&'a Value> {
    let cells = report[part].as_array().map(Vec::as_slice).unwrap_or_default();
    cells.iter().filter(|cell| cell["congestion"] == congestion).collect()
}

fn find<'a>(cells: &[&'a Value], wanted: &[(&str, f64)]) -> Option<&'a Value> {
    cells.iter().find(|cell| wanted.iter().all(|(key, value)| cell[*key].as_f64() == Some(*value))).copied()
}

/// What a heat map shows.
#[derive(Debug, Clone)]
pub struct Scale {
    /// The number of each cell, 1 for the whole.
    pub key: &'static str,
    /// What is red.
    pub worst: f64,
    /// What is green.
    pub best: f64,
    /// The line below.
    pub note: String,
}

impl Scale {
    /// The share of the link that `congestion` uses.
    pub fn share(congestion: &str) -> Self {
        let note =
            format!("{congestion}: content delivered, in percent of what the link carries; rates in bits per second");
        Self { key: "share", worst: 0.0, best: 1.0, note }
    }

    /// From red over yellow to green.
    fn colour(&self, value: f64) -> String {
        let hue = ((value - self.worst) / (self.best - self.worst)).clamp(0.0, 1.0) * 120.0;
        format!("hsl({hue:.0},65%,72%)")
    }
}

/// One controller's grid as SVG: a panel for each loss and queue, rates across and round-trip times down.
pub fn heat_map(report: &Value, congestion: &str, scale: &Scale) -> String {
    let cells = of(report, "grid", congestion);
    let (rates, rtts) = (values(&cells, "rate_mbit"), values(&cells, "rtt_ms"));
    let (losses, buffers) = (values(&cells, "loss_percent"), values(&cells, "buffer_bdp"));
    let panel_w = LABEL + CELL_W * rates.len() as f64 + GAP;
    let panel_h = TITLE + CELL_H * rtts.len() as f64 + GAP;
    let width = MARGIN + panel_w * buffers.len() as f64;
    let height = MARGIN + panel_h * losses.len() as f64 + 24.0;
    let mut body = String::new();
    for (row, loss) in losses.iter().enumerate() {
        for (column, buffer) in buffers.iter().enumerate() {
            let (x, y) = (MARGIN + panel_w * column as f64, MARGIN + panel_h * row as f64);
            let _ = writeln!(
                body,
                "<text x=\"{x}\" y=\"{}\" class=\"title\">loss {loss} %, queue {buffer} BDP</text>",
                y + 14.0
            );
            for (index, rate) in rates.iter().enumerate() {
                let (x, label) = (x + LABEL + CELL_W * (index as f64 + 0.5), rate_label(*rate));
                let _ = writeln!(body, "<text x=\"{x}\" y=\"{}\" class=\"mid\">{label}</text>", y + 34.0);
            }
            for (line, rtt) in rtts.iter().enumerate() {
                let y = y + TITLE + CELL_H * line as f64;
                let _ = writeln!(body, "<text x=\"{x}\" y=\"{}\">{rtt} ms</text>", y + 14.0);
                for (index, rate) in rates.iter().enumerate() {
                    let wanted =
                        [("rate_mbit", *rate), ("rtt_ms", *rtt), ("loss_percent", *loss), ("buffer_bdp", *buffer)];
                    let Some(value) = find(&cells, &wanted).and_then(|cell| cell[scale.key].as_f64()) else { continue };
                    let x = x + LABEL + CELL_W * index as f64;
                    let _ = writeln!(
                        body,
                        "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>\
                         <text x=\"{}\" y=\"{}\" class=\"mid\">{}</text>",
                        CELL_W - 2.0,
                        CELL_H - 2.0,
                        scale.colour(value),
                        x + CELL_W / 2.0,
                        y + 13.0,
                        percent(value),
                    );
                }
            }
        }
    }
    let _ = writeln!(body, "<text x=\"{MARGIN}\" y=\"{}\">{}</text>", height - 8.0, scale.note);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <style>text{{font:11px system-ui,sans-serif;fill:#222}}.title{{font-weight:600}}.mid{{text-anchor:middle}}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

fn rate_label(mbit: f64) -> String {
    if mbit >= 1_000.0 { format!("{}G", mbit / 1_000.0) } else { format!("{mbit}M") }
}

fn percent(share: f64) -> String {
    if share < 0.1 { format!("{:.1}", share * 100.0) } else { format!("{:.0}", share * 100.0) }
}

/// Markdown: the grid of each controller, and how two flows share.
pub fn table(report: &Value) -> String {
    let mut text = String::new();
    for congestion in ["cubic", "bbr"] {
        let cells = of(report, "grid", congestion);
        let rates = values(&cells, "rate_mbit");
        let _ = write!(text, "\n{congestion}, percent of the link:\n\n| loss | queue | RTT |");
        for rate in &rates {
            let _ = write!(text, " {} |", rate_label(*rate));
        }
        let _ = writeln!(text, "\n|{}", "---|".repeat(3 + rates.len()));
        for loss in values(&cells, "loss_percent") {
            for buffer in values(&cells, "buffer_bdp") {
                for rtt in values(&cells, "rtt_ms") {
                    let _ = write!(text, "| {loss} % | {buffer} BDP | {rtt} ms |");
                    for rate in &rates {
                        let wanted =
                            [("rate_mbit", *rate), ("rtt_ms", rtt), ("loss_percent", loss), ("buffer_bdp", buffer)];
                        let share = find(&cells, &wanted).and_then(|cell| cell["share"].as_f64());
                        let _ = write!(text, " {} |", share.map_or_else(|| "–".to_owned(), percent));
                    }
                    text.push('\n');
                }
            }
        }
    }
    text += "\n| controllers | rate | RTT | queue | link used | of each, Mbit/s | Jain's index |\n|---|---|---|---|---|---|---|\n";
    for cell in report["fairness"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let number = |key: &str| cell[key].as_f64().unwrap_or(f64::NAN);
        let (rtt, other) = (number("rtt_ms"), number("other_rtt_ms"));
        let rtts = if other.is_nan() || rtt == other { format!("{rtt}") } else { format!("{rtt} and {other}") };
        let each: Vec<String> = cell["goodput_mbit"].as_array().map_or_else(Vec::new, |flows| {
            flows.iter().filter_map(Value::as_f64).map(|mbit| format!("{mbit:.2}")).collect()
        });
        let _ = writeln!(
            text,
            "| {} | {} Mbit/s | {rtts} ms | {} BDP | {:.0} % | {} | {:.3} |",
            cell["congestion"].as_str().unwrap_or("?"),
            number("rate_mbit"),
            number("buffer_bdp"),
            number("share") * 100.0,
            each.join(", "),
            number("jain")
        );
    }
    text
}

/// Markdown: downloads by servers that remember the path and by such that do not.
pub fn resume_table(report: &Value) -> String {
    let mut text = String::from(
        "| controller | first link | second link | content | fresh | resumed |\n|---|---|---|---|---|---|\n",
    );
    for row in report["resume"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let word = |key: &str| row[key].as_str().unwrap_or("?");
        let ms = |key: &str| row[key].as_u64().map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms"));
        let (first, second) = (word("first"), word("second"));
        let second = if first == second { "the same" } else { second };
        let _ = writeln!(
            text,
            "| {} | {first} | {second} | {} MiB | {} | {} |",
            word("congestion"),
            row["mib"],
            ms("fresh_ms"),
            ms("resumed_ms")
        );
    }
    text
}
