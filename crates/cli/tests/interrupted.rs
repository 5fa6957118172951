//! The command's own proof, with more kills than it does by itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use serde_json::Value;

fn demo(arguments: &[&str]) -> Value {
    let output =
        Command::new(env!("CARGO_BIN_EXE_warpline")).args(["demo", "--json"]).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"))
}

#[test]
fn a_transfer_whose_receiver_and_host_are_killed_is_complete_on_the_loopback() {
    let report = demo(&["--size", "256", "--files", "500", "--kills", "2"]);
    assert_eq!(report["differences"], serde_json::json!([]));
    let sides: Vec<_> = report["interrupted"]["kills"].as_array().unwrap().iter().map(|kill| &kill["side"]).collect();
    assert_eq!(sides, ["get", "host"]);
}

#[test]
fn ten_kills_between_two_namespaces_cost_less_than_a_twentieth() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can make network namespaces");
        return;
    }
    let report = demo(&["--namespaces", "--size", "2048", "--files", "1000", "--kills", "10"]);
    assert_eq!(report["differences"], serde_json::json!([]));
    assert_eq!(report["interrupted"]["kills"].as_array().unwrap().len(), 10);
    let overhead = report["interrupted"]["overhead"].as_f64().unwrap();
    assert!(overhead < 0.05, "{overhead}: {report}");
    for side in ["host_peak_memory", "get_peak_memory"] {
        let peak = report[side].as_u64().unwrap();
        assert!(peak < 128 << 20, "{side}: {peak}");
    }
}
