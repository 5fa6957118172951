//! The proxy alone, between two plain sockets.
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use warpline_interop::proxy::{Config, Proxy};

/// A bound on a broken test, not a measure.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing must come before a lossy exchange counts as over.
const SILENCE: Duration = Duration::from_millis(300);

struct Net {
    client: UdpSocket,
    server: UdpSocket,
    proxy: Proxy,
}

fn net(change: impl FnOnce(&mut Config)) -> io::Result<Net> {
    let (client, server) = (open()?, open()?);
    let mut config = Config::new(server.local_addr()?);
    change(&mut config);
    let proxy = Proxy::start(config)?;
    client.connect(proxy.address())?;
    Ok(Net { client, server, proxy })
}

fn open() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn receive(socket: &UdpSocket) -> io::Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 2_000];
    let (len, from) = socket.recv_from(&mut buffer)?;
    Ok((buffer[..len].to_vec(), from))
}

#[test]
fn datagrams_go_both_ways_in_order_and_whole() {
    let Net { client, server, proxy } = net(|_| {}).unwrap();
    for i in 0..100u8 {
        client.send(&vec![i; 1 + 14 * usize::from(i)]).unwrap();
    }
    for i in 0..100u8 {
        let (datagram, from) = receive(&server).unwrap();
        assert_eq!(datagram, vec![i; 1 + 14 * usize::from(i)]);
        assert_ne!(from, client.local_addr().unwrap(), "the server sees the proxy");
        server.send_to(&datagram, from).unwrap();
    }
    for i in 0..100u8 {
        assert_eq!(receive(&client).unwrap().0, vec![i; 1 + 14 * usize::from(i)]);
    }
    assert_eq!((proxy.stats().received, proxy.stats().delivered), (200, 200));
}

#[test]
fn clients_are_kept_apart() {
    let Net { client, server, proxy } = net(|config| config.delay = Duration::from_millis(5)).unwrap();
    let other = open().unwrap();
    other.connect(proxy.address()).unwrap();
    client.send(b"one").unwrap();
    other.send(b"two").unwrap();
    for _ in 0..2 {
        let (datagram, from) = receive(&server).unwrap();
        server.send_to(&datagram, from).unwrap();
    }
    assert_eq!(receive(&client).unwrap().0, b"one");
    assert_eq!(receive(&other).unwrap().0, b"two");
}

#[test]
fn the_share_asked_for_is_lost_and_some_come_twice() {
    let Net { client, server, proxy } = net(|config| {
        config.loss_up = 0.2;
        config.duplicate = 0.1;
        config.seed = 5;
    })
    .unwrap();
    server.set_read_timeout(Some(SILENCE)).unwrap();
    let mut got = 0;
    for _ in 0..20 {
        for _ in 0..50 {
            client.send(&[0; 100]).unwrap();
        }
        while receive(&server).is_ok() {
            got += 1;
        }
    }
    let stats = proxy.stats();
    assert_eq!((stats.received, stats.delivered), (1_000, got));
    assert!((150..250).contains(&stats.dropped), "{stats:?}");
    let twice = stats.delivered + stats.dropped - stats.received;
    assert!((40..130).contains(&twice), "{stats:?}");
}

#[test]
fn a_rebinding_changes_the_address_that_the_server_sees() {
    let Net { client, server, proxy: _proxy } =
        net(|config| config.rebind_after = Some(Duration::from_millis(50))).unwrap();
    client.send(b"before").unwrap();
    let (_, before) = receive(&server).unwrap();
    std::thread::sleep(Duration::from_millis(60));
    // The first datagram after the time may still be under way on the old socket.
    let after = (0..100).find_map(|_| {
        client.send(b"after").unwrap();
        let (_, from) = receive(&server).unwrap();
        (from != before).then_some(from)
    });
    let after = after.expect("the address never changed");
    server.send_to(b"answer", after).unwrap();
    assert_eq!(receive(&client).unwrap().0, b"answer");
}

#[test]
fn too_large_packets_are_dropped() {
    let Net { client, server, proxy: _proxy } = net(|config| config.mtu = Some(1_228)).unwrap();
    client.send(&[1; 1_201]).unwrap();
    client.send(&[2; 1_200]).unwrap();
    assert_eq!(receive(&server).unwrap().0, [2; 1_200]);
}
