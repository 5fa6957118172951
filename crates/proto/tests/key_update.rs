//! Key updates and the limits of the ciphers (RFC 9001 sections 6 and 6.6), with limits small enough to be met.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Pair, Transfer};
use warpline_frame::Chunk;
use warpline_proto::config::TransportConfig;
use warpline_proto::{ConnectionError, ConnectionHandle, Dir, Event, TransportErrorCode};

fn transfer(pair: &mut Pair, client: ConnectionHandle, server: ConnectionHandle, bytes: u64) {
    let mut transfer = Transfer::open(&mut pair.client, client, bytes);
    pair.run_until(Duration::from_secs(120), |p| {
        transfer.pump(p.now, (&mut p.client, client), (&mut p.server, server));
        transfer.done
    });
}

fn updates(pair: &Pair, client: ConnectionHandle, server: ConnectionHandle) -> (u64, u64) {
    (pair.client.peek(client).unwrap().stats().key_updates, pair.server.peek(server).unwrap().stats().key_updates)
}

#[test]
fn keys_are_updated_when_they_have_sealed_enough_and_both_sides_go_along() {
    for seed in 1..6u64 {
        let transport = TransportConfig { packets_per_key: Some(100), ..TransportConfig::default() };
        let mut pair = Pair::new(&transport);
        let (client, server) = pair.established();
        let mut state = seed;
        pair.filter = Box::new(move |_, _, _| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % 100 >= 3
        });
        for _ in 0..5 {
            transfer(&mut pair, client, server, 300_000);
            pair.run_for(Duration::from_millis(500));
        }
        let (ours, theirs) = updates(&pair, client, server);
        assert!(ours >= 3 && ours == theirs, "{ours} {theirs}");
    }
}

#[test]
fn the_application_asks_for_an_update_and_no_second_one_comes_before_the_first_has_settled() {
    let mut pair = Pair::new(&TransportConfig::default());
    let (client, server) = pair.established();
    for (round, client_asks) in [(1, true), (2, false), (3, true)] {
        let (endpoint, handle) = if client_asks { (&mut pair.client, client) } else { (&mut pair.server, server) };
        let connection = endpoint.connection(handle).unwrap();
        connection.update_keys();
        connection.update_keys();
        pair.run_for(Duration::from_secs(5));
        assert_eq!(
            updates(&pair, client, server),
            (round, round),
            "asked twice, done once; a ping shows it to the peer"
        );
        transfer(&mut pair, client, server, 100_000);
    }
    for _ in 0..20 {
        pair.client.connection(client).unwrap().update_keys();
        transfer(&mut pair, client, server, 1_000);
    }
    let (ours, theirs) = updates(&pair, client, server);
    assert!((4..10).contains(&ours) && theirs <= ours, "three probe timeouts lie between two: {ours} {theirs}");
}

#[test]
fn packets_under_the_old_keys_are_read_until_the_peer_has_seen_the_new_ones() {
    let mut pair = Pair::new(&TransportConfig::default());
    let (client, server) = pair.established();
    transfer(&mut pair, client, server, 10_000);
    pair.run_for(Duration::from_secs(1));
    pair.client.connection(client).unwrap().update_keys();
    // For seconds, nothing of the client's arrives.
    pair.filter = Box::new(|_, to_server, _| !to_server);
    let stream = pair.server.connection(server).unwrap().open(Dir::Uni).unwrap();
    for _ in 0..30 {
        let connection = pair.server.connection(server).unwrap();
        let _ = connection.write(stream, &mut Chunk::from_static(b"old keys"));
        pair.run_for(Duration::from_millis(50));
    }
    let client_side = pair.client.connection(client).unwrap();
    assert_eq!((client_side.stats().key_updates, client_side.stats().packets_dropped), (1, 0));
    assert!(client_side.accept(Dir::Uni).is_some());
    pair.filter = Box::new(|_, _, _| true);
    pair.run_for(Duration::from_secs(10));
    assert_eq!(updates(&pair, client, server), (1, 1));
    transfer(&mut pair, client, server, 100_000);
}

#[test]
fn updates_from_both_sides_at_once_are_one() {
    let mut pair = Pair::new(&TransportConfig::default());
    let (client, server) = pair.established();
    transfer(&mut pair, client, server, 10_000);
    pair.run_for(Duration::from_millis(300));
    pair.client.connection(client).unwrap().update_keys();
    pair.server.connection(server).unwrap().update_keys();
    transfer(&mut pair, client, server, 100_000);
    assert_eq!(updates(&pair, client, server), (1, 1));
}

#[test]
fn before_there_are_keys_there_is_no_update() {
    let mut pair = Pair::new(&TransportConfig::default());
    let client = pair.connect();
    pair.client.connection(client).unwrap().update_keys();
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.client.peek(client).unwrap().stats().key_updates, 0);
}

#[test]
fn too_many_forgeries_end_the_connection() {
    let transport = TransportConfig { forgeries_max: Some(20), ..TransportConfig::default() };
    let mut pair = Pair::new(&transport);
    let (client, server) = pair.established();
    pair.run_for(Duration::from_millis(300));
    let mut damaged = 0;
    pair.filter = Box::new(move |_, to_server, bytes| {
        // The tag of one packet in two.
        damaged += u64::from(to_server);
        if to_server && damaged % 2 == 0 {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        }
        true
    });
    let mut transfer = Transfer::open(&mut pair.client, client, 1_000_000);
    let mut error = None;
    pair.run_until(Duration::from_secs(60), |p| {
        transfer.pump(p.now, (&mut p.client, client), (&mut p.server, server));
        error = p.server_events.iter().find_map(|(_, e)| match e {
            Event::Closed(ConnectionError::Transport(error)) => Some(error.code),
            _ => None,
        });
        error.is_some()
    });
    assert_eq!(error, Some(TransportErrorCode::AEAD_LIMIT_REACHED));
}

#[test]
fn senseless_limits_are_refused() {
    for transport in [
        TransportConfig { packets_per_key: Some(15), ..TransportConfig::default() },
        TransportConfig { forgeries_max: Some(0), ..TransportConfig::default() },
    ] {
        assert!(transport.validate().is_err());
    }
}
