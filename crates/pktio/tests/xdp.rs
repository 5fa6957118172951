//! AF_XDP over veth pairs between network namespaces that the tests make and remove. Needs root; without it each story
//! says in one line that it was skipped.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/netns.rs"]
mod netns;

use std::net::SocketAddr;
use std::time::Duration;

use common::{LOOKS, Seen, addr, config, datagrams, train, train_with};
use netns::Pair;
use warpline_pktio::udp::Steering;
use warpline_pktio::xdp::{InterfaceName, XdpConfig, XdpMode, XdpModes};
use warpline_pktio::{Ecn, Io, TxMeta};

const STEERING: Steering = Steering { key_offset: 6, slots: 1021 };

/// A backend of one worker in a namespace.
fn xdp(pair: &Pair, end: usize, bind: &str, modes: XdpModes) -> Io {
    let (interface, bind) = (pair.interface(end), addr(bind));
    pair.inside(end, move || {
        let xdp = XdpConfig { modes, ..XdpConfig::new(InterfaceName::new(&interface).expect("a short name")) };
        let mut group = Io::xdp_group(bind, 1, &config(), xdp, &STEERING).expect("AF_XDP on veth");
        group.pop().expect("one worker")
    })
}

fn udp(pair: &Pair, end: usize, bind: &str) -> Io {
    let bind = addr(bind);
    pair.inside(end, move || Io::udp(bind, &config()).expect("a socket"))
}

fn status(io: &Io) -> (Option<XdpMode>, String) {
    let Io::Xdp(xdp) = io else { panic!("it is AF_XDP") };
    (xdp.status().mode, xdp.status().reason.clone())
}

/// Receives `count` datagrams at one end while the other one does its part: it may have to find its neighbour first.
fn collect_driving(io: &mut Io, other: &mut Io, count: usize) -> Vec<Seen> {
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
fn echo(a: &mut Io, b: &mut Io, to: SocketAddr) {
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

#[test]
fn datagrams_travel_between_two_af_xdp_ends() {
    let Some(pair) = Pair::new("ends") else { return };
    let mut a = xdp(&pair, 0, "10.77.0.1:4000", XdpModes::Best);
    let mut b = xdp(&pair, 1, "0.0.0.0:4001", XdpModes::Best);
    let (mode, reason) = status(&a);
    assert_eq!(mode, Some(XdpMode::Copy), "{reason}");
    assert!(reason.contains("no zero-copy"), "{reason}");
    echo(&mut a, &mut b, addr("10.77.0.2:4001"));
    let (sent, received) = (a.stats().snapshot(), b.stats().snapshot());
    assert_eq!(sent.tx_datagrams, received.rx_datagrams);
    println!("{sent:?}\n{received:?}");
    let _ = Ecn::Ce;
}

#[test]
fn one_end_may_be_an_ordinary_socket() {
    let Some(pair) = Pair::new("one") else { return };
    for modes in [XdpModes::Copy, XdpModes::Generic] {
        let mut a = xdp(&pair, 0, "[::]:4000", modes);
        for (bind, to) in [("10.77.0.2:4001", "10.77.0.1:4000"), ("[fd77::2]:4001", "[fd77::1]:4000")] {
            let mut b = udp(&pair, 1, bind);
            echo(&mut b, &mut a, addr(to));
            echo(&mut a, &mut b, addr(bind));
        }
    }
}
