//! AF_XDP beside the kernel's own stack: what is not ours passes, what the interface does not serve goes the kernel's
//! way, and changes of the interface are followed. Needs root; without it each story says that it was skipped.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/xdp.rs"]
mod ends;
#[path = "common/netns.rs"]
mod netns;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{LOOK, LOOKS, addr, collect, config, datagrams, train};
use ends::{STEERING, backend, by_kernel, collect_driving, echo, udp, xdp};
use netns::Pair;
use warpline_pktio::xdp::{InterfaceName, XdpConfig, XdpMode, XdpModes};
use warpline_pktio::{Io, Received};

/// Drives a backend until it has dealt with whatever the kernel told it.
fn settle(io: &mut Io) {
    for _ in 0..3 {
        io.wait(Some(Duration::from_millis(50))).expect("the socket is usable");
        assert_eq!(io.recv(&mut Vec::new()).expect("the socket is usable"), 0);
        io.flush().expect("the socket is usable");
    }
}

/// Drives a backend until its mode is as expected.
fn until_mode(io: &mut Io, mode: Option<XdpMode>) {
    for _ in 0..LOOKS {
        if backend(io).status().mode == mode {
            return;
        }
        settle(io);
    }
    panic!("{:?} is not {mode:?}", backend(io).status());
}

