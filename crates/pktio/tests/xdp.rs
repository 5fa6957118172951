//! AF_XDP over veth pairs between network namespaces that the tests make and remove. Needs root; without it each story
//! says in one line that it was skipped.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/xdp.rs"]
mod ends;
#[path = "common/netns.rs"]
mod netns;

use std::time::Duration;

use common::{addr, config, train, train_with};
use ends::{STEERING, backend, by_kernel, collect_driving, echo, udp, xdp};
use netns::Pair;
use warpline_pktio::xdp::{InterfaceName, XdpChecksums, XdpConfig, XdpMode, XdpModes, XdpWakeups, features};
use warpline_pktio::{Ecn, Io, TxMeta};
use warpline_wire::net::{Peer, Template, VlanTag};

#[test]
fn datagrams_travel_between_two_af_xdp_ends() {
    let Some(pair) = Pair::new("ends") else { return };
    let mut a = xdp(&pair, 0, "10.77.0.1:4000", XdpModes::Best);
    let mut b = xdp(&pair, 1, "0.0.0.0:4001", XdpModes::Best);
    let status = backend(&a).status();
    assert_eq!((status.mode, &status.queues[..]), (Some(XdpMode::Copy), &[0][..]));
    assert!(status.reason.contains("no zero-copy"), "{}", status.reason);
    echo(&mut a, &mut b, addr("10.77.0.2:4001"));
    let (sent, received) = (a.stats().snapshot(), b.stats().snapshot());
    assert_eq!(sent.tx_datagrams, received.rx_datagrams);
    assert!(sent.send_calls <= 25, "packets leave in batches: {sent:?}");
    for io in [&mut a, &mut b] {
        // Sending takes back what was sent.
        io.flush().expect("the socket is usable");
        let frames = backend(io).frames();
        assert_eq!((frames.with_program, frames.sending), (0, 0), "{frames:?}");
        assert_eq!(backend(io).kernel_counters().expect("the kernel counts"), Default::default());
    }
}

#[test]
fn a_worker_of_its_own_may_go_over_to_another_port() {
    let Some(pair) = Pair::new("rebind") else { return };
    let mut a = xdp(&pair, 0, "10.77.0.1:4000", XdpModes::Best);
    let mut b = xdp(&pair, 1, "[::]:4001", XdpModes::Best);
    echo(&mut b, &mut a, addr("10.77.0.1:4000"));
    for (port, bind) in [(4002, "[::]:4002"), (4003, "10.77.0.2:4003"), (4001, "[::]:4001")] {
        pair.inside(1, || b.rebind(addr(bind), &config())).expect("it has no workers beside it");
        assert_eq!(b.local_addr().port(), port);
        echo(&mut b, &mut a, addr("10.77.0.1:4000"));
        let back = format!("10.77.0.2:{port}");
        echo(&mut a, &mut b, addr(&back));
    }
    // A port that somebody has leaves everything as it is.
    let taken = udp(&pair, 1, "[::]:4005");
    pair.inside(1, || b.rebind(addr("[::]:4005"), &config())).expect_err("it is taken");
    drop(taken);
    echo(&mut a, &mut b, addr("10.77.0.2:4001"));
    // The interface may go and come: the program is for the new port then, too.
    pair.ip(1, "link set wl1 down");
    pair.ip(1, "link set wl1 up");
    echo(&mut b, &mut a, addr("10.77.0.1:4000"));
    assert_eq!((by_kernel(&a), by_kernel(&b)), ((0, 0), (0, 0)));
}

