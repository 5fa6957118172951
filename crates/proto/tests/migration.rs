//! Paths that change: NAT rebinding, a client that moves, a server with a preferred address (RFC 9000 sections 8 and 9).

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod common;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::{ALPN, Pair, Transfer};
use warpline_proto::config::{PreferredAddress, ServerConfig, TransportConfig};
use warpline_proto::{ConnectionHandle, MigrateError};

fn server_config(edit: impl FnOnce(&mut ServerConfig)) -> ServerConfig {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pkcs8 = key.signing_key.serialize_der().try_into().unwrap();
    let mut config = ServerConfig::with_single_cert(vec![key.cert.der().clone()], pkcs8, &[ALPN]).unwrap();
    edit(&mut config);
    config
}

/// Pumps a transfer, doing `at_half` in its midst.
fn transfer(p: &mut Pair, handles: (ConnectionHandle, ConnectionHandle), bytes: u64, at_half: impl FnOnce(&mut Pair)) {
    let mut transfer = Transfer::open(&mut p.client, handles.0, bytes);
    let mut at_half = Some(at_half);
    p.run_until(Duration::from_secs(120), |p| {
        transfer.pump(p.now, (&mut p.client, handles.0), (&mut p.server, handles.1));
        if transfer.read > bytes / 2
            && let Some(act) = at_half.take()
        {
            act(p);
        }
        transfer.done
    });
}

/// Destination IDs of short header packets that the client sends, in order.
fn ids_sent(p: &mut Pair) -> Rc<RefCell<Vec<Vec<u8>>>> {
    let seen: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
    let log = Rc::clone(&seen);
    p.filter = Box::new(move |_, from_client, bytes| {
        if from_client && bytes[0] & 0x80 == 0 {
            log.borrow_mut().push(bytes[1..9].to_vec());
        }
        true
    });
    seen
}

#[test]
fn a_client_moves_to_another_address_under_another_id() {
    let mut pair = Pair::new(&TransportConfig::default());
    let (client, server) = pair.established();
    let seen = ids_sent(&mut pair);
    let new_addr: SocketAddr = "198.51.100.7:7777".parse().unwrap();
    let at_move = Rc::new(RefCell::new(0));
    let mark = Rc::clone(&at_move);
    let log = Rc::clone(&seen);
    transfer(&mut pair, (client, server), 3_000_000, move |p| {
        *mark.borrow_mut() = log.borrow().len();
        p.client_addr = new_addr;
        p.client.migrate(p.now, client).unwrap();
    });
    pair.run_for(Duration::from_secs(2));
    assert_eq!(pair.server.peek(server).unwrap().remote(), new_addr);
    let seen = seen.borrow();
    let (before, after) = seen.split_at(*at_move.borrow());
    assert!(before.iter().all(|id| !after.contains(id)), "an ID was seen from both addresses");
}

#[test]
fn moving_starts_congestion_control_and_round_trip_times_over() {
    let mut pair = Pair::new(&TransportConfig::default());
    let (client, server) = pair.established();
    let fresh = pair.client.peek(client).unwrap().stats().cwnd;
    let mut after = 0;
    transfer(&mut pair, (client, server), 6_000_000, |p| {
        assert!(p.client.peek(client).unwrap().stats().cwnd > fresh * 4, "the window has grown by now");
        p.client_addr = "198.51.100.7:7777".parse().unwrap();
        p.client.migrate(p.now, client).unwrap();
        let stats = p.client.peek(client).unwrap().stats();
        after = stats.cwnd;
        assert_eq!(stats.bytes_in_flight, 0, "what is under way counts for the old path");
        assert_eq!(stats.rtt, TransportConfig::default().initial_rtt);
    });
    assert!(after <= fresh, "{after} against {fresh}");
}

#[test]
fn moving_survives_loss() {
    for lost in 0..20u64 {
        let mut pair = Pair::new(&TransportConfig::default());
        let (client, server) = pair.established();
        pair.filter = Box::new(move |n, _, _| n % 20 != lost);
        transfer(&mut pair, (client, server), 600_000, |p| {
            p.client_addr = "198.51.100.7:7777".parse().unwrap();
            p.client.migrate(p.now, client).unwrap();
        });
        assert_eq!(pair.server.peek(server).unwrap().remote(), pair.client_addr);
    }
}

#[test]
fn who_may_not_move_is_told_why() {
    let config = server_config(|c| c.active_migration = false);
    let mut pair = Pair::with_server(&TransportConfig::default(), config);
    let (client, server) = pair.established();
    assert_eq!(pair.server.migrate(pair.now, server), Err(MigrateError::NotClient));
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.client.migrate(pair.now, client), Err(MigrateError::Forbidden));
    // Its address may change all the same: what it sends from there leads the server to it.
    pair.client_addr = "198.51.100.7:7777".parse().unwrap();
    assert_eq!(pair.client.migrate_all(pair.now), 0);
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.server.peek(server).unwrap().remote(), pair.client_addr);
    let early = pair.connect();
    assert_eq!(pair.client.migrate(pair.now, early), Err(MigrateError::NotEstablished));
}

