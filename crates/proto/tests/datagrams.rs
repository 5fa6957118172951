//! DATAGRAM frames (RFC 9221) from one end to the other.

mod common;

use std::time::Duration;

use common::Pair;
use warpline_frame::Chunk;
use warpline_proto::config::TransportConfig;

fn datagram(number: u8, len: usize) -> Chunk {
    Chunk::copy_from_slice(&vec![number; len])
}

#[test]
fn datagrams_of_one_length_leave_in_trains() {
    let mut pair = Pair::new(&TransportConfig::default());
    let (client, _) = pair.established();
    pair.run_for(Duration::from_secs(1));
    let connection = pair.client.connection(client).unwrap();
    for number in 0..8 {
        connection.send_datagram(datagram(number, 900)).unwrap();
    }
    let mut buf = vec![0; 65_536];
    let train = pair.client.poll_transmit(pair.now, &mut buf).unwrap();
    assert!(train.segment_size < 1_000, "one datagram fits a packet: {}", train.segment_size);
    assert_eq!(train.len.div_ceil(train.segment_size), 8, "all of them in one train");
}

#[test]
fn datagrams_of_any_lengths_arrive_in_order_and_none_is_taken_for_too_large() {
    let mut pair = Pair::new(&TransportConfig::default());
    let (client, server) = pair.established();
    pair.run_for(Duration::from_secs(1));
    let largest = pair.client.connection(client).unwrap().max_datagram_size().unwrap();
    let lengths = [700, largest, 20, largest, 700, 700, 1, largest, largest - 1, 0, 30, 700];
    for (number, len) in lengths.into_iter().enumerate() {
        pair.client.connection(client).unwrap().send_datagram(datagram(number as u8, len)).unwrap();
    }
    let mut arrived = Vec::new();
    pair.run_until(Duration::from_secs(5), |pair| {
        let server = pair.server.connection(server).unwrap();
        arrived.extend(std::iter::from_fn(|| server.recv_datagram()));
        arrived.len() == lengths.len()
    });
    let arrived: Vec<_> = arrived.iter().map(|d| (d.first().copied(), d.len())).collect();
    let sent: Vec<_> =
        lengths.into_iter().enumerate().map(|(number, len)| ((len > 0).then_some(number as u8), len)).collect();
    assert_eq!(arrived, sent);
}
