//! Windows of streams and of the connection, seen from both ends (RFC 9000 section 4).

mod common;

use std::time::Duration;

use common::{Pair, Transfer};
use warpline_frame::Chunk;
use warpline_proto::config::TransportConfig;
use warpline_proto::{Dir, WriteError};

/// A stream that was read fast, so that its window grew, and then not at all, must leave credit to its neighbours.
#[test]
fn a_stalled_stream_does_not_starve_a_second_one() {
    let windows = TransportConfig {
        stream_window: 64_000,
        stream_window_max: 32 << 20,
        connection_window: 96_000,
        connection_window_max: 384_000,
        keep_alive: Some(Duration::from_secs(1)),
        ..TransportConfig::default()
    };
    let mut pair = Pair::new(&windows);
    let (client, server) = pair.established();
    let stalled = pair.client.connection(client).unwrap().open(Dir::Uni).unwrap();
    let fill = move |p: &mut Pair| {
        let sender = p.client.connection(client).unwrap();
        loop {
            match sender.write(stalled, &mut Chunk::from(vec![7; 50_000])) {
                Ok(_) => {}
                Err(WriteError::Blocked) => break,
                Err(e) => panic!("{e}"),
            }
        }
    };
    let mut read = 0;
    pair.run_until(Duration::from_secs(60), |p| {
        fill(p);
        let now = p.now;
        let receiver = p.server.connection(server).unwrap();
        while let Ok(Some(chunk)) = receiver.read(now, stalled, 1 << 20) {
            read += chunk.len();
        }
        read > 10_000_000
    });
    // From here on nobody reads it, and its sender goes on for as long as it may.
    for _ in 0..200 {
        fill(&mut pair);
        pair.run_for(Duration::from_millis(10));
    }
    let mut second = Transfer::open(&mut pair.client, client, 2_000_000);
    pair.run_until(Duration::from_secs(60), |p| {
        second.pump(p.now, (&mut p.client, client), (&mut p.server, server));
        second.done
    });
}

/// A configuration that gives one stream the whole connection is held to the same share.
#[test]
fn even_the_first_window_of_a_stream_leaves_a_third_to_the_others() {
    let greedy = TransportConfig {
        stream_window: 90_000,
        stream_window_max: 90_000,
        connection_window: 90_000,
        connection_window_max: 90_000,
        keep_alive: Some(Duration::from_secs(1)),
        ..TransportConfig::default()
    };
    let mut pair = Pair::new(&greedy);
    let (client, server) = pair.established();
    let unread = pair.client.connection(client).unwrap().open(Dir::Uni).unwrap();
    let sender = pair.client.connection(client).unwrap();
    assert_eq!(sender.write(unread, &mut Chunk::from(vec![7; 200_000])), Ok(200_000));
    pair.run_for(Duration::from_secs(2));
    let mut second = Transfer::open(&mut pair.client, client, 500_000);
    pair.run_until(Duration::from_secs(60), |p| {
        second.pump(p.now, (&mut p.client, client), (&mut p.server, server));
        second.done
    });
}