/// Each end answers the other, and sleeps until it can: a packet that is left behind, or a wake-up that is lost, shows as a round that
/// takes as long as the sleep.
#[test]
fn each_way_to_wake_and_to_be_woken_moves_packets() {
    const ROUNDS: u64 = 300;
    for wakeups in [XdpWakeups::Send, XdpWakeups::Poll, XdpWakeups::Ring] {
        let Some(pair) = Pair::new("wakeups") else { return };
        let open = |end: usize, bind| {
            let name = InterfaceName::new(&pair.interface(end)).expect("a short name");
            let xdp = XdpConfig { wakeups, ..XdpConfig::new(name) };
            let group = pair.inside(end, || Io::xdp_group(addr(bind), 1, &config(), xdp, &STEERING));
            group.map(|mut group| group.pop().expect("one worker"))
        };
        let (mut a, mut b) = match (open(0, "10.77.0.1:4000"), open(1, "10.77.0.2:4001")) {
            (Ok(a), Ok(b)) => (a, b),
            (Err(error), _) | (_, Err(error)) => {
                assert_eq!(wakeups, XdpWakeups::Ring, "{error}");
                println!("skipped: {error}");
                continue;
            }
        };
        let answer = |io: &mut Io, to, first: bool| {
            let (mut batch, mut seen, long) = (Vec::new(), 0, Duration::from_secs(5));
            let send = |io: &mut Io| train(io, addr(to), 64, 64, 1);
            if first {
                send(io);
                io.flush_soon().expect("the socket is usable");
            }
            while seen < ROUNDS {
                io.wait(Some(long)).expect("the socket is usable");
                if io.recv(&mut batch).expect("the socket is usable") > 0 {
                    seen += batch.drain(..).map(|received| received.count() as u64).sum::<u64>();
                    if !first || seen < ROUNDS {
                        send(io);
                    }
                }
                // As a worker does in each turn.
                io.flush_soon().expect("the socket is usable");
            }
            io.flush().expect("the socket is usable");
        };
        // Nothing is sent twice here, so not before the other end is there.
        let moved = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let asks = scope.spawn(|| {
                pair.inside(0, || {
                    answer(&mut a, "10.77.0.2:4001", true);
                    moved.wait();
                    answer(&mut a, "10.77.0.2:4002", true);
                });
            });
            pair.inside(1, || {
                answer(&mut b, "10.77.0.1:4000", false);
                // What a ring holds of the old socket is taken back.
                b.rebind(addr("10.77.0.2:4002"), &config()).expect("it is free");
                moved.wait();
                answer(&mut b, "10.77.0.1:4000", false);
            });
            asks.join().expect("no panic");
        });
        // The other end is told of the new port by this test, perhaps before the program is.
        assert!(by_kernel(&a) == (0, 0) && by_kernel(&b) <= (1, 0), "{:?} {:?}", by_kernel(&a), by_kernel(&b));
        let sent = b.stats().snapshot();
        println!(
            "{wakeups:?}: {} packets sent by {} calls, {} sleeps",
            sent.tx_datagrams, sent.send_calls, sent.wait_calls
        );
        match wakeups {
            // The sleep that follows sends.
            XdpWakeups::Poll => assert!(sent.send_calls * 10 < sent.tx_datagrams, "{sent:?}"),
            XdpWakeups::Send | XdpWakeups::Ring => assert!(sent.send_calls >= ROUNDS, "{sent:?}"),
        }
    }
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
        assert_eq!((by_kernel(&a), a.stats().snapshot().drop_rx_truncated), ((0, 0), 0));
    }
}

#[test]
fn ecn_codepoints_travel_both_ways() {
    let Some(pair) = Pair::new("ecn") else { return };
    let mut a = xdp(&pair, 0, "[::]:4000", XdpModes::Best);
    let mut b = udp(&pair, 1, "[::]:4001");
    for (to_a, to_b) in [("10.77.0.1:4000", "10.77.0.2:4001"), ("[fd77::1]:4000", "[fd77::2]:4001")] {
        for ecn in [None, Some(Ecn::Ect0), Some(Ecn::Ect1), Some(Ecn::Ce)] {
            let meta = |to| TxMeta { remote: addr(to), local: None, ecn, segment_size: 500, len: 1000 };
            train_with(&mut a, meta(to_b), 0);
            a.flush().expect("the socket is usable");
            assert!(collect_driving(&mut b, &mut a, 2).iter().all(|seen| seen.ecn == ecn && seen.remote == addr(to_a)));
            train_with(&mut b, meta(to_a), 0);
            b.flush().expect("the socket is usable");
            assert!(collect_driving(&mut a, &mut b, 2).iter().all(|seen| seen.ecn == ecn && seen.remote == addr(to_b)));
        }
    }
}

