//! When a connection that has nothing to do is visited to give back memory.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod common;

use std::time::Duration;

use common::Pair;
use warpline_frame::Chunk;
use warpline_proto::config::TransportConfig;
use warpline_proto::{ConnectionHandle, Dir};

/// Beyond every deadline but those for rest and of the idle timeout.
const PAUSE: Duration = Duration::from_secs(3);

/// After which a connection rests that has worked.
const REST: Duration = Duration::from_secs(10);

/// Two ends whose handshake is long over, which have rested.
fn rested() -> (Pair, ConnectionHandle, ConnectionHandle) {
    let idle = Some(Duration::from_secs(3_600));
    let mut pair = Pair::new(&TransportConfig { max_idle_timeout: idle, ..TransportConfig::default() });
    let (client, server) = pair.established();
    pair.run_for(Duration::from_secs(25));
    (pair, client, server)
}

/// How long the server's connection has nothing to do.
fn quiet(pair: &Pair) -> Duration {
    pair.server.next_timeout().unwrap() - pair.now
}

#[test]
fn a_message_now_and_then_is_no_work_to_rest_from() {
    let (mut pair, client, server) = rested();
    for _ in 0..20 {
        let connection = pair.client.connection(client).unwrap();
        connection.send_datagram(Chunk::from_static(b"a message")).unwrap();
        pair.run_until(PAUSE, |pair| {
            let server = pair.server.connection(server).unwrap();
            server.recv_datagram().is_some_and(|message| server.send_datagram(message).is_ok())
        });
        pair.run_for(PAUSE);
        assert!(pair.client.connection(client).unwrap().recv_datagram().is_some());
        assert!(quiet(&pair) > REST, "visited after {:?}", quiet(&pair));
    }
}

#[test]
fn what_a_burst_of_messages_and_a_stream_leave_behind_is_given_back() {
    let burst: fn(&mut Pair, ConnectionHandle) = |pair, server| {
        let connection = pair.server.connection(server).unwrap();
        (0..8).for_each(|_| connection.send_datagram(Chunk::from_static(b"one of many")).unwrap());
    };
    let stream: fn(&mut Pair, ConnectionHandle) = |pair, server| {
        let connection = pair.server.connection(server).unwrap();
        let id = connection.open(Dir::Uni).unwrap();
        connection.write(id, &mut Chunk::from_static(b"few bytes")).unwrap();
        connection.finish(id).unwrap();
    };
    for work in [burst, stream] {
        let (mut pair, _, server) = rested();
        assert!(quiet(&pair) > REST);
        work(&mut pair, server);
        pair.run_for(PAUSE);
        assert!(quiet(&pair) < REST, "it rests {REST:?} after its work");
        pair.run_for(2 * REST);
        assert!(quiet(&pair) > REST, "once");
    }
}
