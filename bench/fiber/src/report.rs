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

    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(path, text)
    }
}

impl Figure {
    fn new(contender: String, rounds: Vec<f64>) -> Option<Figure> {
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        Some(Figure { contender, median: sorted[sorted.len() / 2], min, max, rounds })
    }
}
