//! More than can be served: strangers suffer first, those who are there keep everything, and nobody takes all.
#![expect(clippy::unwrap_used, reason = "the stories are told by tests")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{Pair, Transfer, server_config};
use warpline_frame::{Chunk, Frame};
use warpline_proto::config::{EndpointConfig, RetryPolicy, TransportConfig};
use warpline_proto::{DatagramMeta, Dir, Endpoint, Pressure};

/// First packets of `count` new connections from `source`, each from a port of its own; nobody reads the answers. Returns how many
/// there are.
fn knock(pair: &mut Pair, source: &str, count: usize) -> usize {
    let (mut buf, mut answers) = (vec![0; 65_536], Vec::new());
    for n in 0..count {
        // An endpoint of its own, which is never heard of again.
        let config = Arc::new(EndpointConfig::new(&[9; 32]));
        let mut seed = [n as u8; 32];
        seed[1..=source.len()].copy_from_slice(source.as_bytes());
        let mut client = Endpoint::new(config, None, seed);
        client.connect(pair.now, &pair.client_config, pair.server_addr, "localhost").unwrap();
        let remote = SocketAddr::new(source.parse().unwrap(), 1_000 + n as u16);
        let meta = DatagramMeta { remote, local: None, ecn: None };
        let transmit = client.poll_transmit(pair.now, &mut buf).unwrap();
        let first = buf[..transmit.segment_size.min(transmit.len)].to_vec();
        pair.server.handle_datagram(pair.now, &meta, &mut Frame::from_vec(first));
        answers.extend(std::iter::from_fn(|| pair.server.poll_transmit(pair.now, &mut buf)).map(|t| t.remote));
    }
    answers.retain(|to| to.ip() != pair.client_addr.ip());
    answers.len()
}

fn limited(limit: usize) -> Pair {
    let mut config = server_config(&TransportConfig::default());
    config.half_open_per_source = limit;
    Pair::with_server(&TransportConfig::default(), config)
}

#[test]
fn a_source_with_many_handshakes_must_prove_its_addresses_and_others_need_not() {
    let mut pair = limited(20);
    knock(&mut pair, "198.51.100.1", 60);
    assert_eq!((pair.server.stats().accepted, pair.server.stats().retries), (10, 50));
    // Ports do not make another source, nor do addresses of one IPv6 network.
    knock(&mut pair, "2001:db8::1", 6);
    knock(&mut pair, "2001:db8::2", 6);
    assert_eq!((pair.server.stats().accepted, pair.server.stats().retries), (20, 52));
    knock(&mut pair, "2001:db8:0:1::1", 10);
    assert_eq!((pair.server.stats().accepted, pair.server.stats().retries), (30, 52));
    // The greedy source's neighbours are served as ever.
    let (client, server) = pair.established();
    let mut transfer = Transfer::open(&mut pair.client, client, 100_000);
    pair.run_until(Duration::from_secs(60), |p| {
        transfer.pump(p.now, (&mut p.client, client), (&mut p.server, server));
        transfer.done
    });
}

#[test]
fn a_source_beyond_its_limit_gets_nothing_until_handshakes_end() {
    let mut config = server_config(&TransportConfig::default());
    config.half_open_per_source = 20;
    config.retry = RetryPolicy::Never;
    let mut pair = Pair::with_server(&TransportConfig::default(), config);
    knock(&mut pair, "198.51.100.1", 60);
    let stats = *pair.server.stats();
    assert_eq!((stats.accepted, stats.dropped_source_limit, stats.retries), (20, 40, 0));
    assert_eq!(pair.server.half_open(), 20);
    // Those that are never answered go away, and there is room again.
    pair.run_for(Duration::from_secs(60));
    assert_eq!(pair.server.half_open(), 0);
    knock(&mut pair, "198.51.100.1", 5);
    assert_eq!(pair.server.stats().accepted, 25);
}

#[test]
fn under_pressure_strangers_are_dropped_and_connections_stay_whole() {
    let mut pair = Pair::new(&TransportConfig::default());
    let (client, server) = pair.established();
    let mut transfer = Transfer::open(&mut pair.client, client, 2_000_000);
    pair.server.set_pressure(Pressure::Shed);
    let accepted = pair.server.stats().accepted;
    let lost = pair.client.peek(client).unwrap().stats().packets_lost;
    let mut steps = 0;
    pair.run_until(Duration::from_secs(60), |p| {
        steps += 1;
        if steps % 10 == 0 {
            knock(p, "198.51.100.1", 1);
        }
        transfer.pump(p.now, (&mut p.client, client), (&mut p.server, server));
        transfer.done
    });
    assert_eq!(pair.server.stats().accepted, accepted);
    assert!(pair.server.stats().dropped_overload > 5);
    assert_eq!(pair.client.peek(client).unwrap().stats().packets_lost, lost, "nothing of the connection was dropped");
    // A little less pressure, and clients are served that prove their address.
    pair.server.set_pressure(Pressure::Validate);
    let retries = pair.server.stats().retries;
    pair.tidy();
    pair.established();
    let asked = pair.server.stats().retries;
    assert!(asked > retries && pair.server.stats().accepted == accepted + 1);
    pair.server.set_pressure(Pressure::None);
    pair.tidy();
    pair.established();
    assert_eq!(pair.server.stats().retries, asked);
}

#[test]
fn a_greedy_connection_takes_turns_with_the_others_train_by_train() {
    let mut pair = Pair::new(&TransportConfig::default());
    let greedy = pair.established().0;
    let modest: Vec<_> = (0..5).map(|_| pair.established().0).collect();
    // The path of the greedy one is known to be fast, so that it may send many trains at once.
    let server = pair.server.handles()[0];
    let mut transfer = Transfer::open(&mut pair.client, greedy, 20_000_000);
    for _ in 0..400 {
        transfer.pump(pair.now, (&mut pair.client, greedy), (&mut pair.server, server));
        pair.step();
    }
    let now = pair.now;
    transfer.pump(now, (&mut pair.client, greedy), (&mut pair.server, server));
    for (n, handle) in modest.iter().enumerate() {
        let connection = pair.client.connection(*handle).unwrap();
        let stream = connection.open(Dir::Uni).unwrap();
        connection.write(stream, &mut Chunk::from(vec![n as u8; 100])).unwrap();
    }
    let mut buf = vec![0; 65_536];
    let mut trains = 0;
    let sent = |pair: &Pair| modest.iter().map(|h| pair.client.peek(*h).unwrap().stats().packets_sent).sum::<u64>();
    let before = sent(&pair);
    while sent(&pair) < before + 5 {
        assert!(pair.client.poll_transmit(now, &mut buf).is_some(), "all five have something to send");
        trains += 1;
    }
    assert!(trains <= 2 * (modest.len() + 1), "{trains} trains until five others had theirs");
}
