//! AF_XDP ends of a pair of namespaces.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::SocketAddr;
use std::time::Duration;

use warpline_pktio::udp::Steering;
use warpline_pktio::xdp::{InterfaceName, Xdp, XdpConfig, XdpModes};
use warpline_pktio::{Backend, Io, IoConfig, TxMeta};

use crate::common::{LOOKS, Seen, addr, config, datagrams, train, train_with};
use crate::netns::Pair;

pub const STEERING: Steering = Steering { key_offset: 6, slots: 1021 };

/// A backend of one worker in a namespace.
pub fn xdp(pair: &Pair, end: usize, bind: &str, modes: XdpModes) -> Io {
    let (interface, bind) = (pair.interface(end), addr(bind));
    pair.inside(end, move || {
        let xdp = XdpConfig { modes, ..XdpConfig::new(InterfaceName::new(&interface).expect("a short name")) };
        let mut group = Io::xdp_group(bind, 1, &config(), xdp, &STEERING).expect("AF_XDP on veth");
        group.pop().expect("one worker")
    })
}

pub fn udp(pair: &Pair, end: usize, bind: &str) -> Io {
    let bind = addr(bind);
    pair.inside(end, move || Io::bind(bind, &IoConfig { backend: Backend::Udp, ..config() }).expect("a socket"))
}

/// The backend inside.
pub fn backend(io: &Io) -> &Xdp {
    let Io::Xdp(xdp) = io else { panic!("it is AF_XDP") };
    xdp
}

/// Datagrams that went by way of the kernel's socket: received and sent.
pub fn by_kernel(io: &Io) -> (u64, u64) {
    let stats = io.stats().snapshot();
    (stats.rx_by_kernel, stats.tx_by_kernel)
}

/// Receives `count` datagrams at one end while the other one does its part: it may have to find its neighbour first.
pub fn collect_driving(io: &mut Io, other: &mut Io, count: usize) -> Vec<Seen> {
    let (mut seen, mut batch) = (Vec::new(), Vec::new());
    for _ in 0..LOOKS * 10 {
        while io.recv(&mut batch).expect("the socket is usable") > 0 {
            seen.extend(batch.drain(..).flat_map(datagrams));
        }
        if seen.len() >= count {
            break;
        }
        other.wait(Some(Duration::from_millis(1))).expect("the socket is usable");
        assert_eq!(other.recv(&mut batch).expect("the socket is usable"), 0, "nobody has sent anything there");
        other.flush().expect("the socket is usable");
        io.wait(Some(Duration::from_millis(10))).expect("the socket is usable");
    }
    assert_eq!(seen.len(), count, "{:?} {:?}", io.stats().snapshot(), other.stats().snapshot());
    seen
}

/// `a` asks, `b` answers from the address that was asked, many times; both must see every datagram.
pub fn echo(a: &mut Io, b: &mut Io, to: SocketAddr) {
    for round in 0..20u8 {
        let count = 1 + usize::from(round) * 5;
        for n in 0..count {
            train(a, to, 200 + n, 1200, n as u8);
        }
        a.flush().expect("the socket is usable");
        let questions = collect_driving(b, a, count);
        for (n, question) in questions.iter().enumerate() {
            let Seen { remote, local, len, fill, .. } = *question;
            assert_eq!((local, len, fill), (Some(to.ip()), 200 + n, n as u8));
            train_with(b, TxMeta { remote, local, ecn: None, segment_size: len, len }, fill);
        }
        b.flush().expect("the socket is usable");
        let answers = collect_driving(a, b, count);
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!((answer.remote, answer.len, answer.fill), (to, 200 + n, n as u8));
        }
    }
}