/// A back end, or its refusal, once what was closed is free: children that other tests have forked hold copies of the port and
/// of the program's link until they are programs of their own.
fn once_free(pair: &Pair, xdp: XdpConfig) -> std::io::Result<Io> {
    let mut opened = Err(std::io::ErrorKind::AddrInUse.into());
    for _ in 0..300 {
        opened = pair.inside(0, || Io::xdp_group(addr("[::]:4000"), 1, &config(), xdp, &STEERING));
        match &opened {
            Err(error) if error.kind() != std::io::ErrorKind::Unsupported => {
                std::thread::sleep(Duration::from_millis(10))
            }
            _ => break,
        }
    }
    opened.map(|mut group| group.pop().expect("one worker"))
}

/// The other end is a kernel's socket, which drops what has a wrong checksum unless the sender left it unfinished.
#[test]
fn checksums_are_computed_by_whom_the_status_says() {
    let Some(pair) = Pair::new("sums") else { return };
    let open = |checksums| {
        let xdp = XdpConfig { checksums, ..XdpConfig::new(InterfaceName::new("wl0").expect("a short name")) };
        once_free(&pair, xdp).expect("AF_XDP on veth")
    };
    let told = pair.inside(0, || features(InterfaceName::new("wl0").expect("a short name")));
    assert!(told.is_ok_and(|told| !told.tx_checksum), "veth does not read TX metadata");
    for (checksums, who) in [
        (XdpChecksums::Own, "checksums computed here, as asked for"),
        (XdpChecksums::Kernel, "checksums by the kernel, as asked for"),
        (XdpChecksums::Best, "checksums by the device, as those of the kernel's packets"),
        (XdpChecksums::Device, "checksums by the device, as those of the kernel's packets"),
    ] {
        let mut a = open(checksums);
        let reason = backend(&a).status().reason.clone();
        let is_old = reason.contains("the kernel is older than 6.8");
        assert!(reason.contains(who) || is_old, "{reason:?} does not say {who:?}");
        for (bind, to) in [("10.77.0.2:4001", "10.77.0.1:4000"), ("[fd77::2]:4001", "[fd77::1]:4000")] {
            let mut b = udp(&pair, 1, bind);
            echo(&mut b, &mut a, addr(to));
            for len in [1, 2, 33, 1452] {
                train(&mut a, addr(bind), len, len, 9);
                a.flush().expect("the socket is usable");
                assert_eq!(collect_driving(&mut b, &mut a, 1)[0].len, len);
            }
        }
        assert_eq!(backend(&a).kernel_counters().expect("the kernel counts"), Default::default());
        assert_eq!(by_kernel(&a), (0, 0));
    }
    // Where the interface computes none, the kernel would have to: we are faster.
    if let Err(reason) = pair.exec(0, "ethtool -K wl0 tx off") {
        return println!("skipped: no ethtool: {reason}");
    }
    let a = open(XdpChecksums::Best);
    assert!(backend(&a).status().reason.contains("checksums computed here: the device does not"));
    drop(a);
    // Who insists is refused.
    for (checksums, modes, why) in [
        (XdpChecksums::Device, XdpModes::Best, "the device does not"),
        (XdpChecksums::Device, XdpModes::ZeroCopy, "the driver does not offer them"),
        (XdpChecksums::Kernel, XdpModes::ZeroCopy, "in copy mode only"),
    ] {
        let name = InterfaceName::new("wl0").expect("a short name");
        let xdp = XdpConfig { checksums, modes, ..XdpConfig::new(name) };
        let error = once_free(&pair, xdp).expect_err(why);
        assert!(error.kind() == std::io::ErrorKind::Unsupported && error.to_string().contains(why), "{error}");
    }
}

