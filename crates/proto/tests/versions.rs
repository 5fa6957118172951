//! Which version two endpoints end up with, and that nobody on the path can change it (RFC 9000 section 6, RFC 9368, RFC 9369).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Pair, Transfer, server_config};
use warpline_proto::config::{EndpointConfig, RetryPolicy, TransportConfig};
use warpline_proto::{ConnectionError, Endpoint, Event, TransportErrorCode, Version};

const V1: Version = Version::V1;
const V2: Version = Version::V2;

/// A pair that speaks these versions, most wanted first.
fn speaking(client: &[Version], server: &[Version], retry: RetryPolicy) -> Pair {
    let mut config = server_config(&TransportConfig::default());
    config.retry = retry;
    let mut pair = Pair::new(&TransportConfig::default());
    pair.client_speaks(client);
    let endpoint = EndpointConfig { versions: server.to_vec(), ..EndpointConfig::new(&[5; 32]) };
    pair.server = Endpoint::new(Arc::new(endpoint), Some(Arc::new(config)), [4; 32]);
    pair
}

/// The version after a handshake that begins with `original`, and a transfer on it.
fn negotiated(pair: &mut Pair, original: Option<Version>) -> Version {
    pair.client_config.original_version = original;
    let (client, server) = pair.reconnected();
    let mut transfer = Transfer::open(&mut pair.client, client, 50_000);
    pair.run_until(Duration::from_secs(60), |p| {
        transfer.pump(p.now, (&mut p.client, client), (&mut p.server, server));
        transfer.done
    });
    let version = pair.client.peek(client).unwrap().version();
    assert_eq!(pair.server.peek(server).unwrap().version(), version);
    version
}

#[test]
fn the_clients_favourite_that_the_server_speaks_is_used_at_no_cost() {
    for retry in [RetryPolicy::Never, RetryPolicy::Always] {
        for (wanted, spoken, original, expected) in [
            (&[V2, V1][..], &[V1, V2][..], V1, V2),
            (&[V1, V2], &[V1, V2], V2, V1),
            (&[V1, V2], &[V2, V1], V1, V1),
            (&[V2, V1], &[V1], V1, V1),
            (&[V2], &[V1, V2], V2, V2),
        ] {
            let mut pair = speaking(wanted, spoken, retry);
            assert_eq!(negotiated(&mut pair, Some(original)), expected, "{wanted:?} {spoken:?} {original:?} {retry:?}");
            assert_eq!(pair.server.stats().version_negotiations, 0, "no round trip was spent");
        }
    }
}

#[test]
fn a_change_of_version_survives_loss_of_any_datagram_and_reordering() {
    for lost in 1..14 {
        let mut pair = speaking(&[V2, V1], &[V1, V2], RetryPolicy::Never);
        pair.filter = Box::new(move |n, _, _| n != lost);
        assert_eq!(negotiated(&mut pair, Some(V1)), V2, "lost {lost}");
    }
    for seed in 1..30u64 {
        let mut pair = speaking(&[V2, V1], &[V1, V2], RetryPolicy::Never);
        let mut state = seed;
        pair.jitter = Box::new(move |_, _| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            Duration::from_micros((state >> 33) % 20_000)
        });
        assert_eq!(negotiated(&mut pair, Some(V1)), V2, "seed {seed}");
    }
}

#[test]
fn sessions_belong_to_the_version_that_was_negotiated() {
    let mut pair = speaking(&[V2, V1], &[V1, V2], RetryPolicy::Never);
    assert_eq!(negotiated(&mut pair, Some(V1)), V2);
    pair.run_for(Duration::from_millis(100));
    // Version 1 has none; without a fixed beginning the client begins with the version that it has a session for.
    pair.client_config.original_version = Some(V1);
    let (client, _) = pair.reconnected();
    assert!(!pair.client.peek(client).unwrap().is_resumed());
    pair.client_config.original_version = None;
    let (client, _) = pair.reconnected();
    let connection = pair.client.peek(client).unwrap();
    assert!(connection.is_resumed() && connection.version() == V2);
}

