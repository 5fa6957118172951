//! Streams that are given up behind a part that still arrives (draft-ietf-quic-reliable-stream-reset).

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod common;

use std::time::Duration;

use common::{Pair, pattern};
use warpline_frame::Chunk;
use warpline_proto::config::TransportConfig;
use warpline_proto::{ConnectionHandle, Dir, Event, Instant, ReadError, ResetAtError, StreamId, WriteError};

fn write(p: &mut Pair, client: ConnectionHandle, id: StreamId, from: u64, to: u64) -> usize {
    let bytes: Vec<u8> = (from..to).map(pattern).collect();
    p.client.connection(client).unwrap().write(id, &mut Chunk::from(bytes)).unwrap()
}

/// What the server reads of the stream until it blocks or is over: bytes, and the code of a reset.
fn read(p: &mut Pair, server: ConnectionHandle, id: StreamId, got: &mut u64) -> Option<u64> {
    let now: Instant = p.now;
    let receiver = p.server.connection(server).unwrap();
    loop {
        match receiver.read(now, id, 1_000) {
            Ok(Some(chunk)) => {
                assert!(chunk.iter().zip(*got..).all(|(b, i)| *b == pattern(i)));
                *got += chunk.len() as u64;
            }
            Ok(None) => panic!("a stream that was given up has no clean end"),
            Err(ReadError::Reset(code)) => return Some(code),
            Err(ReadError::Blocked | ReadError::ClosedStream) => return None,
        }
    }
}

#[test]
fn the_kept_part_arrives_and_then_the_reset_whatever_is_lost() {
    for lost in 0..30u64 {
        let mut pair = Pair::new(&TransportConfig::default());
        let (client, server) = pair.established();
        pair.filter = Box::new(move |n, _, _| n % 30 != lost);
        let id = pair.client.connection(client).unwrap().open(Dir::Uni).unwrap();
        assert_eq!(write(&mut pair, client, id, 0, 200_000), 200_000);
        // A part is under way when the stream is given up.
        pair.run_for(Duration::from_millis(15));
        pair.client.connection(client).unwrap().reset_at(id, 42, 150_000).unwrap();
        let sender = pair.client.connection(client).unwrap();
        assert_eq!(sender.write(id, &mut Chunk::from_static(b"more")), Err(WriteError::ClosedStream));
        assert_eq!(sender.reset_at(id, 42, 1), Err(ResetAtError::ClosedStream));
        let (mut got, mut code) = (0, None);
        pair.run_until(Duration::from_secs(60), |p| {
            code = code.or_else(|| read(p, server, id, &mut got));
            code.is_some() && p.client_events.iter().any(|(_, e)| *e == Event::Finished(id))
        });
        assert_eq!((got, code), (150_000, Some(42)));
    }
}

#[test]
fn nothing_need_be_kept() {
    let mut pair = Pair::new(&TransportConfig::default());
    let (client, server) = pair.established();
    let id = pair.client.connection(client).unwrap().open(Dir::Uni).unwrap();
    write(&mut pair, client, id, 0, 50_000);
    pair.client.connection(client).unwrap().reset_at(id, 7, 0).unwrap();
    let (mut got, mut code) = (0, None);
    pair.run_until(Duration::from_secs(60), |p| {
        code = code.or_else(|| read(p, server, id, &mut got));
        code.is_some()
    });
    assert_eq!((got, code), (0, Some(7)));
}

/// A RESET_STREAM may follow and takes back the promise; the code stays that of the first reset.
#[test]
fn a_plain_reset_may_follow_and_keeps_the_code() {
    let small = TransportConfig { stream_window: 10_000, stream_window_max: 10_000, ..TransportConfig::default() };
    let mut pair = Pair::new(&small);
    let (client, server) = pair.established();
    let id = pair.client.connection(client).unwrap().open(Dir::Uni).unwrap();
    write(&mut pair, client, id, 0, 50_000);
    pair.client.connection(client).unwrap().reset_at(id, 7, 40_000).unwrap();
    pair.run_for(Duration::from_millis(200));
    pair.client.connection(client).unwrap().reset(id, 8).unwrap();
    let (mut got, mut code) = (0, None);
    // Nothing was read before: the reset takes all of it.
    pair.run_for(Duration::from_millis(200));
    pair.run_until(Duration::from_secs(60), |p| {
        code = code.or_else(|| read(p, server, id, &mut got));
        code.is_some()
    });
    assert_eq!((got, code), (0, Some(7)));
}

/// Credit of what is not delivered comes back: a thousand streams given up do not use up the connection's window.
#[test]
fn what_is_not_delivered_gives_its_credit_back() {
    let small = TransportConfig {
        stream_window: 40_000,
        stream_window_max: 40_000,
        connection_window: 60_000,
        connection_window_max: 60_000,
        ..TransportConfig::default()
    };
    let mut pair = Pair::new(&small);
    let (client, server) = pair.established();
    for round in 0..200 {
        let id = pair.client.connection(client).unwrap().open(Dir::Uni).unwrap();
        write(&mut pair, client, id, 0, 30_000);
        pair.run_for(Duration::from_millis(25));
        pair.client.connection(client).unwrap().reset_at(id, round, 5_000).unwrap();
        let (mut got, mut code) = (0, None);
        pair.run_until(Duration::from_secs(10), |p| {
            while p.server.connection(server).unwrap().accept(Dir::Uni).is_some() {}
            code = code.or_else(|| read(p, server, id, &mut got));
            code.is_some()
        });
        assert!(got >= 5_000, "{got}");
    }
}

#[test]
fn a_peer_that_does_not_understand_it_is_not_sent_it() {
    let mut plain = TransportConfig::default();
    plain.extensions.reset_stream_at = false;
    let mut pair = Pair::new(&plain);
    let (client, _) = pair.established();
    let connection = pair.client.connection(client).unwrap();
    let id = connection.open(Dir::Uni).unwrap();
    assert_eq!(connection.reset_at(id, 7, 0), Err(ResetAtError::Unsupported));
}