#[test]
fn a_worker_without_a_queue_sends_by_the_one_of_another() {
    for (name, mtu) in [("guest", 1500), ("jumbo-guest", 9000)] {
        // A pair for each: the kernel takes its time to take a program off, and one that is there bounds the other end's MTU.
        let Some(pair) = Pair::new(name) else { return };
        for end in 0..2 {
            pair.ip(end, &format!("link set wl{end} mtu {mtu}"));
        }
        let xdp = XdpConfig::new(InterfaceName::new("wl0").expect("a short name"));
        let group = pair.inside(0, || Io::xdp_group(addr("10.77.0.1:4000"), 2, &config(), xdp, &STEERING));
        let mut group = group.expect("AF_XDP on veth");
        let (mut guest, mut owner) = (group.pop().expect("two workers"), group.pop().expect("two workers"));
        assert!(backend(&guest).status().queues.is_empty());
        let mut b = udp(&pair, 1, "10.77.0.2:4001");
        let (mut sent, mut seen, mut batch) = (0, 0, Vec::new());
        // More than the guest's frames at a time, again and again.
        for round in 0..20 {
            for _ in 0..100 {
                let Some(buffer) = guest.tx_buffer() else { break };
                assert_eq!(buffer.len(), mtu - 28);
                train(&mut guest, addr("10.77.0.2:4001"), 700, 700, round);
                sent += 1;
            }
            guest.flush().expect("the socket is usable");
            for _ in 0..4 {
                for io in [&mut guest, &mut owner] {
                    io.wait(Some(Duration::from_millis(1))).expect("the socket is usable");
                    assert_eq!(io.recv(&mut batch).expect("the socket is usable"), 0);
                    io.flush().expect("the socket is usable");
                }
                while b.recv(&mut batch).expect("the socket is usable") > 0 {
                    seen += batch.drain(..).flat_map(common::datagrams).filter(|seen| seen.len == 700).count();
                }
            }
        }
        assert!(sent > 1500 && seen == sent, "{seen} of {sent}: {:?}", guest.stats().snapshot());
        assert_eq!((by_kernel(&guest), guest.stats().snapshot().tx_datagrams), ((0, 0), sent as u64));
        let frames = backend(&owner).frames();
        assert!(frames.add_up() && frames.sending == 0, "{frames:?}");
        // When the owner has ended, the kernel's socket is left.
        drop(owner);
        train(&mut guest, addr("10.77.0.2:4001"), 700, 700, 99);
        guest.flush().expect("the socket is usable");
        assert_eq!(collect_driving(&mut b, &mut guest, 1)[0].fill, 99);
        assert_eq!(by_kernel(&guest), (0, 1));
    }
}

#[test]
fn vlans_on_the_interface_are_served() {
    let Some(pair) = Pair::new("vlan") else { return };
    if let Err(reason) = pair.try_ip(0, "link add link wl0 name probe type vlan id 9") {
        println!("skipped: no VLANs in this kernel: {reason}");
        return;
    }
    for end in 0..2 {
        let (interface, host) = (pair.interface(end), end + 1);
        pair.ip(end, &format!("link add link {interface} name v5 type vlan id 5"));
        pair.ip(end, &format!("link add link {interface} name q type vlan proto 802.1ad id 100"));
        pair.ip(end, "link add link q name q7 type vlan id 7");
        for (vlan, net) in [("v5", 5), ("q", 100), ("q7", 7)] {
            pair.ip(end, &format!("addr add 10.78.{net}.{host}/24 dev {vlan}"));
            pair.ip(end, &format!("link set {vlan} up"));
        }
    }
    let mut a = xdp(&pair, 0, "0.0.0.0:4000", XdpModes::Best);
    for xdp_too in [false, true] {
        let mut b = if xdp_too { xdp(&pair, 1, "0.0.0.0:4001", XdpModes::Best) } else { udp(&pair, 1, "0.0.0.0:4001") };
        for net in [5, 7, 100] {
            echo(&mut a, &mut b, addr(&format!("10.78.{net}.2:4001")));
            echo(&mut b, &mut a, addr(&format!("10.78.{net}.1:4000")));
        }
    }
    let stats = a.stats().snapshot();
    assert_eq!((stats.drop_rx_truncated, stats.drop_tx_refused), (0, 0));
}

