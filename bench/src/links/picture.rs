//! Links as a picture: for each a group of bars, the share of the link that each stack used.

use std::fmt::Write;

use super::{Cell, LinkResults, cells, columns, find};
use crate::peers::is_ours;
use crate::plot::escape;

const LABEL: f64 = 250.0;
const COLUMN: f64 = 104.0;
const BAR_MAX: f64 = 60.0;
const STEP: f64 = 20.0;
const TOP: f64 = 44.0;
const MARGIN: f64 = 12.0;

/// Renders the results as SVG: a row for each link, a column for each stack and controller.
pub fn render(results: &LinkResults) -> String {
    let (columns, cells) = (columns(results), cells(results));
    let width = LABEL + COLUMN * columns.len() as f64 + MARGIN;
    let height = TOP + STEP * cells.len() as f64 + 40.0;
    let mut body = String::new();
    for (index, (congestion, peer)) in columns.iter().enumerate() {
        let x = LABEL + COLUMN * index as f64;
        let _ = writeln!(body, "<text x=\"{x}\" y=\"18\" class=\"title\">{}</text>", escape(peer));
        let _ = writeln!(body, "<text x=\"{x}\" y=\"34\">{}</text>", congestion.name());
    }
    for (index, cell) in cells.iter().enumerate() {
        let y = TOP + STEP * index as f64;
        let Cell { rate_mbit, rtt_ms, loss_percent, buffer_bdp } = cell;
        let label = format!("{rate_mbit} Mbit/s, {rtt_ms} ms, {loss_percent} %, {buffer_bdp} BDP");
        let _ = writeln!(body, "<text x=\"{MARGIN}\" y=\"{}\">{label}</text>", y + 13.0);
        for (place, column) in columns.iter().enumerate() {
            let Some(reached) = find(results, *cell, *column) else { continue };
            let share = reached.median() / *rate_mbit as f64;
            let x = LABEL + COLUMN * place as f64;
            let class = if is_ours(column.1) { "ours" } else { "other" };
            let _ = writeln!(
                body,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{:.1}\" height=\"15\" class=\"{class}\"/>\
                 <text x=\"{:.1}\" y=\"{}\" class=\"note\">{:.0} %</text>",
                share.min(1.0) * BAR_MAX,
                x + share.min(1.0) * BAR_MAX + 4.0,
                y + 12.0,
                share * 100.0,
            );
        }
    }
    let note = format!(
        "share of the link; {}, Linux {}, {} s each",
        results.machine.cpu, results.machine.kernel, results.duration_s
    );
    let _ = writeln!(body, "<text x=\"{MARGIN}\" y=\"{}\" class=\"note\">{}</text>", height - 12.0, escape(&note));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <style>text{{font:13px system-ui,sans-serif;fill:#222}}.title{{font-weight:600}}.note{{font-size:11px;fill:#666}}\
         .ours{{fill:#0b7285}}.other{{fill:#adb5bd}}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::tests::example;

    #[test]
    fn draws_a_bar_for_each_stack() {
        let picture = render(&example());
        assert!(picture.starts_with("<svg") && picture.contains("10 Mbit/s, 100 ms, 1 %, 0.5 BDP"));
        assert_eq!(picture.matches("class=\"ours\"").count(), 1);
        assert_eq!(picture.matches("class=\"other\"").count(), 1);
        assert!(picture.contains(">20 %<"), "{picture}");
    }
}
