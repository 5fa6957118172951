//! Early data: 0-RTT in both roles, accepted, rejected, lost, replayed.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use common::{ALPN, Pair, pattern, server_config};
use warpline_frame::{Chunk, Frame};
use warpline_proto::config::{EndpointConfig, RetryPolicy, ServerConfig, TransportConfig};
use warpline_proto::{
    ConnectionError, ConnectionHandle, DatagramMeta, Dir, EarlyData, Endpoint, Event, ReadError, StreamId, Version,
};

fn early_server(transport: &TransportConfig) -> ServerConfig {
    server_config(transport).early_data(true).unwrap()
}

/// A pair whose client has been there before.
fn acquainted(server: ServerConfig) -> Pair {
    let mut pair = Pair::with_server(&TransportConfig::default(), server);
    pair.client_config.early_data = true;
    pair.visit();
    pair
}

/// Connects and writes `len` bytes of pattern at once, with the end of the stream.
fn send_early(pair: &mut Pair, len: u64) -> (ConnectionHandle, StreamId) {
    let handle = pair.connect();
    let connection = pair.client.connection(handle).unwrap();
    assert_eq!(connection.early_data(), EarlyData::Offered);
    assert!(connection.is_handshaking());
    let id = connection.open(Dir::Bi).expect("the remembered limits allow streams");
    let mut data = Chunk::from((0..len).map(pattern).collect::<Vec<u8>>());
    assert_eq!(connection.write(id, &mut data).unwrap() as u64, len);
    connection.finish(id).unwrap();
    (handle, id)
}

/// Reads the stream to its end on the server; returns whether the handshake was still going on at the first byte.
fn receive(pair: &mut Pair, id: StreamId, len: u64) -> (ConnectionHandle, bool) {
    let (mut read, mut before, mut handle) = (0, None, None);
    pair.run_until(Duration::from_secs(60), |p| {
        let news = p.server_events.iter().find(|(_, e)| matches!(e, Event::EarlyData | Event::Connected));
        let Some((server, _)) = news.copied_handle() else { return false };
        handle = Some(server);
        let now = p.now;
        let connection = p.server.connection(server).unwrap();
        while connection.accept(Dir::Bi).is_some() {}
        loop {
            match connection.read(now, id, 1 << 20) {
                Ok(Some(chunk)) => {
                    before.get_or_insert(connection.is_handshaking());
                    assert!(chunk.iter().zip(read..).all(|(b, i)| *b == pattern(i)), "wrong bytes at {read}");
                    read += chunk.len() as u64;
                }
                Ok(None) => return true,
                Err(ReadError::Blocked | ReadError::ClosedStream) => return false,
                Err(e) => panic!("read: {e}"),
            }
        }
    });
    assert_eq!(read, len);
    (handle.unwrap(), before.unwrap())
}

trait CopiedHandle {
    fn copied_handle(self) -> Option<(ConnectionHandle, ())>;
}

impl CopiedHandle for Option<&(ConnectionHandle, Event)> {
    fn copied_handle(self) -> Option<(ConnectionHandle, ())> {
        self.map(|(handle, _)| (*handle, ()))
    }
}

fn finish_handshake(pair: &mut Pair, client: ConnectionHandle) -> EarlyData {
    pair.run_until(Duration::from_secs(60), |p| !p.client.peek(client).unwrap().is_handshaking());
    pair.client.peek(client).unwrap().early_data()
}

#[test]
fn data_arrives_with_the_first_flight_and_the_answer_before_the_handshake_ends() {
    let mut pair = acquainted(early_server(&TransportConfig::default()));
    let began = pair.now;
    let (client, id) = send_early(&mut pair, 5_000);
    let (server, before) = receive(&mut pair, id, 5_000);
    assert!(before, "read before the handshake was complete");
    // A step ends at the next moment at which something happens: here the server's answer, after one way there and back.
    assert_eq!(pair.now - began, Duration::from_millis(20), "read when the first flight arrived");
    let connection = pair.server.connection(server).unwrap();
    assert!(connection.is_early(id) && connection.early_data() == EarlyData::Accepted);
    // The answer goes at once, under 1-RTT keys.
    connection.write(id, &mut Chunk::from(b"answer".to_vec())).unwrap();
    connection.finish(id).unwrap();
    let mut answer = None;
    pair.run_until(Duration::from_secs(5), |p| {
        let now = p.now;
        answer = p.client.connection(client).unwrap().read(now, id, 100).ok().flatten();
        answer.is_some()
    });
    assert_eq!(answer.as_deref(), Some(&b"answer"[..]));
    assert!(pair.now - began <= Duration::from_millis(31), "{:?}", pair.now - began);
    assert_eq!(finish_handshake(&mut pair, client), EarlyData::Accepted);
    let lost = pair.client.peek(client).unwrap().stats().packets_lost;
    pair.run_for(Duration::from_secs(1));
    assert_eq!(
        (lost, pair.client.peek(client).unwrap().stats().packets_lost),
        (0, 0),
        "0-RTT packets are acknowledged"
    );
    assert!(pair.client_events.contains(&(client, Event::Finished(id))));
}