#[test]
fn packets_of_several_frames_travel_both_ways() {
    let Some(pair) = Pair::new("jumbo") else { return };
    for end in 0..2 {
        pair.ip(end, &format!("link set wl{end} mtu 9000"));
    }
    let mut a = xdp(&pair, 0, "[::]:4000", XdpModes::Best);
    assert_eq!(
        (backend(&a).status().mode, a.tx_buffer().map(|buffer| buffer.len())),
        (Some(XdpMode::Copy), Some(8972))
    );
    for xdp_too in [false, true] {
        let mut b = if xdp_too { xdp(&pair, 1, "[::]:4001", XdpModes::Best) } else { udp(&pair, 1, "[::]:4001") };
        for (to_a, to_b) in [("10.77.0.1:4000", "10.77.0.2:4001"), ("[fd77::1]:4000", "[fd77::2]:4001")] {
            echo(&mut a, &mut b, addr(to_b));
            for len in [8952, 4000, 3500, 3600, 3840, 3841, 8000, 1452] {
                train(&mut a, addr(to_b), len, len, 3);
                a.flush().expect("the socket is usable");
                let seen = collect_driving(&mut b, &mut a, 1);
                assert_eq!((seen[0].len, seen[0].fill, seen[0].remote), (len, 3, addr(to_a)));
                train(&mut b, addr(to_a), len, len, 4);
                b.flush().expect("the socket is usable");
                let seen = collect_driving(&mut a, &mut b, 1);
                assert_eq!((seen[0].len, seen[0].fill, seen[0].remote), (len, 4, addr(to_b)));
            }
        }
    }
    assert_eq!(by_kernel(&a), (0, 0));
    a.flush().expect("the socket is usable");
    let frames = backend(&a).frames();
    assert_eq!((frames.with_program, frames.sending, frames.kept), (0, 0, 1024), "{frames:?}");
}

#[test]
fn long_trains_are_cut_into_packets() {
    let Some(pair) = Pair::new("cut") else { return };
    let mut a = xdp(&pair, 0, "10.77.0.1:4000", XdpModes::Best);
    let mut b = xdp(&pair, 1, "10.77.0.2:4001", XdpModes::Best);
    assert_eq!(a.tx_buffer().expect("there is room").len(), 1472, "the MTU without IPv4 and UDP headers");
    train(&mut a, addr("10.77.0.2:4001"), 1470, 100, 0);
    a.flush().expect("the socket is usable");
    let seen = collect_driving(&mut b, &mut a, 15);
    assert!(
        seen.iter()
            .enumerate()
            .all(|(n, seen)| (usize::from(seen.fill), seen.len) == (n, if n < 14 { 100 } else { 70 }))
    );
}

/// A socket that sends frames as they are.
struct Raw(std::os::fd::OwnedFd);

impl Raw {
    fn new(pair: &Pair, end: usize) -> Raw {
        use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
        pair.inside(end, || {
            // SAFETY: no memory is involved.
            let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
            assert!(fd >= 0, "root may open packet sockets");
            // SAFETY: the call made this descriptor, and nobody else knows it.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            // SAFETY: zeros are a valid name.
            let mut name: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            name.sll_family = libc::AF_PACKET as u16;
            let interface = std::ffi::CString::new(pair.interface(end)).expect("a name has no zeros");
            // SAFETY: the name ends with a zero.
            name.sll_ifindex = unsafe { libc::if_nametoindex(interface.as_ptr()) } as i32;
            let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            // SAFETY: the name is a `sockaddr_ll` of that length.
            let result = unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&name).cast(), len) };
            assert_eq!(result, 0, "the interface exists");
            Raw(fd)
        })
    }

    fn send(&self, frame: &[u8]) {
        use std::os::fd::AsRawFd;
        // SAFETY: the bytes are readable.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(usize::try_from(sent), Ok(frame.len()));
    }
}

/// A frame from `10.77.0.2` or `fd77::2` to the other end's port 4000.
fn frame(pair: &Pair, v6: bool, vlans: [Option<VlanTag>; 2], payload: &[u8]) -> Vec<u8> {
    let link = pair.ip(0, "-o link show wl0");
    let mac = link.split("link/ether ").nth(1).and_then(|rest| rest.get(..17)).expect("it has one");
    let mac: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect();
    let (source, destination) = if v6 { ("[fd77::2]:4001", "fd77::1") } else { ("10.77.0.2:4001", "10.77.0.1") };
    let template = Template::new(&Peer {
        source_mac: [2, 0, 0, 0, 0, 9],
        next_hop_mac: mac.try_into().expect("six bytes"),
        vlans,
        source: addr(source),
        destination: destination.parse().expect("a literal"),
        hop_limit: 64,
        flow_label: 1,
    });
    let template = template.expect("one family");
    let mut frame = vec![0; template.len()];
    frame.extend_from_slice(payload);
    template.write(&mut frame, 4000, 2);
    frame
}

