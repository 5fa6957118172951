//! What a client remembers from one connection for the next: sessions and address tokens.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{ALPN, Pair, Transfer, server_config};
use warpline_proto::config::{ClientConfig, ClientMemory, EndpointConfig, RetryPolicy, ServerConfig, TransportConfig};
use warpline_proto::{ConnectionHandle, Endpoint, FleetKeys, Version};

/// Tokens have no date.
const NOW: Duration = Duration::ZERO;

fn resumed(pair: &Pair, (client, server): (ConnectionHandle, ConnectionHandle)) -> bool {
    let ends = (pair.client.peek(client).unwrap().is_resumed(), pair.server.peek(server).unwrap().is_resumed());
    assert_eq!(ends.0, ends.1);
    ends.0
}

#[test]
fn a_session_is_resumed_and_a_clone_of_the_configuration_knows_it() {
    let mut pair = Pair::new(&TransportConfig::default());
    let first = pair.established();
    assert!(!resumed(&pair, first));
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.client_config.memory.stats().sessions, 2, "the server gives two tickets");
    pair.client_config = pair.client_config.clone();
    for left in [3, 4, 5] {
        // Each use costs one and brings two.
        let handles = pair.reconnected();
        assert!(resumed(&pair, handles));
        assert_eq!(pair.server.peek(handles.1).unwrap().alpn(), Some(ALPN));
        pair.run_for(Duration::from_millis(100));
        assert_eq!(pair.client_config.memory.stats().sessions, left);
    }
}

#[test]
fn another_configuration_another_port_and_a_forgetful_server_mean_a_full_handshake() {
    let mut pair = Pair::new(&TransportConfig::default());
    pair.visit();
    let mine = pair.client_config.clone();

    pair.client_config = ClientConfig::insecure(&[ALPN]).unwrap();
    pair.client_config.memory = mine.memory.clone();
    let other_trust = pair.reconnected();
    assert!(!resumed(&pair, other_trust), "sessions do not cross from one judgement of servers to another");

    pair.client_config = mine.clone();
    pair.server_addr.set_port(4434);
    let other_port = pair.reconnected();
    assert!(!resumed(&pair, other_port));

    let mut forgetful =
        Pair::with_server(&TransportConfig::default(), server_config(&TransportConfig::default()).keep_sessions(0));
    forgetful.visit();
    assert_eq!(forgetful.client_config.memory.stats().sessions, 0, "no tickets are given out");
    let again = forgetful.reconnected();
    assert!(!resumed(&forgetful, again));
}

#[test]
fn a_transfer_on_a_resumed_session_survives_loss() {
    for seed in 1..8u64 {
        let mut pair = Pair::new(&TransportConfig::default());
        pair.visit();
        let mut state = seed;
        pair.filter = Box::new(move |_, _, _| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % 100 >= 10
        });
        let (client, server) = pair.reconnected();
        let mut transfer = Transfer::open(&mut pair.client, client, 100_000);
        pair.run_until(Duration::from_secs(300), |p| {
            transfer.pump(p.now, (&mut p.client, client), (&mut p.server, server));
            transfer.done
        });
    }
}

/// A second process of a fleet: the first one's certificate, but nothing of its memory.
fn process(server: &ServerConfig, secrets: &FleetKeys, seed: u8) -> Endpoint {
    Endpoint::new(Arc::new(EndpointConfig::with_keys(secrets)), Some(Arc::new(server.clone())), [seed; 32])
}

#[test]
fn a_fleet_shares_tickets_and_rotates_its_secret() {
    let (old, new) = (FleetKeys::new(&[1; 32]), FleetKeys::new(&[2; 32]));
    let rotated = new.clone().with_previous(&[1; 32]).unwrap();
    let plain = server_config(&TransportConfig::default());
    let server = |keys: &FleetKeys| plain.clone().fleet_tickets(keys).unwrap();
    let mut pair = Pair::with_server(&TransportConfig::default(), server(&old));
    let ticket = |pair: &mut Pair, keys: &FleetKeys, seed| {
        pair.server = process(&server(keys), keys, seed);
        let handles = pair.reconnected();
        let resumed = resumed(pair, handles);
        // Only tickets of this process are to be left.
        pair.run_for(Duration::from_millis(100));
        resumed
    };
    assert!(!ticket(&mut pair, &old, 10));
    assert!(ticket(&mut pair, &old, 11), "another process of the fleet");
    assert!(ticket(&mut pair, &rotated, 12), "one that has a new secret already");
    assert!(ticket(&mut pair, &new, 13), "the new secret's tickets, after the old one was dropped");
    pair.client_config.memory.clear();
    assert!(!ticket(&mut pair, &old, 14));
    assert!(!ticket(&mut pair, &new, 15), "the old secret's tickets are worth nothing any more");
}

#[test]
fn a_token_spares_the_retry_once() {
    let mut server = server_config(&TransportConfig::default());
    server.retry = RetryPolicy::Always;
    let mut pair = Pair::with_server(&TransportConfig::default(), server);
    pair.visit();
    let retries = pair.server.stats().retries;
    assert!(retries >= 1);
    assert_eq!(pair.client_config.memory.stats().tokens, 1);
    pair.visit();
    assert_eq!(pair.server.stats().retries, retries, "the token proves the address");
    assert_eq!(pair.client_config.memory.stats().tokens, 1, "it was used, and another one came");
    // At another address it proves nothing.
    pair.client_addr = "198.51.100.1:1000".parse().unwrap();
    pair.visit();
    assert!(pair.server.stats().retries > retries);
}

#[test]
fn tokens_survive_the_process_and_are_those_of_one_version() {
    let mut server = server_config(&TransportConfig::default());
    server.retry = RetryPolicy::Always;
    let mut pair = Pair::with_server(&TransportConfig::default(), server);
    pair.visit();
    let saved = pair.client_config.memory.export(NOW);
    let retries = pair.server.stats().retries;

    let mut config = ClientConfig::insecure(&[ALPN]).unwrap();
    config.original_version = Some(Version::V2);
    config.memory = Arc::new(ClientMemory::default());
    assert_eq!(config.memory.import(&saved, NOW).unwrap().tokens, 1);
    pair.client_config = config.clone();
    pair.visit();
    assert!(pair.server.stats().retries > retries, "a token of version 1 is not shown to version 2");
    let retries = pair.server.stats().retries;

    config.original_version = None;
    config.memory = Arc::new(ClientMemory::default());
    assert_eq!(config.memory.import(&saved, NOW).unwrap().tokens, 1);
    pair.client_config = config;
    pair.visit();
    assert_eq!(pair.server.stats().retries, retries);
}
