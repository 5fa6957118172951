//! The comparison as a picture: one panel of bars for each row.

use std::fmt::Write;

use crate::results::{Entry, Results};
use crate::table::{is_ours, number, scenarios};

const WIDTH: f64 = 760.0;
const LABEL: f64 = 130.0;
const VALUE: f64 = 150.0;
const BAR: f64 = 18.0;
const STEP: f64 = 24.0;
const TITLE: f64 = 34.0;
const MARGIN: f64 = 12.0;

/// Renders the rows called `names`, or all, as SVG. Bars are medians, whiskers the extremes.
pub fn render(results: &Results, names: &[String]) -> String {
    let (mut body, mut top) = (String::new(), MARGIN);
    for scenario in scenarios(results) {
        if !names.is_empty() && !names.iter().any(|name| name == scenario) {
            continue;
        }
        let entries: Vec<&Entry> = results.results.iter().filter(|entry| entry.scenario == scenario).collect();
        if !entries.is_empty() {
            top = panel(&mut body, scenario, &entries, top);
        }
    }
    let note = format!(
        "{}, Linux {}; medians of {} interleaved rounds, whiskers: extremes",
        results.machine.cpu, results.machine.kernel, results.parameters.rounds
    );
    let height = top + 30.0;
    let _ = writeln!(body, "<text x=\"{MARGIN}\" y=\"{}\" class=\"note\">{}</text>", top + 14.0, escape(&note));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <style>text{{font:13px system-ui,sans-serif;fill:#222}}.title{{font-weight:600}}.note{{font-size:11px;fill:#666}}\
         .ours{{fill:#0b7285}}.other{{fill:#adb5bd}}.whisker{{stroke:#343a40;stroke-width:1.5}}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// Draws one panel from `top` on; where the next begins.
fn panel(body: &mut String, scenario: &str, entries: &[&Entry], top: f64) -> f64 {
    let less = if entries[0].lower_is_better { ", less is better" } else { "" };
    let title = format!("{scenario} ({}{less})", entries[0].unit);
    let _ = writeln!(body, "<text x=\"{MARGIN}\" y=\"{}\" class=\"title\">{}</text>", top + 18.0, escape(&title));
    let greatest = entries.iter().map(|entry| entry.summary.max).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LABEL - VALUE - MARGIN) / greatest;
    for (index, entry) in entries.iter().enumerate() {
        let y = top + TITLE + index as f64 * STEP;
        let middle = y + BAR / 2.0;
        let class = if is_ours(entry) { "ours" } else { "other" };
        let summary = &entry.summary;
        let (min, max) = (LABEL + summary.min * scale, LABEL + summary.max * scale);
        let _ = writeln!(
            body,
            "<text x=\"{MARGIN}\" y=\"{text_y}\">{peer}</text>\
             <rect x=\"{LABEL}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" class=\"{class}\"/>\
             <line x1=\"{min:.1}\" x2=\"{max:.1}\" y1=\"{middle}\" y2=\"{middle}\" class=\"whisker\"/>\
             <text x=\"{value_x:.1}\" y=\"{text_y}\">{value}</text>",
            text_y = y + 14.0,
            peer = escape(&entry.peer),
            width = summary.median * scale,
            value_x = max + 8.0,
            value = number(summary.median),
        );
    }
    top + TITLE + entries.len() as f64 * STEP + MARGIN
}

/// `text` as SVG's character data.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    #[test]
    fn draws_the_rows_asked_for() {
        let all = render(&example(), &[]);
        assert!(all.starts_with("<svg") && all.contains("a &lt;fast&gt; CPU"));
        assert_eq!(all.matches("class=\"ours\"").count(), 2);
        assert_eq!(all.matches("class=\"other\"").count(), 5);
        let one = render(&example(), &["reqresp-1".to_owned()]);
        assert!(one.contains("less is better") && !one.contains("download"));
    }
}
