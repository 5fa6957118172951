//! The network in memory: order, bounds, and ports that come and go.

mod common;

use std::net::SocketAddr;

use common::{addr, collect, train, train_with};
use warpline_pktio::memory::Hub;
use warpline_pktio::{Ecn, IoKind, TxMeta, limits};

fn port(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

#[test]
fn trains_arrive_as_they_were_sent() {
    let hub = Hub::new();
    let (mut a, mut b) = (hub.attach(port(1)).unwrap(), hub.attach(port(2)).unwrap());
    assert_eq!((a.kind(), a.local_addr()), (IoKind::Memory, port(1)));
    let local = Some([10, 9, 9, 9].into());
    train_with(&mut a, TxMeta { remote: port(2), local, ecn: Some(Ecn::Ce), segment_size: 1000, len: 2500 }, 1);
    train(&mut a, port(2), 10, 10, 9);
    a.flush().unwrap();
    let mut batch = Vec::new();
    assert_eq!(b.recv(&mut batch).unwrap(), 2);
    assert_eq!((batch[0].count(), batch[0].ecn, batch[0].remote), (3, Some(Ecn::Ce), addr("10.9.9.9:1")));
    assert_eq!((batch[1].count(), batch[1].local), (1, Some(port(2).ip())));
}

#[test]
fn an_address_is_taken_until_its_port_is_dropped() {
    let hub = Hub::new();
    let first = hub.attach(port(1)).unwrap();
    assert_eq!(hub.attach(port(1)).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    drop(first);
    assert!(hub.attach(port(1)).is_ok());
}

#[test]
fn datagrams_to_nobody_are_counted() {
    let mut io = Hub::new().attach(port(1)).unwrap();
    train(&mut io, port(2), 3000, 1000, 0);
    io.flush().unwrap();
    assert_eq!(io.stats().snapshot().drop_tx_refused, 3);
}

#[test]
fn a_queue_is_bounded() {
    let hub = Hub::new();
    let (mut a, mut b) = (hub.attach(port(1)).unwrap(), hub.attach(port(2)).unwrap());
    for _ in 0..limits::MEMORY_QUEUE_MAX / 64 + 5 {
        train(&mut a, port(2), 64 * 10, 10, 0);
    }
    a.flush().unwrap();
    collect(&mut b, limits::MEMORY_QUEUE_MAX);
    train(&mut a, port(2), 10, 10, 0);
    a.flush().unwrap();
    collect(&mut b, 1);
}
