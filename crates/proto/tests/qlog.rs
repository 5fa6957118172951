//! Logs of connections as qlog: each line is JSON with what the schema asks for, and tells what happened.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Pair, Transfer, logs};
use serde_json::Value;
use warpline_proto::config::TransportConfig;
use warpline_proto::limits;

/// The required fields of an event's data.
fn required(name: &str) -> &'static [&'static str] {
    match name {
        "connectivity:connection_started" => &["src_ip", "dst_ip", "protocol", "dst_port", "src_cid", "dst_cid"],
        "connectivity:connection_closed" => &["owner", "reason"],
        "connectivity:connection_state_updated" => &["new"],
        "security:key_updated" => &["key_type", "trigger"],
        "transport:parameters_set" => &["owner", "initial_max_data", "max_idle_timeout", "ack_delay_exponent"],
        "transport:parameters_restored" => &["initial_max_data"],
        "transport:packet_sent" | "transport:packet_received" => &["header", "raw", "frames"],
        "transport:packet_dropped" | "transport:packet_buffered" => &["header", "raw", "trigger"],
        "transport:datagrams_sent" | "transport:datagrams_received" => &["count", "raw"],
        "recovery:parameters_set" => &["reordering_threshold", "initial_congestion_window", "max_datagram_size"],
        "recovery:metrics_updated" => &[],
        "recovery:congestion_state_updated" => &["new"],
        "recovery:careful_resume_phase_updated" => &["new", "state_data"],
        "recovery:packet_lost" => &["header"],
        "recovery:loss_timer_updated" => &["event_type"],
        other => panic!("{other} is not in the schema"),
    }
}

/// Checks a log against the schema; how often each event is in it.
fn check(name: &str, records: &[Value]) -> BTreeMap<String, usize> {
    let head = &records[0];
    assert_eq!((&head["qlog_version"], &head["qlog_format"]), (&Value::from("0.3"), &Value::from("JSON-SEQ")));
    let role = head["trace"]["vantage_point"]["type"].as_str().unwrap();
    let odcid = head["trace"]["common_fields"]["ODCID"].as_str().unwrap();
    assert_eq!(name, format!("{odcid}_{role}"));
    assert!(head["trace"]["common_fields"]["reference_time"].is_number());
    let (mut counts, mut last) = (BTreeMap::new(), 0.0);
    for record in &records[1..] {
        let time = record["time"].as_f64().unwrap();
        assert!(time >= last, "time does not go back");
        last = time;
        let name = record["name"].as_str().unwrap();
        let data = record["data"].as_object().unwrap();
        for field in required(name) {
            assert!(data.contains_key(*field), "{record} lacks {field}");
        }
        if name.starts_with("transport:packet_") && data.contains_key("frames") {
            assert!(data["header"]["packet_type"].is_string() && data["header"]["packet_number"].is_u64());
            let frames = data["frames"].as_array().unwrap();
            // Frames of extensions are unknown to the schema, but known to us.
            let is_named =
                |f: &Value| f["frame_type"] != "unknown" || (f["name"].is_string() && f["raw_frame_type"].is_u64());
            assert!(
                !frames.is_empty() && frames.iter().all(|f| f["frame_type"].is_string() && is_named(f)),
                "{record}"
            );
        }
        *counts.entry(name.to_owned()).or_insert(0) += 1;
    }
    counts
}

fn transfer(pair: &mut Pair, client: warpline_proto::ConnectionHandle, server: warpline_proto::ConnectionHandle) {
    let mut transfer = Transfer::open(&mut pair.client, client, 300_000);
    pair.run_until(Duration::from_secs(60), |p| {
        transfer.pump(p.now, (&mut p.client, client), (&mut p.server, server));
        transfer.done
    });
}

