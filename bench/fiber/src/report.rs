//! What is shown and what is written.

use serde::Serialize;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Everything of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Seconds since 1970.
    unix_time: u64,
    cpu: String,
    cores: usize,
    kernel: String,
    load_average: String,
    /// Parts in a million by which the clock drifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<f64>,
    tests: Vec<Test>,
}

#[derive(Debug, Serialize)]
struct Test {
    title: String,
    unit: &'static str,
    results: Vec<Figure>,
}

#[derive(Debug, Serialize)]
struct Figure {
    contender: String,
    median: f64,
    min: f64,
    max: f64,
    rounds: Vec<f64>,
}

impl Report {
    /// A report of this machine.
    pub fn new() -> Report {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
        Report {
            unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: read("/proc/loadavg").trim().to_owned(),
            drift: None,
            tests: Vec::new(),
        }
    }

    /// Shows the figures of a test and keeps them. The first contender is what the others are compared with.
    pub fn add<N: Into<String>>(
        &mut self,
        title: &str,
        unit: &'static str,
        figures: impl Iterator<Item = (N, Vec<f64>)>,
    ) {
        println!("\n{title}, {unit} (median; lowest to highest)");
        let results: Vec<_> = figures.filter_map(|(name, rounds)| Figure::new(name.into(), rounds)).collect();
        let base = results.first().map_or(f64::NAN, |figure| figure.median);
        for Figure { contender, median, min, max, .. } in &results {
            println!("  {contender:<44} {median:>9.1}  ({min:.1} to {max:.1})  {:.2}x", median / base);
        }
        self.tests.push(Test { title: title.to_owned(), unit, results });
    }

    /// Prints the tables of `docs/fibers.md` as they stand there: lowest, and in brackets median.
    pub fn print_tables(&self) {
        let (echo, rest): (Vec<_>, Vec<_>) =
            self.tests.iter().partition(|test| test.title.starts_with(crate::echo::TITLE));
        println!(
            "\n| | bare one way | bare | bare, named by the last | fibers | of bare | of named | `may` | tokio | threads |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
        for test in rest {
            test.print_rows();
        }
        if let [rates, costs] = echo[..] {
            println!("\n| {} | thousand a second | of tokio's | µs of the server's processor time |", rates.title);
            println!("|---|---|---|---|");
            let base = rates.results.first().map_or(f64::NAN, |figure| figure.median);
            for rate in &rates.results {
                let cost = costs.results.iter().find(|cost| cost.contender == rate.contender);
                let cost = cost.map_or(String::new(), |cost| format!("{:.2} ({:.2})", cost.min, cost.median));
                let spread = format!("{:.1} ({:.1} to {:.1})", rate.median, rate.min, rate.max);
                println!("| {} | {spread} | {:.2} | {cost} |", rate.contender, rate.median / base);
            }
        }
    }

    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(path, text)
    }
}

/// The columns of the table by how the names of their contenders begin, but for the fibers'.
const ONE_WAY: &str = "corosensei, one way";
const BARE: &str = "corosensei resume";
const NAMED: &str = "corosensei, named";
const FIBERS: &str = "warpline";
const OTHERS: [&str; 3] = ["may", "tokio", ""];

impl Test {
    /// A row for each contender of the fibers; the first one has the others beside it.
    fn print_rows(&self) {
        let column = |prefix: &str| self.results.iter().find(|figure| figure.contender.starts_with(prefix));
        let threads = self.results.iter().find(|figure| figure.contender.contains("thread"));
        let cell = |figure: Option<&Figure>| figure.map_or(String::new(), Figure::cell);
        let fibers = self.results.iter().filter(|figure| figure.contender.starts_with(FIBERS));
        for (index, figure) in fibers.enumerate() {
            let name = figure.contender.split_once(", ").map_or(String::new(), |(_, name)| format!(", {name}"));
            let of = |bare: &Figure| format!("{:.2} ({:.2})", figure.min / bare.min, figure.median / bare.median);
            let [of_bare, of_named] = [BARE, NAMED].map(|prefix| column(prefix).map_or(String::new(), of));
            let beside = |figure: Option<&Figure>| if index == 0 { cell(figure) } else { String::new() };
            let others: Vec<_> =
                OTHERS.iter().map(|prefix| beside(if prefix.is_empty() { threads } else { column(prefix) })).collect();
            println!(
                "| {}{name} | {} | {} | {} | {} | {of_bare} | {of_named} | {} |",
                self.title,
                beside(column(ONE_WAY)),
                beside(column(BARE)),
                beside(column(NAMED)),
                figure.cell(),
                others.join(" | "),
            );
        }
    }
}

impl Figure {
    /// The lowest, and in brackets the median.
    fn cell(&self) -> String {
        let digits = |value: f64| if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") };
        format!("{} ({})", digits(self.min), digits(self.median))
    }

    fn new(contender: String, rounds: Vec<f64>) -> Option<Figure> {
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        Some(Figure { contender, median: sorted[sorted.len() / 2], min, max, rounds })
    }
}
