//! What ICMP says of packets that were sent over AF_XDP: it reaches the kernel's socket, whose port and addresses it has to
//! name, and changes nothing for anybody (RFC 9000 section 14.2.1 leaves it to the endpoint whether it listens). The kernel's
//! own back end is the measure. Needs root; without it each story says that it was skipped.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/xdp.rs"]
mod ends;
#[path = "common/netns.rs"]
mod netns;

use std::time::Duration;

use common::{LOOK, LOOKS, addr, train};
use ends::{echo, udp, xdp};
use netns::Pair;
use warpline_pktio::Io;
use warpline_pktio::xdp::XdpModes;

/// What the kernel counted in the first namespace, of ICMP for both families: unreachable ports and hosts, packets that were
/// too big, and messages that no socket was found for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    unreachable: u64,
    too_big: u64,
    nobodys: u64,
}

fn heard(pair: &Pair) -> Heard {
    let read = |name: &'static str| {
        pair.inside(0, move || std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).expect("proc"))
    };
    let (four, six) = (read("snmp"), read("snmp6"));
    let mut lines = four.lines().filter(|line| line.starts_with("Icmp:")).map(|line| line.split(' '));
    let (names, values) = (lines.next().expect("the names"), lines.next().expect("the values"));
    let of_four: Vec<(&str, &str)> = names.zip(values).collect();
    let of_six: Vec<(&str, &str)> = six.lines().filter_map(|line| line.split_once(char::is_whitespace)).collect();
    let value = |of: &[(&str, &str)], name| -> u64 {
        let found = of.iter().find(|(found, _)| *found == name).expect("the kernel counts it").1;
        found.trim().parse().expect("a number")
    };
    Heard {
        unreachable: value(&of_four, "InDestUnreachs") + value(&of_six, "Icmp6InDestUnreachs"),
        too_big: value(&of_six, "Icmp6InPktTooBigs"),
        nobodys: value(&of_four, "InErrors") + value(&of_six, "Icmp6InErrors"),
    }
}

/// Sends until ICMP has said something of it.
fn until_heard(pair: &Pair, io: &mut Io, to: &str, len: usize) {
    let before = heard(pair);
    for n in 0..LOOKS {
        train(io, addr(to), len, len, n as u8);
        io.flush().expect("an ICMP error is no failure of the socket");
        io.wait(Some(LOOK / 10)).expect("an ICMP error is no failure of the socket");
        assert_eq!(io.recv(&mut Vec::new()).expect("an ICMP error is no failure of the socket"), 0);
        let now = heard(pair);
        if (now.unreachable, now.too_big) != (before.unreachable, before.too_big) {
            assert_eq!(now.nobodys, before.nobodys, "the kernel found the socket that it is about");
            return;
        }
    }
    panic!("nothing was said of packets to {to}: {:?} {:?}", heard(pair), io.stats().snapshot());
}