#[test]
fn streams_that_begin_later_are_not_early() {
    let mut pair = acquainted(early_server(&TransportConfig::default()));
    let (client, id) = send_early(&mut pair, 100);
    let (server, _) = receive(&mut pair, id, 100);
    finish_handshake(&mut pair, client);
    let connection = pair.client.connection(client).unwrap();
    let later = connection.open(Dir::Bi).unwrap();
    connection.write(later, &mut Chunk::from(vec![1; 10])).unwrap();
    pair.run_for(Duration::from_millis(100));
    let connection = pair.server.connection(server).unwrap();
    assert_eq!(connection.accept(Dir::Bi), Some(later));
    assert!(!connection.is_early(later));
}

#[test]
fn early_data_survives_loss_reordering_and_retry() {
    for seed in 1..40u64 {
        let mut server = early_server(&TransportConfig::default());
        server.retry = if seed % 3 == 0 { RetryPolicy::Always } else { RetryPolicy::Never };
        // A token would spare the Retry.
        server.new_tokens = 0;
        let mut pair = acquainted(server);
        let mut state = seed;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let mut random_loss = random;
        pair.filter = Box::new(move |_, _, _| random_loss() % 100 >= 10);
        pair.jitter = Box::new(move |_, _| Duration::from_micros(random() % 15_000));
        let (client, id) = send_early(&mut pair, 30_000);
        receive(&mut pair, id, 30_000);
        finish_handshake(&mut pair, client);
    }
}

/// The whole first flight in any order: 0-RTT packets may come before the ClientHello, or between its parts.
#[test]
fn packets_that_overtake_the_client_hello_wait_for_it() {
    for first in 1..=4u64 {
        let mut pair = acquainted(early_server(&TransportConfig::default()));
        let base = pair.count;
        // From the last datagram to the first, and each one in front.
        pair.jitter = Box::new(move |n, to_server| {
            let n = n - base;
            if !to_server || n > 6 {
                return Duration::ZERO;
            }
            Duration::from_micros(if n == first { 0 } else { (7 - n) * 100 })
        });
        let (client, id) = send_early(&mut pair, 5_000);
        let (server, before) = receive(&mut pair, id, 5_000);
        assert!(before && pair.server.peek(server).unwrap().is_early(id));
        assert_eq!(finish_handshake(&mut pair, client), EarlyData::Accepted);
        pair.run_for(Duration::from_millis(100));
        assert_eq!(pair.client.peek(client).unwrap().stats().retransmitted_bytes, 0, "nothing had to be sent twice");
    }
}

#[test]
fn a_server_that_forgot_rejects_and_the_data_goes_again_by_itself() {
    let server = early_server(&TransportConfig::default());
    let mut pair = acquainted(server.clone());
    // The same certificate, but none of the sessions.
    let forgetful = server.keep_sessions(100);
    pair.server = Endpoint::new(Arc::new(EndpointConfig::new(&[5; 32])), Some(Arc::new(forgetful)), [9; 32]);
    let (client, id) = send_early(&mut pair, 100_000);
    let (server, before) = receive(&mut pair, id, 100_000);
    assert!(!before && !pair.server.peek(server).unwrap().is_early(id));
    assert_eq!(finish_handshake(&mut pair, client), EarlyData::Rejected);
    pair.run_for(Duration::from_secs(1));
    assert!(pair.client_events.contains(&(client, Event::Finished(id))));
}

#[test]
fn a_server_without_early_data_rejects() {
    let mut pair = acquainted(early_server(&TransportConfig::default()));
    let plain = server_config(&TransportConfig::default());
    pair.server = Endpoint::new(Arc::new(EndpointConfig::new(&[5; 32])), Some(Arc::new(plain)), [9; 32]);
    let (client, id) = send_early(&mut pair, 10_000);
    receive(&mut pair, id, 10_000);
    assert_eq!(finish_handshake(&mut pair, client), EarlyData::Rejected);
}

