//! Looking ahead: whose memory is fetched before a datagram is handled, and that nothing else comes of it.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod common;

use common::Pair;
use warpline_frame::{Chunk, Frame};
use warpline_proto::config::TransportConfig;
use warpline_proto::{ConnectionHandle, DatagramMeta, Event, Fetch};

/// A datagram of a client's connection with a DATAGRAM frame in it.
fn datagram(pair: &mut Pair, client: ConnectionHandle, text: &'static [u8]) -> Vec<u8> {
    let mut buf = vec![0; 65_536];
    pair.client.connection(client).unwrap().send_datagram(Chunk::from_static(text)).unwrap();
    let transmit = pair.client.poll_transmit(pair.now, &mut buf).unwrap();
    assert_eq!(transmit.len, transmit.segment_size, "one datagram");
    buf[..transmit.len].to_vec()
}

#[test]
fn the_connection_of_each_datagram_is_foreseen_unless_it_was_the_last() {
    let mut pair = Pair::new(&TransportConfig::default());
    let connections = [0; 3].map(|_| pair.reconnected());
    pair.run_for(std::time::Duration::from_secs(1));
    let meta = DatagramMeta { remote: pair.client_addr, local: Some(pair.server_addr.ip()), ecn: None };
    let now = pair.now;
    let mut last = None;
    for round in 0..3 {
        let texts: [&'static [u8]; 3] = [b"one", b"two", b"three"];
        let arrived: Vec<_> =
            connections.iter().zip(texts).map(|((client, _), text)| datagram(&mut pair, *client, text)).collect();
        for (bytes, (_, server)) in arrived.iter().zip(connections) {
            pair.server.prefetch_route(bytes);
            let foreseen = pair.server.foresee(bytes);
            assert_eq!(foreseen, Some(server).filter(|server| last != Some(*server)), "round {round}");
            Fetch::ALL.into_iter().for_each(|step| pair.server.fetch(server, step));
            pair.server.handle_datagram(now, &meta, &mut Frame::from_vec(bytes.clone()));
            last = Some(server);
        }
        let mut read = Vec::new();
        while let Some((handle, event)) = pair.server.poll_event() {
            if event == Event::DatagramReceived {
                read.push(pair.server.connection(handle).unwrap().recv_datagram().unwrap());
            }
        }
        assert_eq!(read.iter().map(|chunk| &chunk[..]).collect::<Vec<_>>(), texts, "each came once, in order");
    }
}

#[test]
fn what_is_nobodys_is_not_foreseen_and_fetching_what_is_gone_does_nothing() {
    let mut pair = Pair::new(&TransportConfig::default());
    let (client, server) = pair.established();
    pair.run_for(std::time::Duration::from_secs(1));
    let bytes = datagram(&mut pair, client, b"late");
    let mut foreign = bytes.clone();
    foreign[1] ^= 0xff;
    assert_eq!(pair.server.foresee(&foreign), None, "an ID that was not issued");
    for cut in 0..9 {
        pair.server.prefetch_route(&bytes[..cut]);
        assert_eq!(pair.server.foresee(&bytes[..cut]), None, "shorter than an ID");
    }
    let now = pair.now;
    pair.server.connection(server).unwrap().close(now, 0, b"");
    pair.run_for(std::time::Duration::from_secs(30));
    assert!(pair.server.peek(server).is_none());
    assert_eq!(pair.server.foresee(&bytes), None, "its IDs are forgotten");
    Fetch::ALL.into_iter().for_each(|step| pair.server.fetch(server, step));
}
