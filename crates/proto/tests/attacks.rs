//! Known attacks, each against an honest endpoint: those with a public identifier bear it.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use common::tamper::{Clear, Level, Tampered};
use common::{Pair, Transfer};
use warpline_frame::{Chunk, Frame as Memory};
use warpline_proto::config::{RetryPolicy, TransportConfig};
use warpline_proto::{DatagramMeta, Dir, Endpoint, Event, TransportErrorCode as Code, limits};
use warpline_wire::frame::{self, EcnCounts};
use warpline_wire::{ConnectionId, Reader, ResetToken, Side, StreamId, TransportParameters, Writer};

fn established() -> (Tampered, warpline_proto::ConnectionHandle, warpline_proto::ConnectionHandle) {
    let mut test = Tampered::new(&TransportConfig::default());
    let (client, server) = test.pair.established();
    test.pair.run_for(Duration::from_millis(200));
    (test, client, server)
}

fn frames(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = vec![0; 1_150];
    let mut w = Writer::new(&mut bytes);
    write(&mut w);
    let len = w.position();
    bytes.truncate(len);
    bytes
}

/// RUSTSEC-2026-0037: transport parameters that end within a parameter panicked a server.
#[test]
fn rustsec_2026_0037_truncated_transport_parameters() {
    let params = TransportParameters {
        initial_source_connection_id: ConnectionId::new(&[1; 8]),
        stateless_reset_token: Some(ResetToken([3; 16])),
        grease: Some(99),
        ..TransportParameters::default()
    };
    let mut whole = Vec::new();
    params.encode(&mut whole, Side::Server);
    for len in 0..whole.len() {
        // Every cut is either refused or falls between two parameters.
        let cut = TransportParameters::decode(&whole[..len], Side::Server);
        if let Ok(cut) = cut {
            assert_ne!(cut, params, "{len}");
        }
        for value in 0..=255u8 {
            let mut changed = whole[..len].to_vec();
            changed.push(value);
            let _ = TransportParameters::decode(&changed, Side::Server);
        }
    }
}

/// RUSTSEC-2026-0185: one byte at every other offset makes reassembly hold far more than the window.
#[test]
fn rustsec_2026_0185_unbounded_out_of_order_reassembly() {
    let (mut test, client, _) = established();
    let mut sent = 0u64;
    let mut ended = false;
    while !ended {
        // Over several streams: the bound is the connection's.
        let stream = StreamId::new(Side::Client, Dir::Bi, sent % 8);
        let base = sent / 8 * 500;
        let packet = frames(|w| {
            for i in 0..200u64 {
                frame::StreamHeader { id: stream, offset: base + 1 + i * 2, fin: false, len: Some(1) }.encode(w);
                w.u8(7);
                if w.remaining() < 40 {
                    break;
                }
            }
        });
        test.send(client, &packet);
        test.pair.run_for(Duration::from_millis(30));
        sent += 1;
        ended = test.pair.server_events.iter().any(|(_, e)| matches!(e, Event::Closed(_)));
        assert!(sent < 300, "{} gaps and no end", sent * 150);
    }
    assert_eq!(test.server_error(), Code::INTERNAL_ERROR);
}

/// CVE-2025-7054: IDs that are issued and retired in a loop made an endpoint queue retirements without end.
#[test]
fn cve_2025_7054_connection_id_retirement_loop() {
    let (mut test, client, _) = established();
    let packet = frames(|w| {
        for sequence in 10..40u64 {
            let cid = ConnectionId::new(&sequence.to_be_bytes()).unwrap();
            let reset_token = ResetToken([sequence as u8; 16]);
            frame::NewConnectionId { sequence, retire_prior_to: sequence, cid, reset_token }.encode(w);
        }
    });
    test.edit(Level::OneRtt, move |clear| clear.replace(&packet));
    test.pair.client.connection(client).unwrap().ping();
    test.pair.run_for(Duration::from_secs(1));
    let closed = test.pair.server_events.iter().find_map(|(_, event)| match event {
        Event::Closed(error) => Some(error.to_string()),
        _ => None,
    });
    assert!(closed.unwrap().contains("CONNECTION_ID_LIMIT_ERROR"));
}

