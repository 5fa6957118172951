//! Connection IDs for load balancers (draft-ietf-quic-load-balancers), with our partition key behind them.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod common;

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use common::{Pair, Transfer};
use warpline_proto::config::{EndpointConfig, QuicLb, TransportConfig};
use warpline_proto::{ConnectionHandle, MigrateError};
use warpline_wire::cid;

fn pair(config: &QuicLb) -> Pair {
    let mut endpoint = EndpointConfig::new(&[5; 32]);
    endpoint.quic_lb = Some(config.clone());
    Pair::with_server_endpoint(&TransportConfig::default(), endpoint)
}

/// Destination IDs in the client's packets: in its first one, and in those after the handshake.
type Seen = Rc<RefCell<(Vec<u8>, HashSet<Vec<u8>>)>>;

fn watch(pair: &mut Pair, len: usize) -> Seen {
    let seen = Seen::default();
    let log = Rc::clone(&seen);
    pair.filter = Box::new(move |_, from_client, bytes| {
        let mut seen = log.borrow_mut();
        if from_client && bytes[0] & 0x80 == 0 {
            seen.1.insert(bytes[1..=len].to_vec());
        } else if from_client && seen.0.is_empty() {
            seen.0 = bytes[6..6 + usize::from(bytes[5])].to_vec();
        }
        true
    });
    seen
}

fn transfer(p: &mut Pair, handles: (ConnectionHandle, ConnectionHandle), mut at: impl FnMut(&mut Pair, u64)) {
    let mut transfer = Transfer::open(&mut p.client, handles.0, 1_000_000);
    p.run_until(Duration::from_secs(60), |p| {
        transfer.pump(p.now, (&mut p.client, handles.0), (&mut p.server, handles.1));
        at(p, transfer.read);
        transfer.done
    });
}

#[test]
fn encrypted_ids_carry_a_whole_connection_and_keep_its_partition() {
    for (sid_len, nonce_len) in [(1, 4), (2, 6), (4, 12), (3, 8)] {
        let config = QuicLb::new(3, &[7; 8][..sid_len], nonce_len, Some(&[9; 16]), 1).unwrap();
        let layout = config.layout();
        let mut pair = pair(&config);
        let seen = watch(&mut pair, layout.len.into());
        let handles = pair.established();
        pair.run_for(Duration::from_millis(200));
        let mut moved = 0;
        transfer(&mut pair, handles, |p, read| {
            if read > 250_000 * (moved + 1) && moved < 3 {
                moved += 1;
                p.client_addr.set_port(2_000 + moved as u16);
                p.client.migrate(p.now, handles.0).unwrap();
            }
        });
        let seen = seen.borrow();
        assert_eq!(seen.1.len(), 4, "an ID for each address");
        let slot = |id: &[u8]| cid::slot(layout.partition_key(id).unwrap());
        for id in &seen.1 {
            assert_eq!(id[0] >> 5, 3);
            assert_eq!(slot(id), slot(&seen.0), "the connection left its partition");
        }
        let routing: HashSet<_> = seen.1.iter().map(|id| &id[1..=sid_len]).collect();
        assert!(sid_len > 1 || routing.len() > 1, "the server ID can be seen");
    }
}

#[test]
fn ids_in_the_clear_show_the_server_and_there_is_one_for_each_connection() {
    let config = QuicLb::new(1, &[0xab, 0xcd], 5, None, 0).unwrap();
    let len = usize::from(config.layout().len);
    let mut pair = pair(&config);
    let seen = watch(&mut pair, len);
    let handles = pair.established();
    transfer(&mut pair, handles, |_, _| {});
    let seen = seen.borrow();
    assert_eq!(seen.1.len(), 1);
    assert!(seen.1.iter().all(|id| id[1..3] == [0xab, 0xcd]));
    assert_eq!(pair.client.migrate(pair.now, handles.0), Err(MigrateError::Forbidden));
}

#[test]
fn a_new_configuration_replaces_the_ids_of_open_connections() {
    let old = QuicLb::new(1, &[1, 2, 3], 6, Some(&[9; 16]), 0).unwrap();
    let new = QuicLb::new(2, &[4, 5, 6], 6, Some(&[8; 16]), 0).unwrap();
    let mut pair = pair(&old);
    let seen = watch(&mut pair, old.layout().len.into());
    let handles = pair.established();
    let mut rotated = false;
    transfer(&mut pair, handles, |p, read| {
        if read > 500_000 && !rotated {
            rotated = true;
            p.server.rotate_quic_lb(p.now, new.clone()).unwrap();
        }
    });
    let rotations: HashSet<u8> = seen.borrow().1.iter().map(|id| id[0] >> 5).collect();
    assert_eq!(rotations, HashSet::from([1, 2]));
    // From now on only the new ones are in use.
    let seen = watch(&mut pair, old.layout().len.into());
    transfer(&mut pair, handles, |_, _| {});
    assert!(seen.borrow().1.iter().all(|id| id[0] >> 5 == 2));
    let other_layout = QuicLb::new(2, &[4, 5], 6, Some(&[8; 16]), 0).unwrap();
    assert!(pair.server.rotate_quic_lb(pair.now, other_layout).is_err());
    assert!(pair.client.rotate_quic_lb(pair.now, new).is_err());
}
