//! The comparison: rounds of every row over every peer, interleaved.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Result;
use crate::certs::Identity;
use crate::machine::{self, Machine};
use crate::measure::{self, Sample, Setup};
use crate::peers::{self, Availability, Peer, Program, Workspace};
use crate::results::{Absent, Entry, Failure, Parameters, Results};
use crate::rows::Row;
use crate::stats::Summary;

/// Rounds that any comparison may have.
pub const ROUNDS_MAX: usize = 1_000;

/// Samples of a row and peer, by their places in the lists.
type Samples = BTreeMap<(usize, usize), Vec<Sample>>;

/// Builds the peers, runs `rounds` of `rows` over them, and gathers what came of it.
pub fn compare(rows: &[Row], peers: &[Peer], rounds: usize, setup: &Setup) -> Result<Results> {
    let workspace = Workspace::find()?;
    let directory = tempfile::tempdir()?;
    let identity = Identity::create(directory.path())?;
    let mut results = Results {
        unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        machine: Machine::this(),
        parameters: parameters(rounds, setup),
        versions: versions(&workspace, peers)?,
        load_averages: Vec::new(),
        results: Vec::new(),
        failures: Vec::new(),
        absent: Vec::new(),
    };
    let programs = prepare(rows, peers, &workspace, &mut results);
    let mut samples = Samples::new();
    for round in 0..rounds {
        results.load_averages.push(machine::load_average());
        for (row_index, row) in rows.iter().enumerate() {
            for turn in 0..programs.len() {
                // Another peer begins each round, so that none is always the one that runs on a warm or a tired machine.
                let (peer_index, program) = &programs[(turn + round) % programs.len()];
                let peer = &peers[*peer_index];
                let passes = row.link.is_none() || peer.goes_through_a_proxy();
                if !peer.has(row.scenario) || !peer.fits(row.payload) || !passes {
                    continue;
                }
                let peer = peer.name;
                eprint!("round {}/{rounds}  {:15} {peer:15} ", round + 1, row.name);
                match measure::run(program, row, setup, &identity) {
                    Ok(sample) => {
                        eprintln!("{:.2} {}", sample.value, row.metric.unit());
                        samples.entry((row_index, *peer_index)).or_default().push(sample);
                    }
                    Err(error) => {
                        eprintln!("failed: {error}");
                        let (scenario, peer) = (row.name.to_owned(), peer.to_owned());
                        results.failures.push(Failure { scenario, peer, round: round + 1, reason: error.to_string() });
                    }
                }
            }
        }
    }
    results.results =
        samples.iter().filter_map(|(&(row, peer), samples)| entry(&rows[row], &peers[peer], samples)).collect();
    Ok(results)
}

fn parameters(rounds: usize, setup: &Setup) -> Parameters {
    Parameters {
        rounds,
        duration_s: setup.duration.as_secs_f64(),
        warmup_s: setup.warmup.as_secs_f64(),
        window: setup.window,
        server_core: setup.server_core,
        client_core: setup.client_core,
        tls: "TLS 1.3, TLS_AES_128_GCM_SHA256, X25519, ECDSA P-256 certificate, verified".to_owned(),
        congestion: "CUBIC".to_owned(),
    }
}

fn versions(workspace: &Workspace, selected: &[Peer]) -> Result<BTreeMap<String, String>> {
    let packages: Vec<_> = selected.iter().map(|peer| peer.locked).collect();
    let locked = machine::versions(&workspace.root, &packages)?;
    let commit = machine::commit(&workspace.root);
    let version = |peer: &Peer| {
        let version = locked.get(peer.locked)?;
        let ours = commit.as_ref().filter(|_| peers::is_ours(peer.name));
        Some(ours.map_or_else(|| version.clone(), |commit| format!("{version} ({commit})")))
    };
    Ok(selected.iter().filter_map(|peer| Some((peer.name.to_owned(), version(peer)?))).collect())
}

fn prepare(rows: &[Row], peers: &[Peer], workspace: &Workspace, results: &mut Results) -> Vec<(usize, Program)> {
    let mut programs = Vec::new();
    for (index, peer) in peers.iter().enumerate() {
        match peer.prepare(workspace) {
            Availability::Ready(program) => programs.push((index, program)),
            Availability::Absent(reason) => results.absent.push(Absent { peer: peer.name.to_owned(), reason }),
            Availability::Failed(reason) => results.failures.extend(rows.iter().map(|row| Failure {
                scenario: row.name.to_owned(),
                peer: peer.name.to_owned(),
                round: 0,
                reason: reason.clone(),
            })),
        }
    }
    programs
}

fn entry(row: &Row, peer: &Peer, samples: &[Sample]) -> Option<Entry> {
    let of =
        |value: &dyn Fn(&Sample) -> Option<f64>| Summary::of(&samples.iter().filter_map(value).collect::<Vec<_>>());
    let names: std::collections::BTreeSet<_> = samples.iter().flat_map(|sample| sample.details.keys()).collect();
    let details =
        names.into_iter().filter_map(|name| Some((name.clone(), of(&|sample| sample.details.get(name).copied())?)));
    Some(Entry {
        scenario: row.name.to_owned(),
        peer: peer.name.to_owned(),
        summary: of(&|sample| Some(sample.value))?,
        unit: row.metric.unit().to_owned(),
        lower_is_better: row.metric.lower_is_better(),
        rounds: samples.len(),
        details: details.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows;

    #[test]
    fn samples_become_an_entry() {
        let sample = |value: f64, cpu: Option<f64>| Sample {
            value,
            details: cpu.map(|cpu| ("server_cpu_s_per_gib".to_owned(), cpu)).into_iter().collect(),
        };
        let samples = [sample(3.0, Some(0.3)), sample(1.0, None), sample(2.0, Some(0.1))];
        let row = rows::select(&["download".to_owned()]).unwrap()[0];
        let entry = entry(&row, &peers::PEERS[0], &samples).unwrap();
        assert_eq!((entry.scenario.as_str(), entry.peer.as_str()), ("download", "warpline-udp"));
        assert_eq!((entry.summary.median, entry.rounds, entry.unit.as_str()), (2.0, 3, "Gbit/s"));
        assert_eq!(entry.details["server_cpu_s_per_gib"].median, 0.2);
    }
}
