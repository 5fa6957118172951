//! Careful resume between two endpoints: what a connection leaves behind for the next (draft-ietf-tsvwg-careful-resume).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use common::{Pair, Transfer, server_config};
use warpline_proto::config::{PathMemory, TransportConfig};
use warpline_proto::congestion::{CongestionAlgorithm, ResumePhase, ResumeState};
use warpline_proto::{ConnectionHandle, ConnectionStats};

const MS: fn(u64) -> Duration = Duration::from_millis;

/// A client that remembers paths, on one of 100 ms.
fn pair(memory: &Arc<PathMemory>, algorithm: CongestionAlgorithm) -> Pair {
    let plain = TransportConfig { congestion: algorithm, ..TransportConfig::default() };
    let client = TransportConfig { careful_resume: Some(memory.clone()), ..plain.clone() };
    let mut pair = Pair::with_server(&client, server_config(&plain));
    pair.delay = MS(50);
    pair
}

fn stats(pair: &Pair, client: ConnectionHandle) -> ConnectionStats {
    pair.client.peek(client).unwrap().stats()
}

fn state(pair: &Pair, client: ConnectionHandle) -> ResumeState {
    stats(pair, client).careful_resume.unwrap()
}

/// Uploads `bytes` on a connection of its own; `watch` sees the client after every step. Returns the phases.
fn upload(pair: &mut Pair, bytes: u64, mut watch: impl FnMut(&ConnectionStats)) -> Vec<ResumePhase> {
    let (client, server) = pair.reconnected();
    let mut transfer = Transfer::open(&mut pair.client, client, bytes);
    let mut phases = vec![state(pair, client).phase];
    pair.run_until(Duration::from_secs(60), |p| {
        transfer.pump(p.now, (&mut p.client, client), (&mut p.server, server));
        let stats = stats(p, client);
        watch(&stats);
        let phase = stats.careful_resume.unwrap().phase;
        if phases.last() != Some(&phase) {
            phases.push(phase);
        }
        transfer.done
    });
    let now = pair.now;
    pair.client.connection(client).unwrap().close(now, 0, b"");
    pair.run_for(Duration::from_secs(10));
    phases
}

const ALL: [CongestionAlgorithm; 3] =
    [CongestionAlgorithm::NewReno, CongestionAlgorithm::Cubic, CongestionAlgorithm::Bbr];

#[test]
fn a_later_connection_jumps_to_half_of_what_was_carried_and_no_further() {
    for algorithm in ALL {
        let memory = Arc::new(PathMemory::default());
        let mut pair = pair(&memory, algorithm);
        let first = upload(&mut pair, 3 << 20, |_| {});
        assert_eq!(first, [ResumePhase::Reconnaissance, ResumePhase::Normal], "{algorithm:?}");
        assert_eq!(memory.len(), 1);
        let mut jump = 0;
        let phases = upload(&mut pair, 3 << 20, |stats| {
            let resume = stats.careful_resume.unwrap();
            if resume.phase == ResumePhase::Unvalidated {
                jump = resume.jump_window;
                assert!(jump <= resume.saved_window / 2 && jump > 14_720, "{resume:?}");
                // BBR's window is no bound of its rate; the rate is.
                let most = if algorithm == CongestionAlgorithm::Bbr { 2 * jump + 20_000 } else { jump };
                assert!(stats.cwnd <= most + u64::from(stats.mtu), "{} {resume:?}", stats.cwnd);
                assert!(stats.bytes_in_flight <= jump + u64::from(stats.mtu), "{} {resume:?}", stats.bytes_in_flight);
                assert!(memory.is_empty(), "nobody else may use it meanwhile");
            }
        });
        use ResumePhase::{Normal, Reconnaissance, Unvalidated, Validating};
        assert_eq!(phases, [Reconnaissance, Unvalidated, Validating, Normal], "{algorithm:?}");
        assert_eq!(memory.len(), 1);
    }
}

#[test]
fn a_jump_that_loses_is_taken_back_and_forgotten() {
    for algorithm in ALL {
        let memory = Arc::new(PathMemory::default());
        let mut pair = pair(&memory, algorithm);
        upload(&mut pair, 3 << 20, |_| {});
        let loses = Rc::new(Cell::new(false));
        let losing = loses.clone();
        pair.filter = Box::new(move |count, to_server, _| !(to_server && losing.get() && count % 3 == 0));
        let (mut least, mut before) = (u64::MAX, 0);
        let phases = upload(&mut pair, 3 << 20, |stats| {
            let resume = stats.careful_resume.unwrap();
            loses.set(resume.phase == ResumePhase::Unvalidated);
            if resume.phase == ResumePhase::SafeRetreat {
                if least == u64::MAX {
                    let half = (resume.pipe_size / 2).max(4 * u64::from(stats.mtu));
                    assert!(stats.cwnd <= half, "{} of {resume:?}", stats.cwnd);
                }
                assert!(stats.cwnd <= least, "it may not grow");
                least = stats.cwnd;
                assert!(memory.is_empty());
            }
            before = before.max(stats.cwnd);
        });
        use ResumePhase::{Normal, Reconnaissance, SafeRetreat, Unvalidated, Validating};
        assert!(
            [
                vec![Reconnaissance, Unvalidated, Validating, SafeRetreat, Normal],
                vec![Reconnaissance, Unvalidated, SafeRetreat, Normal],
            ]
            .contains(&phases),
            "{algorithm:?}: {phases:?}"
        );
        assert!(least < before / 2, "{least} {before}");
    }
}

#[test]
fn a_connection_with_little_to_send_gives_the_memory_back() {
    let memory = Arc::new(PathMemory::default());
    let mut pair = pair(&memory, CongestionAlgorithm::Cubic);
    upload(&mut pair, 3 << 20, |_| {});
    for bytes in [5_000, 40_000] {
        let phases = upload(&mut pair, bytes, |stats| assert!(stats.cwnd < 1 << 20, "{}", stats.cwnd));
        assert!(!phases.contains(&ResumePhase::SafeRetreat), "{phases:?}");
        assert_eq!(memory.len(), 1, "{phases:?}");
    }
}

#[test]
fn two_connections_at_once_make_one_jump() {
    let memory = Arc::new(PathMemory::default());
    let mut pair = pair(&memory, CongestionAlgorithm::Cubic);
    upload(&mut pair, 3 << 20, |_| {});
    let handles = [pair.reconnected(), pair.reconnected()];
    let mut transfers = handles.map(|(client, _)| Transfer::open(&mut pair.client, client, 1 << 20));
    let mut jumped = [false; 2];
    pair.run_until(Duration::from_secs(60), |p| {
        for (index, ((client, server), transfer)) in handles.iter().zip(&mut transfers).enumerate() {
            transfer.pump(p.now, (&mut p.client, *client), (&mut p.server, *server));
            jumped[index] |= state(p, *client).jump_window > 0;
        }
        transfers.iter().all(|t| t.done)
    });
    assert_eq!(jumped.iter().filter(|jumped| **jumped).count(), 1);
}

#[test]
fn it_is_off_unless_asked_for_and_wants_pacing() {
    let mut pair = Pair::new(&TransportConfig::default());
    let (client, _) = pair.established();
    assert_eq!(stats(&pair, client).careful_resume, None);
    let transport =
        TransportConfig { careful_resume: Some(Arc::default()), pacing: false, ..TransportConfig::default() };
    assert!(transport.validate().unwrap_err().to_string().contains("careful_resume"));
}