/// More IDs than this side takes are refused, however they come.
#[test]
fn new_connection_id_stuffing() {
    let (mut test, client, _) = established();
    let packet = frames(|w| {
        for sequence in 10..40u64 {
            let cid = ConnectionId::new(&sequence.to_be_bytes()).unwrap();
            let reset_token = ResetToken([sequence as u8; 16]);
            frame::NewConnectionId { sequence, retire_prior_to: 0, cid, reset_token }.encode(w);
        }
    });
    test.send(client, &packet);
    assert_eq!(test.server_error(), Code::CONNECTION_ID_LIMIT_ERROR);
}

/// The largest number in a packet's ACK frame, and the frame rewritten to cover everything below.
fn acknowledge_everything(clear: &mut Clear, ahead: u64) {
    let mut reader = Reader::new(&clear.payload);
    let Ok(frame::Frame::Ack(ack)) = frame::decode(&mut reader) else { return };
    let largest = ack.largest() + ahead;
    let rest = clear.payload[reader.position()..].to_vec();
    let mut all = frames(|w| {
        let counts: Option<EcnCounts> = ack.ecn();
        assert!(frame::encode_ack(w, ack.delay(), std::iter::once(0..=largest), counts));
    });
    all.extend_from_slice(&rest);
    clear.payload = all;
}

/// RFC 9000 section 21.4: a receiver that acknowledges what it has not got, to be sent more. A number that was left out gives it
/// away.
#[test]
fn optimistic_acknowledgements() {
    let (mut test, client, server) = established();
    for _ in 0..10_000 {
        test.edit(Level::OneRtt, |clear| acknowledge_everything(clear, 0));
    }
    let mut download = Transfer::open(&mut test.pair.server, server, 20_000_000);
    let mut steps = 0;
    test.pair.run_until(Duration::from_secs(30), |p| {
        let is_over = p.server_events.iter().any(|(_, e)| matches!(e, Event::Closed(_)));
        if !is_over {
            download.pump(p.now, (&mut p.server, server), (&mut p.client, client));
        }
        steps += 1;
        is_over
    });
    assert_eq!(test.server_error(), Code::PROTOCOL_VIOLATION);
    assert!(!download.done, "{steps} steps");
}

/// Acknowledging ahead of what was sent is an error at once.
#[test]
fn acknowledgements_of_the_future() {
    let (mut test, client, _) = established();
    test.edit(Level::OneRtt, |clear| {
        let mut all = frames(|w| assert!(frame::encode_ack(w, 0, std::iter::once(0..=40_000), None)));
        all.extend_from_slice(&clear.payload);
        clear.payload = all;
    });
    test.pair.client.connection(client).unwrap().ping();
    assert_eq!(test.server_error(), Code::PROTOCOL_VIOLATION);
}

/// Hundreds of PATH_CHALLENGE frames bring a handful of responses.
#[test]
fn path_challenge_floods() {
    let (mut test, client, _) = established();
    let packet = frames(|w| {
        for i in 0..120u64 {
            frame::encode_path_challenge(w, i.to_be_bytes());
        }
    });
    let sent = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&sent);
    test.pair.route_filter = Some(Box::new(move |to| {
        log.borrow_mut().push(to);
        true
    }));
    test.send(client, &packet);
    test.pair.run_for(Duration::from_secs(1));
    // On the path in use: one datagram carries the few that are kept.
    let home = test.pair.client_addr;
    assert!(sent.borrow().iter().filter(|to| **to == home).count() <= 4);
    // From a hundred forged addresses: at most one of them is answered at a time.
    sent.borrow_mut().clear();
    for port in 1..100u16 {
        test.pair.client_addr.set_port(20_000 + port);
        test.send(client, &frames(|w| frame::encode_path_challenge(w, [port as u8; 8])));
    }
    test.pair.client_addr = home;
    test.pair.run_for(Duration::from_secs(1));
    let forged = sent.borrow().iter().filter(|to| to.port() > 20_000).count();
    assert!((1..=10).contains(&forged), "{forged} answers to forged addresses");
    assert!(!test.pair.server_events.iter().any(|(_, e)| matches!(e, Event::Closed(_))));
}

