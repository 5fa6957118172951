//! System calls of AF_XDP under load, by the counters: none per packet. Needs root; without it each story says that it was
//! skipped.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/xdp.rs"]
mod ends;
#[path = "common/netns.rs"]
mod netns;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Ended, addr, await_room, config, train};
use ends::{STEERING, by_kernel, echo, udp, xdp};
use netns::Pair;
use warpline_pktio::xdp::{InterfaceName, XdpConfig, XdpModes};
use warpline_pktio::{Io, IoConfig};

/// Packets that a system call moves at least.
const BATCH: u64 = 64;
/// Packets that arrive before the receiver looks: fewer than the kernel has room for on the way.
const BURST: usize = 128;
const BURSTS: usize = 200;

/// A receiver that looks for `spin` before it sleeps, and has the kernel run its queue for `budget` packets a look.
fn receiver(pair: &Pair, spin: Duration, budget: u16) -> Io {
    pair.inside(0, || {
        let interface = InterfaceName::new("wl0").expect("a short name");
        let xdp = XdpConfig { busy_poll_budget: budget, ..XdpConfig::new(interface) };
        let config = IoConfig { busy_poll: spin, ..config() };
        let mut group = Io::xdp_group(addr("10.77.0.1:4000"), 1, &config, xdp, &STEERING).expect("AF_XDP on veth");
        group.pop().expect("one worker")
    })
}

#[test]
fn bursts_are_received_without_a_call_per_packet() {
    let Some(pair) = Pair::new("calls") else { return };
    for (what, budget) in [("need-wakeup", 0), ("busy polling", 64)] {
        let mut a = receiver(&pair, Duration::ZERO, budget);
        let mut b = udp(&pair, 1, "10.77.0.2:4001");
        // Neighbours and routes are known from here on.
        echo(&mut b, &mut a, addr("10.77.0.1:4000"));
        let (before, mut batch) = (a.stats().snapshot(), Vec::new());
        for burst in 0..BURSTS {
            for _ in 0..BURST {
                train(&mut b, addr("10.77.0.1:4000"), 1000, 1000, burst as u8);
                b.flush().expect("the socket is usable");
            }
            while a.recv(&mut batch).expect("the socket is usable") > 0 {}
        }
        let after = a.stats().snapshot();
        let (packets, calls) = (after.rx_datagrams - before.rx_datagrams, after.syscalls() - before.syscalls());
        println!("{what}: {packets} packets, {calls} calls");
        assert!(packets > (BURSTS * BURST) as u64 * 9 / 10, "{what}: {packets} packets arrived");
        // One empty look after each burst is the only call; with need-wakeup not even that.
        assert!(calls * BATCH <= packets, "{what}: {calls} calls for {packets} packets");
        assert_eq!(by_kernel(&a), (0, 0));
    }
}

#[test]
fn a_receiver_that_spins_sleeps_only_when_nothing_comes() {
    let Some(pair) = Pair::new("steady") else { return };
    let mut a = receiver(&pair, Duration::from_millis(5), 0);
    let mut b = xdp(&pair, 1, "10.77.0.2:4001", XdpModes::Best);
    echo(&mut b, &mut a, addr("10.77.0.1:4000"));
    let (received, sent) = (a.stats().snapshot(), b.stats().snapshot());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ended = Ended(&done);
            for n in 0..2000 {
                for _ in 0..BURST {
                    await_room(&mut b);
                    train(&mut b, addr("10.77.0.1:4000"), 1000, 1000, n as u8);
                }
                b.flush().expect("the socket is usable");
            }
        });
        let mut batch = Vec::new();
        while !done.load(Ordering::Acquire) {
            if a.recv(&mut batch).expect("the socket is usable") == 0 {
                a.wait(Some(Duration::from_millis(20))).expect("the socket is usable");
            }
        }
    });
    let (received_now, sent_now) = (a.stats().snapshot(), b.stats().snapshot());
    let packets = received_now.rx_datagrams - received.rx_datagrams;
    let calls = received_now.syscalls() - received.syscalls();
    let (sent, sends) = (sent_now.tx_datagrams - sent.tx_datagrams, sent_now.syscalls() - sent.syscalls());
    println!("{packets} packets received with {calls} calls, {sent} sent with {sends}");
    assert!(packets > 10_000 && sent == 2000 * BURST as u64, "{received_now:?}");
    // How often the receiver has taken all that came, and sleeps, depends on who is faster: every 100 to 1,600 packets.
    assert!(calls * BATCH <= packets, "{calls} calls for {packets} packets received");
    // Before Linux 6.17 a call takes 32 packets.
    assert!(sends * BATCH / 2 <= sent, "{sends} calls for {sent} packets sent");
}
