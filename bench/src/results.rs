//! The JSON document of a comparison.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::machine::Machine;
use crate::stats::Summary;

/// Everything that one comparison found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// When it began, in seconds since 1970.
    pub unix_time: u64,
    /// Where it ran.
    pub machine: Machine,
    /// What was the same for every peer.
    pub parameters: Parameters,
    /// Version of every stack.
    pub versions: BTreeMap<String, String>,
    /// Load average of the last minute at the beginning of every round.
    pub load_averages: Vec<f64>,
    /// One entry for each row and peer.
    pub results: Vec<Entry>,
    /// Runs that brought nothing.
    pub failures: Vec<Failure>,
    /// Peers that were asked for and are not there.
    pub absent: Vec<Absent>,
}

/// What was the same for every peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Rounds of every row.
    pub rounds: usize,
    /// Measured seconds of a run.
    pub duration_s: f64,
    /// Seconds of load before measuring.
    pub warmup_s: f64,
    /// Stream receive window in bytes.
    pub window: u64,
    /// Core of the server.
    pub server_core: usize,
    /// Core of the client.
    pub client_core: usize,
    /// TLS: version, suite, key exchange, certificate.
    pub tls: String,
    /// Congestion controller.
    pub congestion: String,
}

/// The figures of one peer in one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The row.
    pub scenario: String,
    /// The peer.
    pub peer: String,
    /// The row's figure.
    #[serde(flatten)]
    pub summary: Summary,
    /// Its unit.
    pub unit: String,
    /// Whether less is better.
    pub lower_is_better: bool,
    /// Rounds that the figure is made of.
    pub rounds: usize,
    /// Other figures of the same runs, by name; the name ends in the unit.
    #[serde(default)]
    pub details: BTreeMap<String, Summary>,
}

/// A run that brought nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The row.
    pub scenario: String,
    /// The peer.
    pub peer: String,
    /// Round, from 1; 0 if the peer could not even be built.
    pub round: usize,
    /// What was wrong.
    pub reason: String,
}

/// A peer that is not there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Absent {
    /// The peer.
    pub peer: String,
    /// Why.
    pub reason: String,
}

impl Results {
    /// Writes the document to `path`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(fs::write(path, text)?)
    }

    /// Reads a document from `path`.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
    }

    /// The best of other stacks in a row: QUIC ones if `quic`, else TCP.
    pub fn best_other(&self, scenario: &str, quic: bool) -> Option<&Entry> {
        let other = |entry: &&Entry| {
            entry.scenario == scenario
                && !crate::peers::is_ours(&entry.peer)
                && (entry.peer != crate::peers::TCP) == quic
        };
        let entries = self.results.iter().filter(other);
        entries.reduce(|best, entry| if entry.beats(best) { entry } else { best })
    }
}

impl Entry {
    fn beats(&self, other: &Entry) -> bool {
        if self.lower_is_better {
            self.summary.median < other.summary.median
        } else {
            self.summary.median > other.summary.median
        }
    }

    /// How many times better than `other` this is; more than 1 is better, whichever way the figure counts.
    pub fn ratio_to(&self, other: &Entry) -> f64 {
        let ratio = self.summary.median / other.summary.median;
        if self.lower_is_better { 1.0 / ratio } else { ratio }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn entry(scenario: &str, peer: &str, median: f64, lower_is_better: bool) -> Entry {
        let summary = Summary { median, min: median * 0.875, max: median * 1.125 };
        let cost = |name: &str| (name.to_owned(), summary);
        let details = BTreeMap::from([cost("server_cpu_s_per_gib"), cost("client_cpu_s_per_gib")]);
        let (scenario, peer, unit) = (scenario.to_owned(), peer.to_owned(), "1/s".to_owned());
        Entry { scenario, peer, summary, unit, lower_is_better, rounds: 3, details }
    }

    pub(crate) fn example() -> Results {
        Results {
            unix_time: 1,
            machine: Machine { cpu: "a <fast> CPU".into(), cores: 2, memory_kib: 1, kernel: "6".into() },
            parameters: Parameters {
                rounds: 3,
                duration_s: 5.0,
                warmup_s: 1.0,
                window: 4 << 20,
                server_core: 1,
                client_core: 0,
                tls: String::new(),
                congestion: "CUBIC".into(),
            },
            versions: BTreeMap::from([("quinn".into(), "0.11.0".into())]),
            load_averages: vec![0.1],
            results: vec![
                entry("download", "warpline-udp", 14.0, false),
                entry("download", "quinn", 7.0, false),
                entry("download", "s2n-quic", 5.0, false),
                entry("download", "tcp", 20.0, false),
                entry("reqresp-1", "warpline-udp", 50.0, true),
                entry("reqresp-1", "quinn", 125.0, true),
                entry("reqresp-1", "s2n-quic", 100.0, true),
            ],
            failures: vec![Failure {
                scenario: "upload".into(),
                peer: "quinn".into(),
                round: 1,
                reason: "it & that".into(),
            }],
            absent: vec![Absent { peer: "warpline-xdp".into(), reason: "not built".into() }],
        }
    }

    #[test]
    fn json_has_the_documented_shape_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.json");
        example().write(&path).unwrap();
        assert_eq!(Results::read(&path).unwrap(), example());
        let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let first = &json["results"][0];
        for key in ["scenario", "peer", "median", "min", "max", "unit", "rounds"] {
            assert!(first.get(key).is_some(), "{key}");
        }
        assert_eq!(first["median"], 14.0);
    }

    #[test]
    fn the_best_other_stack_is_never_ours_and_knows_its_direction() {
        let results = example();
        let best = results.best_other("download", true).unwrap();
        assert_eq!(best.peer, "quinn");
        assert_eq!(results.best_other("download", false).unwrap().peer, "tcp");
        assert_eq!(results.results[0].ratio_to(best), 2.0);
        let best = results.best_other("reqresp-1", true).unwrap();
        assert_eq!(best.peer, "s2n-quic");
        assert_eq!(results.results[4].ratio_to(best), 2.0);
        assert!(results.best_other("upload", true).is_none());
    }
}