#[test]
fn a_transfer_over_a_bad_path_is_told_in_full_and_agrees_with_the_counters() {
    let mut pair = Pair::logged(&TransportConfig::default());
    let (client, server) = pair.established();
    let mut arriving = 0;
    pair.filter = Box::new(move |count, to_server, bytes| {
        arriving += u64::from(!to_server);
        if !to_server && arriving % 7 == 3 {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        }
        count % 23 != 0
    });
    transfer(&mut pair, client, server);
    pair.client.connection(client).unwrap().update_keys();
    pair.run_for(Duration::from_secs(2));
    let stats = pair.client.peek(client).unwrap().stats();
    // What is told of the end is not in the counters.
    pair.filter = Box::new(|_, _, _| true);
    let now = pair.now;
    pair.client.connection(client).unwrap().close(now, 7, b"enough");
    pair.run_for(Duration::from_secs(5));
    let (ours, theirs) = (logs(&mut pair.client), logs(&mut pair.server));
    assert_eq!((ours.len(), theirs.len()), (1, 1));
    let (name, records) = ours.first_key_value().unwrap();
    let counts = check(name, records);
    let count = |event: &str| counts.get(event).copied().unwrap_or(0) as u64;
    // The close itself is one more packet.
    assert!(count("transport:packet_sent") > stats.packets_sent && stats.packets_sent > 100);
    assert!(count("transport:packet_received") >= stats.packets_received && stats.packets_received > 5);
    assert_eq!(count("transport:packet_dropped"), stats.packets_dropped);
    assert_eq!(stats.packets_dropped, stats.drops.not_authentic, "{:?}", stats.drops);
    assert!(stats.drops.not_authentic > 0);
    assert_eq!(count("recovery:packet_lost"), stats.packets_lost);
    assert!(stats.packets_lost > 0);
    assert_eq!(count("security:key_updated"), 2 * stats.key_updates);
    assert_eq!(count("transport:parameters_set"), 2);
    for event in [
        "connectivity:connection_started",
        "connectivity:connection_closed",
        "recovery:parameters_set",
        "recovery:metrics_updated",
        "recovery:congestion_state_updated",
        "recovery:loss_timer_updated",
        "transport:datagrams_sent",
        "transport:datagrams_received",
    ] {
        assert!(count(event) > 0, "{event} in {counts:?}");
    }
    let states: Vec<_> = records.iter().filter(|r| r["name"] == "connectivity:connection_state_updated").collect();
    let states: Vec<_> = states.iter().map(|r| r["data"]["new"].as_str().unwrap()).collect();
    assert_eq!((states[0], states[states.len() - 1]), ("attempted", "closed"));
    assert!(states.contains(&"handshake_confirmed"));
    let (name, records) = theirs.first_key_value().unwrap();
    let counts = check(name, records);
    assert!(counts["connectivity:connection_closed"] == 1 && name.ends_with("_server"));
}

#[test]
fn logs_come_in_pieces_and_only_when_wanted() {
    let mut pair = Pair::new(&TransportConfig::default());
    let (client, server) = pair.established();
    transfer(&mut pair, client, server);
    assert!(logs(&mut pair.client).is_empty() && logs(&mut pair.server).is_empty());
    let mut pair = Pair::logged(&TransportConfig::default());
    let (client, server) = pair.established();
    transfer(&mut pair, client, server);
    let piece = pair.client.poll_log().unwrap();
    assert!((limits::QLOG_PIECE..limits::QLOG_BUFFER_MAX).contains(&piece.text.len()), "{}", piece.text.len());
}

/// The events of draft-ietf-tsvwg-careful-resume-qlog.
#[test]
fn the_phases_of_careful_resume_are_told_with_what_led_to_them() {
    let resuming = TransportConfig { careful_resume: Some(std::sync::Arc::default()), ..TransportConfig::default() };
    let mut pair = Pair::logged(&resuming);
    pair.delay = Duration::from_millis(40);
    let mut told = Vec::new();
    for _ in 0..2 {
        let (client, server) = pair.reconnected();
        let mut transfer = Transfer::open(&mut pair.client, client, 2 << 20);
        pair.run_until(Duration::from_secs(60), |p| {
            transfer.pump(p.now, (&mut p.client, client), (&mut p.server, server));
            transfer.done
        });
        let now = pair.now;
        pair.client.connection(client).unwrap().close(now, 0, b"");
        pair.run_for(Duration::from_secs(5));
        for (name, records) in logs(&mut pair.client) {
            check(&name, &records);
            let ours = records.iter().filter(|r| r["name"] == "recovery:careful_resume_phase_updated");
            told.extend(ours.map(|r| r["data"].clone()));
        }
    }
    let steps: Vec<_> = told.iter().map(|d| (d["new"].as_str().unwrap(), d["trigger"].as_str())).collect();
    assert_eq!(steps.len(), 4, "{steps:?}");
    assert_eq!(steps[..2], [("normal", None), ("unvalidated", Some("congestion_window_limited"))]);
    assert_eq!((steps[2].0, steps[3]), ("validating", ("normal", Some("last_unvalidated_packet_acknowledged"))));
    let jump = &told[1];
    let saved = jump["restored_data"]["saved_congestion_window"].as_u64().unwrap();
    assert!(jump["state_data"]["congestion_window"].as_u64().unwrap() <= saved / 2);
    assert!(jump["restored_data"]["saved_rtt"].as_f64().unwrap() >= 80.0);
}