/// CRYPTO data beyond any handshake is refused, in order or with gaps.
#[test]
fn crypto_floods() {
    for (offset, len) in [(limits::CRYPTO_BUFFER_MAX, 1), (limits::CRYPTO_BUFFER_MAX - 10, 100), (1 << 40, 1)] {
        let (mut test, client, _) = established();
        test.send(client, &frames(|w| frame::encode_crypto(w, offset, &vec![0; len])));
        assert_eq!(test.server_error(), Code::CRYPTO_BUFFER_EXCEEDED);
    }
}

/// Single bytes with gaps between them, after the handshake: within the room for CRYPTO data, but each must be kept apart. From the
/// first to the last and back to front, which is the dearer order to keep sorted.
#[test]
fn crypto_floods_of_pieces() {
    for backwards in [false, true] {
        let (mut test, client, _) = established();
        let mut offsets = (1..limits::CRYPTO_BUFFER_MAX / 2).map(|piece| piece * 2);
        let mut sent = 0;
        while !test.pair.server_events.iter().any(|(_, e)| matches!(e, Event::Closed(_))) {
            let packet = frames(|w| {
                while w.remaining() > 20 {
                    let next = if backwards { offsets.next_back() } else { offsets.next() };
                    frame::encode_crypto(w, next.expect("the flood is refused before all room is used"), b"x");
                    sent += 1;
                }
            });
            test.send(client, &packet);
            test.pair.run_for(Duration::from_millis(30));
        }
        assert_eq!(test.server_error(), Code::CRYPTO_BUFFER_EXCEEDED);
        assert!((limits::CRYPTO_PIECES_MAX..limits::CRYPTO_PIECES_MAX + 400).contains(&sent), "{sent} pieces");
    }
}

/// The rapid reset of HTTP/2 (CVE-2023-44487): streams that are opened and given up at once count until the application has
/// seen their end, so a client cannot have more work done than `max_concurrent_bidi`.
#[test]
fn cve_2023_44487_rapid_reset() {
    let transport = TransportConfig { max_concurrent_bidi: 50, ..TransportConfig::default() };
    let mut pair = Pair::new(&transport);
    let (client, server) = pair.established();
    let mut opened = 0;
    let flood = |pair: &mut Pair, opened: &mut u64| {
        let connection = pair.client.connection(client).unwrap();
        while let Some(id) = connection.open(Dir::Bi) {
            *opened += 1;
            connection.write(id, &mut Chunk::from_static(b"work")).unwrap();
            connection.reset(id, 1).unwrap();
        }
    };
    for _ in 0..100 {
        flood(&mut pair, &mut opened);
        pair.run_for(Duration::from_millis(20));
    }
    assert_eq!(opened, 50, "the application has taken none of them");
    // An application that deals with them lets the same number come again.
    for _ in 0..100 {
        flood(&mut pair, &mut opened);
        pair.run_for(Duration::from_millis(20));
        let now = pair.now;
        let connection = pair.server.connection(server).unwrap();
        while let Some(id) = connection.accept(Dir::Bi) {
            let _ = connection.read(now, id, 100);
            let _ = connection.reset(id, 2);
        }
    }
    assert!(opened > 500, "{opened}");
}

