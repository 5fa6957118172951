//! Each side's address as the other sees it (draft-ietf-quic-address-discovery).

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod common;

use std::time::Duration;

use common::{Pair, Transfer};
use warpline_proto::Event;
use warpline_proto::config::{AddressDiscovery, TransportConfig};

fn transport(provide: bool, request: bool) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport.extensions.address_discovery = AddressDiscovery { provide, request };
    transport
}

#[test]
fn both_learn_their_address_and_the_client_learns_of_its_move() {
    for lost in [1_000_000, 3, 4, 5, 6, 7, 8] {
        let mut pair = Pair::new(&transport(true, true));
        pair.filter = Box::new(move |n, _, _| n != lost);
        let (client, server) = pair.established();
        pair.run_for(Duration::from_secs(2));
        assert_eq!(pair.client.peek(client).unwrap().observed_address(), Some(pair.client_addr));
        assert_eq!(pair.server.peek(server).unwrap().observed_address(), Some(pair.server_addr));
        let mut transfer = Transfer::open(&mut pair.client, client, 2_000_000);
        pair.client_addr = "192.0.2.1:5555".parse().unwrap();
        pair.run_until(Duration::from_secs(60), |p| {
            transfer.pump(p.now, (&mut p.client, client), (&mut p.server, server));
            transfer.done
        });
        assert_eq!(pair.client.peek(client).unwrap().observed_address(), Some(pair.client_addr));
        let news = pair.client_events.iter().filter(|(_, e)| *e == Event::AddressObserved).count();
        assert_eq!(news, 2, "once for each address");
    }
}

#[test]
fn who_does_not_ask_is_not_told() {
    let mut pair = Pair::new(&TransportConfig::default());
    let (client, server) = pair.established();
    pair.run_for(Duration::from_secs(2));
    assert_eq!(pair.client.peek(client).unwrap().observed_address(), None);
    assert_eq!(pair.server.peek(server).unwrap().observed_address(), None);
    assert!(!pair.client.is_idle(), "the connection stands");
}