#[test]
fn keys_can_be_updated_after_a_change_of_version() {
    let mut pair = speaking(&[V2, V1], &[V1, V2], RetryPolicy::Never);
    pair.client_config.original_version = Some(V1);
    let transport = TransportConfig { packets_per_key: Some(40), ..TransportConfig::default() };
    pair.client_config = pair.client_config.clone().transport(transport).unwrap();
    let (client, server) = pair.established();
    for _ in 0..4 {
        let mut transfer = Transfer::open(&mut pair.client, client, 200_000);
        pair.run_until(Duration::from_secs(60), |p| {
            transfer.pump(p.now, (&mut p.client, client), (&mut p.server, server));
            transfer.done
        });
        pair.run_for(Duration::from_millis(500));
    }
    let updates = |endpoint: &Endpoint, handle| endpoint.peek(handle).unwrap().stats().key_updates;
    assert!(updates(&pair.client, client) >= 3);
    assert_eq!(updates(&pair.client, client), updates(&pair.server, server));
}

#[test]
fn a_version_negotiation_packet_is_followed_once() {
    let mut pair = speaking(&[V1, V2], &[V2], RetryPolicy::Never);
    assert_eq!(negotiated(&mut pair, Some(V1)), V2);
    assert!(pair.server.stats().version_negotiations >= 1);
    let mut pair = speaking(&[V1], &[V2], RetryPolicy::Never);
    let client = pair.connect();
    let closed = (client, Event::Closed(ConnectionError::VersionMismatch));
    pair.run_until(Duration::from_secs(10), |p| p.client_events.contains(&closed));
}

/// A Version Negotiation packet as an attacker would forge it from the client's first one.
fn forged(initial: &[u8], versions: &[Version]) -> Vec<u8> {
    let dcid_len = usize::from(initial[5]);
    let dcid = &initial[6..6 + dcid_len];
    let scid_len = usize::from(initial[6 + dcid_len]);
    let scid = &initial[7 + dcid_len..7 + dcid_len + scid_len];
    let mut packet = vec![0xc0, 0, 0, 0, 0, scid_len as u8];
    packet.extend_from_slice(scid);
    packet.push(dcid_len as u8);
    packet.extend_from_slice(dcid);
    for version in versions {
        packet.extend_from_slice(&version.0.to_be_bytes());
    }
    packet
}

/// Swallows the client's first datagrams and answers with a forged list.
fn attack(pair: &mut Pair, versions: &'static [Version]) -> warpline_proto::ConnectionHandle {
    let client = pair.connect();
    let mut buf = vec![0; 65_536];
    let sent = pair.client.poll_transmit(pair.now, &mut buf).unwrap();
    let packet = forged(&buf[..sent.len], versions);
    let meta = warpline_proto::DatagramMeta { remote: pair.server_addr, local: None, ecn: None };
    pair.client.handle_datagram(pair.now, &meta, &mut warpline_frame::Frame::from_vec(packet));
    client
}

#[test]
fn a_forged_list_cannot_force_a_version_that_is_wanted_less() {
    let mut pair = speaking(&[V2, V1], &[V1, V2], RetryPolicy::Never);
    pair.client_config.original_version = Some(V2);
    let client = attack(&mut pair, &[V1]);
    let mut why = None;
    pair.run_until(Duration::from_secs(30), |p| {
        why = p.client_events.iter().find_map(|(h, e)| match e {
            Event::Closed(error) if *h == client => Some(error.clone()),
            _ => None,
        });
        why.is_some()
    });
    let Some(ConnectionError::Transport(error)) = why else { panic!("{why:?}") };
    assert_eq!(error.code, TransportErrorCode::VERSION_NEGOTIATION_ERROR);
}

#[test]
fn a_forged_list_with_the_version_in_use_changes_nothing() {
    let mut pair = speaking(&[V2, V1], &[V1, V2], RetryPolicy::Never);
    pair.client_config.original_version = Some(V2);
    let client = attack(&mut pair, &[V1, V2]);
    pair.run_until(Duration::from_secs(30), |p| !p.client.peek(client).unwrap().is_handshaking());
    assert_eq!(pair.client.peek(client).unwrap().version(), V2);
}