/// Keys updated again before the last update was acknowledged (RFC 9001 section 6.2).
#[test]
fn key_update_abuse() {
    let (mut test, client, _) = established();
    test.pair.run_for(Duration::from_secs(2));
    // Two packets of one train: the server has no occasion to acknowledge the first one.
    test.edit(Level::OneRtt, |clear| clear.generation = 1);
    test.edit(Level::OneRtt, |clear| clear.generation = 2);
    let connection = test.pair.client.connection(client).unwrap();
    let id = connection.open(Dir::Bi).unwrap();
    connection.write(id, &mut Chunk::from_static(&[7; 2000])).unwrap();
    test.pair.run_for(Duration::from_millis(500));
    let closed = test.pair.server_events.iter().find(|(_, e)| matches!(e, Event::Closed(_)));
    assert!(format!("{closed:?}").contains("KEY_UPDATE_ERROR"), "{closed:?}");
}

/// A packet under the old keys after one under newer keys (RFC 9001 section 6.4).
#[test]
fn old_keys_after_newer_ones() {
    let (mut test, client, _) = established();
    test.pair.run_for(Duration::from_secs(2));
    // The second packet of the train is as the client, which knows of no update, made it.
    test.edit(Level::OneRtt, |clear| clear.generation = 1);
    let connection = test.pair.client.connection(client).unwrap();
    let id = connection.open(Dir::Bi).unwrap();
    connection.write(id, &mut Chunk::from_static(&[7; 2000])).unwrap();
    assert_eq!(test.server_error(), Code::KEY_UPDATE_ERROR);
}

/// Authentic packets of a handshake with another source ID are dropped (RFC 9000 section 7.2), and the handshake goes on with what is
/// sent again.
#[test]
fn a_source_id_that_changes_in_the_handshake() {
    for level in [Level::Initial, Level::Handshake] {
        let mut test = Tampered::new(&TransportConfig::default());
        // Of the client's first packets one is whole, so that the server knows the ID.
        if level == Level::Initial {
            test.edit(level, |_| {});
        }
        test.edit(level, |clear| clear.scid_change = 1);
        let (client, server) = test.pair.established();
        test.pair.run_for(Duration::from_secs(1));
        let stats = test.pair.server.peek(server).unwrap().stats();
        assert_eq!(stats.drops.unexpected, 1, "{level:?}: {:?}", stats.drops);
        let sent = test.pair.client.peek(client).unwrap().stats().packets_sent;
        assert_eq!(stats.packets_received + stats.packets_dropped, sent, "{level:?}: each packet is counted once");
    }
}

fn server_endpoint() -> (Endpoint, DatagramMeta, warpline_proto::Instant) {
    let pair = Pair::new(&TransportConfig::default());
    let meta = DatagramMeta { remote: pair.client_addr, local: None, ecn: None };
    (pair.server, meta, pair.now)
}

/// Two endpoints that know nothing of each other must not answer one another's resets for ever (RFC 9000 section 10.3.3).
#[test]
fn stateless_reset_loops() {
    let (mut one, meta, now) = server_endpoint();
    let (mut two, ..) = server_endpoint();
    let mut datagram = vec![0x41; 1_200];
    let mut exchanged = 0;
    let mut buf = vec![0; 2_048];
    loop {
        let endpoint = if exchanged % 2 == 0 { &mut one } else { &mut two };
        endpoint.handle_datagram(now, &meta, &mut Memory::from_vec(datagram.clone()));
        let Some(transmit) = endpoint.poll_transmit(now, &mut buf) else { break };
        assert!(transmit.len < datagram.len(), "a reset is shorter than what it answers");
        datagram = buf[..transmit.len].to_vec();
        exchanged += 1;
    }
    assert!((1..60).contains(&exchanged), "{exchanged}");
    // And there are not many of them in a second, nor of those that other endpoints are asked about.
    let mut resets = 0;
    for _ in 0..10_000 {
        one.handle_datagram(now, &meta, &mut Memory::from_vec(vec![0x42; 100]));
        resets += u32::from(one.poll_transmit(now, &mut buf).is_some());
    }
    assert!(resets <= limits::STATELESS_RESETS_PER_SECOND);
    let asked = std::iter::from_fn(|| one.poll_unclaimed_reset()).count();
    assert_eq!(asked, limits::UNCLAIMED_RESETS_PER_SECOND);
}