/// An attacker sends a packet on from another address: the server asks there, hears nothing, and goes back.
#[test]
fn a_path_that_does_not_answer_is_left_again() {
    let mut pair = Pair::new(&TransportConfig::default());
    let (client, server) = pair.established();
    let honest = pair.client_addr;
    let elsewhere: SocketAddr = "203.0.113.66:6666".parse().unwrap();
    pair.client.connection(client).unwrap().ping();
    pair.client_addr = elsewhere;
    pair.run_for(Duration::from_millis(1));
    pair.client_addr = honest;
    pair.run_for(Duration::from_millis(15));
    assert_eq!(pair.server.peek(server).unwrap().remote(), elsewhere, "it was taken for a move");
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.server.peek(server).unwrap().remote(), honest);
    transfer(&mut pair, (client, server), 100_000, |_| {});
}

/// Bytes sent to an address that was not validated stay within three times those received from there (section 8).
#[test]
fn an_unvalidated_path_gets_no_more_than_three_times_what_came_from_it() {
    let mut pair = Pair::new(&TransportConfig::default());
    let (client, server) = pair.established();
    // The server has much to send.
    let mut download = Transfer::open(&mut pair.server, server, 5_000_000);
    for _ in 0..40 {
        let now = pair.now;
        download.pump(now, (&mut pair.server, server), (&mut pair.client, client));
        pair.run_for(Duration::from_millis(5));
    }
    // From now on the client's packets come from elsewhere, and nothing that goes there arrives.
    pair.client_addr = "203.0.113.66:6666".parse().unwrap();
    let counted = Rc::new(RefCell::new((0u64, 0u64)));
    let log = Rc::clone(&counted);
    pair.filter = Box::new(move |_, from_client, bytes| {
        let mut counted = log.borrow_mut();
        if from_client {
            counted.0 += bytes.len() as u64;
        } else if counted.0 > 0 {
            counted.1 += bytes.len() as u64;
        }
        from_client
    });
    pair.client.connection(client).unwrap().ping();
    // Until the server hears of it, 10 ms later, it goes on sending to the old address.
    pair.run_for(Duration::from_millis(9));
    counted.borrow_mut().1 = 0;
    pair.run_for(Duration::from_secs(2));
    let (received, sent) = *counted.borrow();
    assert!(received > 0);
    // What goes to the old address is not bounded, and is little: probes of a path that was validated.
    assert!(sent <= received * 3 + 20 * 1_200, "{sent} sent for {received} received");
}

fn preferring(v4: &str) -> Pair {
    let preferred = PreferredAddress { v4: Some(v4.parse().unwrap()), v6: None };
    Pair::with_server(&TransportConfig::default(), server_config(|c| c.preferred_address = Some(preferred)))
}

#[test]
fn a_client_goes_to_the_servers_preferred_address() {
    for lost in 0..12u64 {
        let mut pair = preferring("192.0.2.200:4433");
        let (client, server) = pair.established();
        pair.filter = Box::new(move |n, _, _| n % 12 != lost);
        transfer(&mut pair, (client, server), 1_000_000, |_| {});
        pair.run_for(Duration::from_secs(3));
        let preferred: SocketAddr = "192.0.2.200:4433".parse().unwrap();
        assert_eq!(pair.client.peek(client).unwrap().remote(), preferred);
        assert_eq!(pair.server.peek(server).unwrap().local(), Some(preferred.ip()));
        transfer(&mut pair, (client, server), 100_000, |_| {});
    }
}

/// RFC 9000 section 9.6.2: what does more than to probe comes from the original address as long as the client has not answered
/// at the preferred one, and the client takes it (its answers are lost here, what else it sends there arrives).
#[test]
fn a_server_stays_at_its_address_until_the_client_answers_at_the_preferred_one() {
    let mut pair = preferring("192.0.2.200:4433");
    let (client, server) = pair.established();
    let preferred: SocketAddr = "192.0.2.200:4433".parse().unwrap();
    let original = pair.server_addr.ip();
    let to_preferred = Rc::new(Cell::new(false));
    let seen = Rc::clone(&to_preferred);
    pair.route_filter = Some(Box::new(move |to| {
        seen.set(to == preferred);
        true
    }));
    let (there, mut first) = (Rc::clone(&to_preferred), true);
    pair.filter = Box::new(move |_, _, bytes| {
        let answers = there.get() && bytes.len() >= 1_200 && !first;
        first &= !there.get();
        !answers
    });
    let moved = |p: &mut Pair| {
        assert_eq!(p.client.peek(client).unwrap().remote(), preferred);
        p.server.peek(server).unwrap().local() != Some(original)
    };
    pair.run_for(Duration::from_secs(1));
    transfer(&mut pair, (client, server), 300, |p| assert!(!moved(p)));
    assert!(!moved(&mut pair));
    pair.filter = Box::new(|_, _, _| true);
    transfer(&mut pair, (client, server), 100_000, |_| {});
    assert!(moved(&mut pair));
}

#[test]
fn a_preferred_address_that_does_not_answer_costs_nothing() {
    let mut pair = preferring("192.0.2.200:4433");
    let (client, server) = pair.established();
    let before = pair.client.peek(client).unwrap().remote();
    let probe = Rc::new(RefCell::new(0));
    let count = Rc::clone(&probe);
    pair.route_filter = Some(Box::new(move |to| {
        let lost = to.ip().to_string() == "192.0.2.200";
        *count.borrow_mut() += usize::from(lost);
        !lost
    }));
    transfer(&mut pair, (client, server), 1_000_000, |_| {});
    pair.run_for(Duration::from_secs(10));
    assert_eq!(pair.client.peek(client).unwrap().remote(), before);
    assert!((1..=8).contains(&*probe.borrow()), "{} probes", probe.borrow());
    transfer(&mut pair, (client, server), 100_000, |_| {});
}