#[test]
fn a_client_that_never_was_there_has_nothing_to_offer() {
    let mut pair = Pair::with_server(&TransportConfig::default(), early_server(&TransportConfig::default()));
    pair.client_config.early_data = true;
    let client = pair.connect();
    let connection = pair.client.connection(client).unwrap();
    assert_eq!((connection.early_data(), connection.open(Dir::Bi)), (EarlyData::None, None));
    assert_eq!(finish_handshake(&mut pair, client), EarlyData::None);
}

/// Limits that were lowered since: a server's session does not resume, and with another session store the client starts over
/// within the new limits.
#[test]
fn lowered_limits_are_never_exceeded() {
    let small =
        TransportConfig { connection_window: 20_000, connection_window_max: 20_000, ..TransportConfig::default() };
    let server = early_server(&TransportConfig::default());
    let mut pair = acquainted(server.clone());
    let lowered = server.transport(small).unwrap();
    pair.server = Endpoint::new(Arc::new(EndpointConfig::new(&[5; 32])), Some(Arc::new(lowered)), [9; 32]);
    let (client, id) = send_early(&mut pair, 100_000);
    receive(&mut pair, id, 100_000);
    assert_eq!(finish_handshake(&mut pair, client), EarlyData::Rejected);
}

#[test]
fn streams_beyond_a_lowered_limit_end_the_connection_with_a_reason() {
    let none = TransportConfig { max_concurrent_bidi: 0, ..TransportConfig::default() };
    let server = early_server(&TransportConfig::default());
    let mut pair = acquainted(server.clone());
    let lowered = server.transport(none).unwrap();
    pair.server = Endpoint::new(Arc::new(EndpointConfig::new(&[5; 32])), Some(Arc::new(lowered)), [9; 32]);
    let (client, _) = send_early(&mut pair, 1_000);
    let closed = (client, Event::Closed(ConnectionError::EarlyDataRejected));
    pair.run_until(Duration::from_secs(10), |p| p.client_events.contains(&closed));
}

/// An attacker plays a recorded first flight again: the session was used, so that nothing of it reaches the application.
#[test]
fn a_replayed_first_flight_brings_no_early_data() {
    let mut pair = acquainted(early_server(&TransportConfig::default()));
    let recorded = Rc::new(RefCell::new(Vec::new()));
    let record = recorded.clone();
    pair.filter = Box::new(move |_, to_server, bytes| {
        if to_server {
            record.borrow_mut().push(bytes.clone());
        }
        true
    });
    let (client, id) = send_early(&mut pair, 2_000);
    assert!(pair.step());
    let first_flight = recorded.borrow().clone();
    assert!(first_flight.len() >= 2);
    receive(&mut pair, id, 2_000);
    assert_eq!(finish_handshake(&mut pair, client), EarlyData::Accepted);
    let now = pair.now;
    pair.client.connection(client).unwrap().close(now, 0, b"");
    pair.run_for(Duration::from_secs(10));
    pair.server_events.clear();

    let meta = DatagramMeta { remote: "203.0.113.66:666".parse().unwrap(), local: None, ecn: None };
    for bytes in first_flight {
        pair.server.handle_datagram(pair.now, &meta, &mut Frame::from_vec(bytes));
    }
    let events: Vec<_> = std::iter::from_fn(|| pair.server.poll_event()).map(|(_, e)| e).collect();
    assert_eq!(events, [Event::Accepting], "a handshake that will never end, and no data");
}

#[test]
fn early_data_works_in_version_2_and_stays_in_the_version_it_began_with() {
    let mut pair = Pair::with_server(&TransportConfig::default(), early_server(&TransportConfig::default()));
    pair.client_config.early_data = true;
    pair.client_speaks(&[Version::V2, Version::V1]);
    pair.visit();
    let (client, id) = send_early(&mut pair, 3_000);
    receive(&mut pair, id, 3_000);
    assert_eq!(finish_handshake(&mut pair, client), EarlyData::Accepted);
    assert_eq!(pair.client.peek(client).unwrap().version(), Version::V2);
    assert_eq!(pair.client.peek(client).unwrap().alpn(), Some(ALPN));
}

#[test]
fn sealed_tickets_and_early_data_exclude_each_other() {
    let keys = warpline_proto::FleetKeys::new(&[1; 32]);
    let server = server_config(&TransportConfig::default());
    assert!(server.clone().early_data(true).unwrap().fleet_tickets(&keys).is_err());
    assert!(server.fleet_tickets(&keys).unwrap().early_data(true).is_err());
}