/// Initials from addresses that never answer: past half of the room for handshakes every address must be proved first, and
/// nothing is kept of who has not.
#[test]
fn initial_floods_from_spoofed_addresses() {
    let mut pair = Pair::new(&TransportConfig::default());
    let mut buf = vec![0; 65_536];
    let (mut received, mut sent) = (0, 0);
    for i in 0..limits::HALF_OPEN_MAX / 2 + 300 {
        let client = pair.connect();
        let spoofed = format!("198.51.{}.{}:{}", i / 250, i % 250 + 1, 1_000 + i).parse().unwrap();
        let meta = DatagramMeta { remote: spoofed, local: None, ecn: None };
        while let Some(transmit) = pair.client.poll_transmit(pair.now, &mut buf) {
            for datagram in buf[..transmit.len].chunks(transmit.segment_size) {
                received += datagram.len();
                pair.server.handle_datagram(pair.now, &meta, &mut Memory::from_vec(datagram.to_vec()));
            }
        }
        pair.client.connection(client).unwrap().close(pair.now, 0, b"");
        while let Some(transmit) = pair.server.poll_transmit(pair.now, &mut buf) {
            sent += transmit.len;
        }
        while pair.client.poll_transmit(pair.now, &mut buf).is_some() {}
    }
    assert_eq!(pair.server.len(), limits::HALF_OPEN_MAX / 2);
    assert!(pair.server.stats().retries >= 300);
    assert!(sent <= received * 3, "{sent} sent for {received} received");
    // They do not stay: after the idle timeout at the latest there is room again.
    pair.now += Duration::from_secs(60);
    pair.server.handle_timeout(pair.now);
    while pair.server.poll_event().is_some() {}
    while pair.server.poll_transmit(pair.now, &mut buf).is_some() {}
    assert!(pair.server.is_empty(), "{} are left", pair.server.len());
}

/// Garbage with the shape of an Initial costs no state.
#[test]
fn forged_initials_leave_nothing_behind() {
    let (mut server, meta, now) = server_endpoint();
    let mut buf = vec![0; 2_048];
    for i in 0..2_000u32 {
        let mut datagram = vec![0xc3, 0, 0, 0, 1, 8];
        datagram.extend_from_slice(&u64::from(i).to_be_bytes());
        datagram.extend_from_slice(&[0, 0, 0x44, 0x90]);
        datagram.resize(1_200, i as u8);
        server.handle_datagram(now, &meta, &mut Memory::from_vec(datagram));
        while server.poll_transmit(now, &mut buf).is_some() {}
    }
    assert_eq!((server.len(), server.stats().dropped_bad_initial), (0, 2_000));
}

/// The policy `Always` keeps no state at all before the address is proved.
#[test]
fn retry_always_keeps_nothing_for_unproved_addresses() {
    let transport = TransportConfig::default();
    let mut config = common::server_config(&transport);
    config.retry = RetryPolicy::Always;
    let mut pair = Pair::with_server(&transport, config);
    let mut buf = vec![0; 65_536];
    for _ in 0..100 {
        pair.connect();
    }
    while let Some(transmit) = pair.client.poll_transmit(pair.now, &mut buf) {
        let meta = DatagramMeta { remote: pair.client_addr, local: None, ecn: None };
        for datagram in buf[..transmit.len].chunks(transmit.segment_size) {
            pair.server.handle_datagram(pair.now, &meta, &mut Memory::from_vec(datagram.to_vec()));
        }
    }
    assert_eq!((pair.server.len(), pair.server.stats().accepted), (0, 0));
    assert!(pair.server.stats().retries >= 100);
}
