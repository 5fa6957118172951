//! Connections that move between endpoints, in every stage of their lives.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Pair, Transfer};
use warpline_proto::config::{EndpointConfig, TransportConfig};
use warpline_proto::{ConnectionHandle, Endpoint, Event, RouteChange};

fn empty(seed: u8) -> Endpoint {
    Endpoint::new(Arc::new(EndpointConfig::new(&[5; 32])), None, [seed; 32])
}

/// Moves a connection to an endpoint that has nothing else, which takes the other's place.
fn move_over(endpoint: &mut Endpoint, handle: ConnectionHandle, seed: u8) -> ConnectionHandle {
    let half_open = endpoint.half_open();
    let detached = endpoint.detach(handle).expect("the connection is there");
    assert!(endpoint.is_empty() && endpoint.half_open() == 0 && endpoint.detach(handle).is_none());
    *endpoint = empty(seed);
    let handle = endpoint.attach(detached);
    assert_eq!(endpoint.half_open(), half_open, "a handshake that is open counts where it is");
    handle
}

fn random_loss(pair: &mut Pair, seed: u64) {
    let mut state = seed | 1;
    pair.filter = Box::new(move |_, _, _| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % 100 >= 3
    });
}

#[test]
fn a_transfer_goes_on_while_both_ends_move() {
    for seed in 1..10 {
        let mut pair = Pair::new(&TransportConfig::default());
        let (mut client, mut server) = pair.established();
        random_loss(&mut pair, seed.into());
        let mut transfer = Transfer::open(&mut pair.client, client, 400_000);
        let (mut turn, mut moves) = (0u32, 0);
        pair.run_until(Duration::from_secs(300), |p| {
            turn += 1;
            if turn % 3 == 0 {
                moves += 1;
                server = move_over(&mut p.server, server, seed);
            }
            if turn % 7 == 0 {
                client = move_over(&mut p.client, client, seed);
            }
            transfer.pump(p.now, (&mut p.client, client), (&mut p.server, server));
            transfer.done
        });
        assert!(moves > 20, "the transfer was over after {moves} moves");
    }
}

#[test]
fn a_connection_moves_in_the_middle_of_its_handshake() {
    for at in 1..6 {
        let mut pair = Pair::new(&TransportConfig::default());
        pair.connect();
        let mut steps = 0;
        pair.run_until(Duration::from_secs(10), |p| {
            steps += 1;
            let handles = p.server.handles();
            if steps == at
                && let Some(&handle) = handles.first()
            {
                move_over(&mut p.server, handle, 3);
            }
            p.client_events.iter().any(|(_, event)| *event == Event::Connected)
                && p.server_events.iter().any(|(_, event)| *event == Event::Connected)
        });
    }
}

#[test]
fn an_endpoint_knows_the_packets_of_its_connections_and_of_no_other() {
    let mut pair = Pair::new(&TransportConfig::default());
    let (_, server) = pair.established();
    let ids = pair.server.ids(server);
    assert!(!ids.is_empty());
    let datagram = |id: &[u8]| {
        let mut bytes = vec![0x40];
        bytes.extend_from_slice(id);
        bytes.extend_from_slice(&[0; 30]);
        warpline_frame::Frame::from_vec(bytes)
    };
    let key = pair.server.partition_key(server);
    assert!(ids.iter().all(|id| warpline_wire::cid::partition_key(id) == key));
    assert!(ids.iter().all(|id| pair.server.knows(&datagram(id))));
    assert!(!pair.server.knows(&datagram(&[9; 8])));
    let detached = pair.server.detach(server).expect("the connection is there");
    assert_eq!((detached.ids().collect::<Vec<_>>(), Some(detached.partition_key())), (ids.clone(), key));
    assert!(!ids.iter().any(|id| pair.server.knows(&datagram(id))));
    let mut other = empty(8);
    other.record_routes(true);
    let handle = other.attach(detached);
    assert!(ids.iter().all(|id| other.knows(&datagram(id))));
    let mut changes = Vec::new();
    other.take_route_changes(&mut changes);
    let expected: Vec<_> = ids.iter().map(|&id| RouteChange { handle, id, added: true }).collect();
    assert_eq!(changes, expected);
}