#[test]
fn tagged_frames_are_received() {
    let Some(pair) = Pair::new("tags") else { return };
    let tag = |ethertype, id| Some(VlanTag { ethertype, id });
    let stacks =
        [[None, None], [tag(0x8100, 5), None], [tag(0x88a8, 100), tag(0x8100, 7)], [tag(0x8100, 1), tag(0x8100, 2)]];
    for modes in [XdpModes::Copy, XdpModes::Generic] {
        let mut a = xdp(&pair, 0, "[::]:4000", modes);
        let raw = Raw::new(&pair, 1);
        for v6 in [false, true] {
            for (n, vlans) in stacks.into_iter().enumerate() {
                raw.send(&frame(&pair, v6, vlans, &[n as u8; 50]));
                let seen = common::collect(&mut a, 1);
                assert_eq!((seen[0].len, seen[0].fill, seen[0].ecn), (50, n as u8, Some(Ecn::Ect0)));
            }
        }
        assert_eq!((by_kernel(&a), a.stats().snapshot().rx_datagrams), ((0, 0), 8), "{modes:?}");
    }
}

#[test]
fn senseless_frames_are_dropped_or_passed_and_nothing_else_happens() {
    let Some(pair) = Pair::new("bad") else { return };
    let mut a = xdp(&pair, 0, "[::]:4000", XdpModes::Best);
    let raw = Raw::new(&pair, 1);
    let good = frame(&pair, false, [None; 2], &[1; 50]);
    let good6 = frame(&pair, true, [None; 2], &[1; 50]);
    type Change = fn(&mut Vec<u8>);
    // What the program takes and the parser refuses.
    let dropped: [Change; 6] = [
        |f| f[16..18].copy_from_slice(&[0xff, 0xff]), // the IP length is beyond the frame
        |f| f[16..18].copy_from_slice(&[0, 19]),      // … or shorter than the header
        |f| f[38..40].copy_from_slice(&[0xff, 0xff]), // the UDP length is beyond the packet
        |f| f[38..40].copy_from_slice(&[0, 7]),       // … or shorter than the header
        |f| f[24] ^= 1,                               // the IP checksum is wrong
        |f| f.truncate(60),                           // the end is missing
    ];
    for change in dropped {
        let mut frame = good.clone();
        change(&mut frame);
        raw.send(&frame);
    }
    // From our own address, with a checksum that is right.
    let mut own = good.clone();
    own[29] = 1;
    own[25] = own[25].wrapping_add(1);
    raw.send(&own);
    // What the program leaves to the kernel, which drops it.
    let passed: [Change; 7] = [
        |f| f[14] = 0x46,            // options
        |f| f[14] = 0x55,            // version 5
        |f| f[20] |= 0x20,           // a fragment
        |f| f[23] = 6,               // TCP
        |f| f[33] = 200,             // another address
        |f| f[36..38].fill(0),       // another port
        |f| f.truncate(14 + 20 + 7), // a cut UDP header
    ];
    for change in passed {
        let mut frame = good.clone();
        change(&mut frame);
        raw.send(&frame);
    }
    let mut third_tag = good[..12].to_vec();
    third_tag.extend_from_slice(&[0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3]);
    third_tag.extend_from_slice(&good[12..]);
    raw.send(&third_tag);
    // Extension headers: hop-by-hop options, routing, a fragment, destination options, none.
    for next_header in [0, 43, 44, 60, 59] {
        let mut frame = good6.clone();
        frame[20] = next_header;
        raw.send(&frame);
    }
    for len in 14..good6.len() {
        raw.send(&good6[..len]);
    }
    // IPv6 is complete from 62 bytes on; with less than its length it is taken and refused.
    raw.send(&good);
    let seen = common::collect(&mut a, 1);
    assert_eq!((seen[0].len, seen[0].fill), (50, 1));
    let stats = a.stats().snapshot();
    assert_eq!(stats.drop_rx_truncated, 7 + (good6.len() - 62) as u64, "{stats:?}");
    assert_eq!(backend(&a).frames().with_program, 0);
}