#[test]
fn tcp_and_other_ports_and_icmp_pass() {
    let Some(pair) = Pair::new("pass") else { return };
    let _a = xdp(&pair, 0, "0.0.0.0:4000", XdpModes::Best);
    let listener = pair.inside(0, || TcpListener::bind("10.77.0.1:4000").expect("TCP has its own ports"));
    let mut client = pair.inside(1, || TcpStream::connect("10.77.0.1:4000").expect("TCP passes"));
    let (mut server, _) = listener.accept().expect("TCP passes");
    client.write_all(&[7; 100_000]).expect("TCP passes");
    drop(client);
    let mut all = Vec::new();
    server.read_to_end(&mut all).expect("TCP passes");
    assert_eq!(all.len(), 100_000);
    // UDP to another port, and what ICMP says of one without a socket.
    let other = pair.inside(0, || UdpSocket::bind("10.77.0.1:4002").expect("a free port"));
    let client = pair.inside(1, || UdpSocket::bind("10.77.0.2:0").expect("a free port"));
    client.send_to(b"hello", "10.77.0.1:4002").expect("it is sent");
    let mut buffer = [0; 10];
    assert_eq!(other.recv(&mut buffer).expect("it arrives"), 5);
    client.connect("10.77.0.1:4003").expect("there is a route");
    client.set_read_timeout(Some(Duration::from_secs(5))).expect("an option");
    client.send(b"hello").expect("it is sent");
    assert_eq!(client.recv(&mut buffer).expect_err("nobody is there").kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn fragments_arrive_by_the_kernels_socket() {
    let Some(pair) = Pair::new("frag") else { return };
    let mut a = xdp(&pair, 0, "[::]:4000", XdpModes::Best);
    for (from, to) in [("10.77.0.2:4001", "10.77.0.1:4000"), ("[fd77::2]:4001", "[fd77::1]:4000")] {
        let client = pair.inside(1, move || UdpSocket::bind(from).expect("a free port"));
        client.send_to(&[9; 5000], to).expect("the kernel cuts it up");
        let seen = collect(&mut a, 1);
        assert_eq!((seen[0].len, seen[0].fill, seen[0].remote), (5000, 9, addr(from)));
    }
    assert_eq!(by_kernel(&a), (2, 0));
}

#[test]
fn what_leaves_by_another_interface_goes_the_kernels_way() {
    let Some(pair) = Pair::new("other") else { return };
    let mut a = xdp(&pair, 0, "0.0.0.0:4000", XdpModes::Best);
    let here = pair.inside(0, || UdpSocket::bind("127.0.0.1:0").expect("loopback"));
    let to = here.local_addr().expect("it is bound");
    train(&mut a, to, 700, 700, 3);
    a.flush().expect("the socket is usable");
    let mut buffer = [0; 2000];
    here.set_read_timeout(Some(Duration::from_secs(5))).expect("an option");
    assert_eq!(here.recv(&mut buffer).expect("it arrives"), 700);
    here.send_to(&[4; 600], "127.0.0.1:4000").expect("it is sent");
    assert_eq!(collect(&mut a, 1)[0].len, 600);
    assert_eq!(by_kernel(&a), (1, 1));
    // No route at all.
    train(&mut a, addr("203.0.113.1:9"), 700, 700, 3);
    a.flush().expect("the socket is usable");
    assert_eq!(a.stats().snapshot().drop_tx_refused, 1);
}

#[test]
fn routes_by_gateways_and_their_changes_are_followed() {
    let Some(pair) = Pair::new("route") else { return };
    // The second namespace has two more networks, behind its two addresses.
    pair.ip(1, "addr add 10.99.1.1/32 dev lo");
    pair.ip(1, "addr add 10.77.0.3/24 dev wl1");
    pair.ip(0, "route add 10.99.0.0/16 via 10.77.0.2 mtu 1300");
    let mut a = xdp(&pair, 0, "0.0.0.0:4000", XdpModes::Best);
    let mut b = udp(&pair, 1, "0.0.0.0:4001");
    echo(&mut a, &mut b, addr("10.99.1.1:4001"));
    train(&mut a, addr("10.99.1.1:4001"), 1273, 1273, 0);
    assert_eq!(a.stats().snapshot().drop_tx_too_big, 1, "the route's MTU counts");
    pair.ip(0, "route replace 10.99.0.0/16 via 10.77.0.3");
    settle(&mut a);
    echo(&mut a, &mut b, addr("10.99.1.1:4001"));
    train(&mut a, addr("10.99.1.1:4001"), 1273, 1273, 0);
    assert_eq!(a.stats().snapshot().drop_tx_too_big, 1, "the new route has no limit");
    a.flush().expect("the socket is usable");
    collect_driving(&mut b, &mut a, 1);
    pair.ip(0, "route del 10.99.0.0/16");
    settle(&mut a);
    let before = a.stats().snapshot().drop_tx_refused;
    train(&mut a, addr("10.99.1.1:4001"), 700, 700, 0);
    assert_eq!(a.stats().snapshot().drop_tx_refused, before + 1);
}

#[test]
fn a_neighbour_that_does_not_answer_is_given_up() {
    let Some(pair) = Pair::new("silent") else { return };
    let mut a = xdp(&pair, 0, "0.0.0.0:4000", XdpModes::Best);
    for n in 0..200 {
        train(&mut a, addr("10.77.0.99:9"), 100, 100, n);
    }
    a.flush().expect("the socket is usable");
    assert_eq!(a.stats().snapshot().drop_tx_refused, 200 - 128, "the queue is bounded");
    for _ in 0..LOOKS {
        if a.stats().snapshot().drop_tx_refused == 200 {
            break;
        }
        settle(&mut a);
    }
    assert_eq!(a.stats().snapshot().drop_tx_refused, 200);
    assert_eq!(backend(&a).frames().with_program, 0);
    // It appears, and is found.
    pair.ip(1, "addr add 10.77.0.99/24 dev wl1");
    let mut b = udp(&pair, 1, "10.77.0.99:9");
    echo(&mut a, &mut b, addr("10.77.0.99:9"));
}

#[test]
fn the_interface_may_go_down_and_up_and_away_and_back() {
    let Some(pair) = Pair::new("away") else { return };
    // What is opened again is opened in the namespace of the thread.
    pair.inside(0, || away_and_back(&pair));
}

fn away_and_back(pair: &Pair) {
    let mut a = xdp(pair, 0, "0.0.0.0:4000", XdpModes::Best);
    let fresh = backend(&a).frames();
    let mut b = udp(pair, 1, "0.0.0.0:4001");
    echo(&mut a, &mut b, addr("10.77.0.2:4001"));
    pair.ip(0, "link set wl0 down");
    settle(&mut a);
    train(&mut a, addr("10.77.0.2:4001"), 100, 100, 0);
    a.flush().expect("being down is no failure of the socket");
    pair.ip(0, "link set wl0 up");
    settle(&mut a);
    echo(&mut a, &mut b, addr("10.77.0.2:4001"));
    // Some packets wait for a neighbour, and one is being built.
    for n in 0..5 {
        train(&mut a, addr("10.77.0.99:9"), 100, 100, n);
    }
    a.tx_buffer().expect("there is room");
    pair.ip(0, "link del wl0");
    until_mode(&mut a, None);
    train(&mut a, addr("10.77.0.2:4001"), 100, 100, 0);
    a.flush().expect("being away is no failure of the socket");
    // A new pair under the same names.
    pair.link_again(1);
    until_mode(&mut a, Some(XdpMode::Copy));
    settle(&mut a);
    echo(&mut a, &mut b, addr("10.77.0.2:4001"));
    // Once what has waited is given up.
    for _ in 0..LOOKS {
        if backend(&a).frames().sending == 0 && a.stats().snapshot().drop_tx_refused >= 5 {
            break;
        }
        settle(&mut a);
    }
    let frames = backend(&a).frames();
    assert_eq!((frames.with_program, frames.kept), (0, fresh.kept), "{frames:?} {fresh:?}");
}

#[test]
fn a_new_mtu_counts_at_once() {
    let Some(pair) = Pair::new("mtu") else { return };
    let mut a = xdp(&pair, 0, "0.0.0.0:4000", XdpModes::Best);
    let mut b = udp(&pair, 1, "0.0.0.0:4001");
    echo(&mut a, &mut b, addr("10.77.0.2:4001"));
    for mtu in [1300, 1500] {
        for end in 0..2 {
            pair.ip(end, &format!("link set wl{end} mtu {mtu}"));
        }
        settle(&mut a);
        assert_eq!(a.tx_buffer().expect("there is room").len(), mtu - 28);
        train(&mut a, addr("10.77.0.2:4001"), mtu - 28, mtu - 28, 0);
        a.flush().expect("the socket is usable");
        collect_driving(&mut b, &mut a, 1);
    }
}

/// Memory and program are made for the packets that there were: what is larger than they take does not come, and what fits does.
#[test]
fn an_mtu_beyond_the_frames_changes_nothing_that_fits() {
    let Some(pair) = Pair::new("growth") else { return };
    let mut a = xdp(&pair, 0, "0.0.0.0:4000", XdpModes::Best);
    let mut b = udp(&pair, 1, "0.0.0.0:4001");
    // The kernel may refuse either, for a program that takes no packets of several buffers.
    let grown = (0..2).map(|end| pair.try_ip(end, &format!("link set wl{end} mtu 9000"))).filter(Result::is_ok).count();
    println!("{grown} of 2 ends took the MTU");
    settle(&mut a);
    let room = a.tx_buffer().expect("there is room").len();
    assert!((1472..9000 - 28).contains(&room), "{room} bytes, in a frame of 2,048");
    for round in 0..20u8 {
        train(&mut b, addr("10.77.0.1:4000"), 8000, 8000, 200);
        train(&mut b, addr("10.77.0.1:4000"), 1400, 1400, round);
        b.flush().expect("the socket is usable");
        train(&mut a, addr("10.77.0.2:4001"), 1400, 1400, round);
        a.flush().expect("the socket is usable");
        let (mut seen, mut batch) = ([0; 2], Vec::new());
        for _ in 0..LOOKS {
            for (io, seen) in [&mut a, &mut b].into_iter().zip(&mut seen) {
                io.recv(&mut batch).expect("the socket is usable");
                // The large ones may come as well, whole, by the kernel's socket.
                let ours = |datagram: &common::Seen| (datagram.len, datagram.fill) == (1400, round);
                *seen += batch.drain(..).flat_map(datagrams).filter(ours).count();
                io.flush().expect("the socket is usable");
            }
            if seen == [1, 1] {
                break;
            }
            for io in [&mut a, &mut b] {
                io.wait(Some(Duration::from_millis(2))).expect("the socket is usable");
            }
        }
        assert_eq!(seen, [1, 1], "datagrams of round {round}");
    }
    assert!(backend(&a).frames().add_up());
}

#[test]
fn queues_may_come_and_go() {
    let Some(pair) = Pair::with_queues("queues", 4) else { return };
    let set = |count| pair.exec(0, &format!("ethtool -L wl0 rx {count} tx {count}"));
    if let Err(reason) = set(2) {
        println!("skipped: the number of queues cannot be changed here: {reason}");
        return;
    }
    // A link of this kind takes a program only where as many queues receive as its peer sends on.
    pair.exec(1, "ethtool -L wl1 rx 1 tx 1").expect("as before");
    let mut a = xdp(&pair, 0, "0.0.0.0:4000", XdpModes::Best);
    assert_eq!(backend(&a).status().queues, [0, 1]);
    let mut b = udp(&pair, 1, "0.0.0.0:4001");
    // Of those that are new nobody receives: their packets take the kernel's way. Those that have sockets the kernel keeps,
    // or, if it takes them away, nothing comes of them.
    for count in [4, 1, 2] {
        if let Err(reason) = set(count) {
            assert!(count < 2 && reason.contains("AF_XDP"), "{reason}");
        }
        settle(&mut a);
        echo(&mut a, &mut b, addr("10.77.0.2:4001"));
        echo(&mut b, &mut a, addr("10.77.0.1:4000"));
    }
    assert_eq!(backend(&a).frames().with_program, 0);
}

#[test]
fn a_foreign_program_is_left_alone() {
    let Some(pair) = Pair::new("busy") else { return };
    let _a = xdp(&pair, 0, "0.0.0.0:4000", XdpModes::Best);
    let interface = pair.interface(0);
    let error = pair.inside(0, move || {
        let xdp = XdpConfig::new(InterfaceName::new(&interface).expect("a short name"));
        Io::xdp_group(addr("0.0.0.0:4005"), 1, &config(), xdp, &STEERING).expect_err("one program per interface")
    });
    assert_eq!(error.kind(), ErrorKind::ResourceBusy);
    assert!(error.to_string().contains("another XDP program (number "), "{error}");
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let Some(pair) = Pair::new("refuse") else { return };
    let open = |interface: &'static str, modes, frames| {
        pair.inside(0, move || {
            let xdp = XdpConfig { modes, frames, ..XdpConfig::new(InterfaceName::new(interface).expect("short")) };
            let error = Io::xdp_group(addr("0.0.0.0:4005"), 1, &config(), xdp, &STEERING);
            error.expect_err("it cannot be").to_string()
        })
    };
    let best = XdpModes::Best;
    for (error, part) in [
        (open("nothing", best, 8192), "there is no interface nothing"),
        (open("wl0", XdpModes::ZeroCopy, 8192), "not supported"),
        (open("lo", XdpModes::Copy, 8192), "not supported"),
        (open("wl0", best, 100), "frames per queue"),
    ] {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
    match pair.try_ip(0, "link add link wl0 name v5 type vlan id 5") {
        Ok(_) => assert!(open("v5", best, 8192).contains("v5 is a VLAN")),
        Err(reason) => println!("skipped: no VLANs in this kernel: {reason}"),
    }
    for name in ["", "a/b", "a b", "..", "0123456789abcdef"] {
        assert!(InterfaceName::new(name).is_err(), "{name}");
    }
}

#[test]
fn missing_privileges_are_named() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let Some(pair) = Pair::new("caps") else { return };
    let open_without = |dropped: CapabilitySet| {
        pair.inside(0, || {
            // Only this thread's, which ends here.
            let mut sets = capabilities(None).expect("a thread has some");
            sets.effective -= dropped | CapabilitySet::SYS_ADMIN;
            set_capabilities(None, sets).expect("giving up is allowed");
            let xdp = XdpConfig::new(InterfaceName::new("wl0").expect("a short name"));
            let error = Io::xdp_group(addr("0.0.0.0:4005"), 1, &config(), xdp, &STEERING);
            error.map(drop).map_err(|error| error.to_string())
        })
    };
    for (dropped, part) in [
        (CapabilitySet::BPF, "CAP_BPF and CAP_NET_ADMIN"),
        (CapabilitySet::NET_ADMIN, "CAP_BPF and CAP_NET_ADMIN"),
        (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
    ] {
        let error = open_without(dropped).expect_err("it takes this");
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
    // Without that one it is the limit that counts.
    match (
        open_without(CapabilitySet::IPC_LOCK),
        rustix::process::getrlimit(rustix::process::Resource::Memlock).current,
    ) {
        (Err(error), Some(limit)) => assert!(limit < 20 << 20 && error.contains("limit of locked memory"), "{error}"),
        (Ok(()), limit) => assert!(limit.is_none_or(|limit| limit >= 16 << 20), "{limit:?}"),
        (Err(error), None) => panic!("there is no limit: {error}"),
    }
}

#[test]
fn a_program_that_keeps_everything_stops_neither_reception_nor_sending() {
    let Some(pair) = Pair::new("keep") else { return };
    let mut a = xdp(&pair, 0, "0.0.0.0:4000", XdpModes::Best);
    let mut b = udp(&pair, 1, "0.0.0.0:4001");
    // Neighbours are known from here on.
    echo(&mut b, &mut a, addr("10.77.0.1:4000"));
    let arrived = |a: &Io| {
        let stats = a.stats().snapshot();
        stats.rx_datagrams + stats.drop_rx_no_memory
    };
    let before = arrived(&a);
    let (mut kept, mut batch): (Vec<Received>, _) = (Vec::new(), Vec::new());
    for round in 0..200 {
        for _ in 0..64 {
            train(&mut b, addr("10.77.0.1:4000"), 1000, 1000, round as u8);
        }
        b.flush().expect("the socket is usable");
        while a.recv(&mut batch).expect("the socket is usable") > 0 {
            kept.append(&mut batch);
        }
    }
    // The kernel may deliver the last ones by a thread of its own.
    for _ in 0..LOOKS {
        if arrived(&a) - before == 200 * 64 {
            break;
        }
        a.wait(Some(LOOK)).expect("the socket is usable");
        a.recv(&mut batch).expect("the socket is usable");
        kept.append(&mut batch);
    }
    let stats = a.stats().snapshot();
    assert_eq!(arrived(&a) - before, 200 * 64, "{stats:?}");
    assert!(stats.rx_copied > 0 && stats.drop_rx_no_memory > 0, "{stats:?}");
    assert!(kept.iter().all(|received| received.frame.len() == 1000));
    assert!(backend(&a).frames().with_program > 0);
    train(&mut a, addr("10.77.0.2:4001"), 100, 100, 0);
    a.flush().expect("the socket is usable");
    collect_driving(&mut b, &mut a, 1);
    kept.clear();
    assert_eq!(backend(&a).frames().with_program, 0);
    echo(&mut b, &mut a, addr("10.77.0.1:4000"));
}

#[test]
fn what_the_kernel_drops_is_told() {
    let Some(pair) = Pair::new("told") else { return };
    let mut a = xdp(&pair, 0, "0.0.0.0:4000", XdpModes::Best);
    let mut b = udp(&pair, 1, "0.0.0.0:4001");
    // Nobody receives, so the rings run over.
    for _ in 0..200 {
        for n in 0..64 {
            train(&mut b, addr("10.77.0.1:4000"), 1000, 1000, n);
        }
        b.flush().expect("the socket is usable");
    }
    std::thread::sleep(warpline_pktio::limits::XDP_COUNTERS_EVERY);
    let mut batch = Vec::new();
    while a.recv(&mut batch).expect("the socket is usable") > 0 {}
    for _ in 0..warpline_pktio::limits::XDP_LOOK_AROUND {
        a.recv(&mut batch).expect("the socket is usable");
    }
    let (told, now) = (a.stats().xdp_counters(), backend(&a).kernel_counters().expect("the kernel counts"));
    assert!(told.rx_dropped + told.rx_ring_full + told.fill_ring_empty > 0, "{told:?}");
    assert_eq!(told, now);
}

#[test]
fn frames_may_outlive_the_backend() {
    let Some(pair) = Pair::new("outlive") else { return };
    let mut a = xdp(&pair, 0, "0.0.0.0:4000", XdpModes::Best);
    let mut b = udp(&pair, 1, "0.0.0.0:4001");
    train(&mut b, addr("10.77.0.1:4000"), 1000, 1000, 42);
    b.flush().expect("the socket is usable");
    let mut kept = Vec::new();
    for _ in 0..LOOKS {
        if a.recv(&mut kept).expect("the socket is usable") > 0 {
            break;
        }
        a.wait(Some(Duration::from_millis(10))).expect("the socket is usable");
    }
    drop(a);
    let _again = xdp(&pair, 0, "0.0.0.0:4000", XdpModes::Best);
    let seen: Vec<_> = kept.into_iter().flat_map(datagrams).collect();
    assert_eq!((seen.len(), seen[0].fill), (1, 42));
}

/// Run by the next story in a process of its own.
#[test]
fn child_that_is_killed() {
    let Ok(interface) = std::env::var("WARPLINE_TEST_KILL") else { return };
    let xdp = XdpConfig::new(InterfaceName::new(&interface).expect("a short name"));
    let _group = Io::xdp_group(addr("0.0.0.0:4000"), 1, &config(), xdp, &STEERING).expect("AF_XDP on veth");
    println!("attached");
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn a_killed_process_leaves_no_program() {
    let Some(pair) = Pair::new("kill") else { return };
    let program = std::env::current_exe().expect("a test has a path");
    let mut child = Command::new("ip")
        .args(["netns", "exec", pair.name(0)])
        .arg(program)
        .args(["child_that_is_killed", "--exact", "--nocapture"])
        .env("WARPLINE_TEST_KILL", pair.interface(0))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test can be run");
    let (mut output, mut text) = (child.stdout.take().expect("it is piped"), String::new());
    while !text.contains("attached") {
        let mut buffer = [0; 256];
        let len = output.read(&mut buffer).expect("it is piped");
        assert!(len > 0, "the child ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..len]));
    }
    assert!(pair.ip(0, "link show wl0").contains("xdp"));
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    let gone = (0..LOOKS).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        !pair.ip(0, "link show wl0").contains("xdp")
    });
    assert!(gone, "{}", pair.ip(0, "link show wl0"));
    // The interface can be used at once.
    let mut a = xdp(&pair, 0, "0.0.0.0:4000", XdpModes::Best);
    let mut b = udp(&pair, 1, "0.0.0.0:4001");
    echo(&mut a, &mut b, addr("10.77.0.2:4001"));
}