/// Both back ends at the first end.
fn ends(pair: &Pair) -> [(&'static str, Io); 2] {
    [("AF_XDP", xdp(pair, 0, "[::]:4000", XdpModes::Best)), ("UDP", udp(pair, 0, "[::]:4002"))]
}

/// Datagrams there and back; the neighbours are known from then on.
fn greet(a: &mut Io, b: &mut Io) {
    for to in ["10.77.0.2:4001", "[fd77::2]:4001"] {
        echo(a, b, addr(to));
    }
}

#[test]
fn unreachable_ports_and_hosts_disturb_nothing() {
    let Some(pair) = Pair::new("icmp") else { return };
    // Behind the other end there is a network in which nobody answers.
    pair.exec(1, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1").expect("it forwards");
    pair.ip(1, "route add unreachable 10.99.0.0/16");
    pair.ip(1, "route add unreachable fd99::/64");
    pair.ip(0, "route add 10.99.0.0/16 via 10.77.0.2");
    pair.ip(0, "route add fd99::/64 via fd77::2");
    let mut b = udp(&pair, 1, "[::]:4001");
    for (what, mut a) in ends(&pair) {
        greet(&mut a, &mut b);
        for to in ["10.77.0.2:9", "[fd77::2]:9", "10.99.0.1:9", "[fd99::1]:9"] {
            println!("{what} to {to}");
            until_heard(&pair, &mut a, to, 700);
        }
        greet(&mut a, &mut b);
        let stats = a.stats().snapshot();
        assert_eq!((stats.drop_tx_refused, stats.drop_tx_too_big), (0, 0), "{what}: {stats:?}");
    }
}

/// A packet that is too big for a link behind the other end. The kernel believes the message and remembers the size for the
/// destination; who searches the path MTU by itself must not be held to that, least of all below what QUIC needs.
#[test]
fn packets_that_are_too_big_for_a_later_link_do_not_limit_what_is_sent() {
    let Some(pair) = Pair::new("toobig") else { return };
    pair.exec(1, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1").expect("it forwards");
    pair.ip(1, "link add n0 type veth peer name n1");
    for (link, four, six) in [("n0", "10.99.0.1/24", "fd99::1/64"), ("n1", "10.98.0.1/24", "fd98::1/64")] {
        pair.ip(1, &format!("addr add {four} dev {link}"));
        pair.ip(1, &format!("addr add {six} dev {link} nodad"));
        pair.ip(1, &format!("link set {link} up"));
    }
    pair.ip(1, "route add 10.99.1.0/24 dev n0 mtu 600");
    pair.ip(1, "route add fd99:1::/64 dev n0 mtu 1280");
    pair.ip(0, "route add 10.99.0.0/16 via 10.77.0.2 mtu 1450");
    pair.ip(0, "route add fd99::/16 via fd77::2 mtu 1450");
    let mut b = udp(&pair, 1, "[::]:4001");
    for (to, host, learned) in [("10.99.1.1:9", "10.99.1.1", "mtu 600"), ("[fd99:1::1]:9", "fd99:1::1", "mtu 1280")] {
        for (what, mut a) in ends(&pair) {
            greet(&mut a, &mut b);
            pair.try_ip(0, "-6 route flush cache").expect("what was learned is forgotten");
            pair.ip(0, "route flush cache");
            let room = 1450 - if to.starts_with('[') { 48 } else { 28 };
            until_heard(&pair, &mut a, to, room);
            assert!(pair.ip(0, &format!("route get {host}")).contains(learned), "the kernel has learned it");
            // Whatever changes has the routes asked for again.
            pair.ip(0, "route replace 192.0.2.0/24 via 10.77.0.2");
            pair.ip(0, "route replace fd91::/64 via fd77::2");
            for _ in 0..3 {
                a.wait(Some(Duration::from_millis(50))).expect("the socket is usable");
                assert_eq!(a.recv(&mut Vec::new()).expect("the socket is usable"), 0);
            }
            let before = a.stats().snapshot();
            train(&mut a, addr(to), room, room, 0);
            a.flush().expect("the socket is usable");
            let after = a.stats().snapshot();
            assert_eq!(after.tx_datagrams - before.tx_datagrams, 1, "{what} to {to}: {after:?}");
            assert_eq!(after.drop_tx_too_big, 0, "{what} to {to}: {after:?}");
        }
    }
    // What is configured still holds, on AF_XDP: the kernel's socket ignores it, as it was told.
    let mut a = xdp(&pair, 0, "[::]:4000", XdpModes::Best);
    for (to, room) in [("10.99.1.1:9", 1450 - 28), ("[fd99:1::1]:9", 1450 - 48)] {
        let before = a.stats().snapshot().drop_tx_too_big;
        train(&mut a, addr(to), room + 1, room + 1, 0);
        assert_eq!(a.stats().snapshot().drop_tx_too_big, before + 1, "to {to}");
    }
}
