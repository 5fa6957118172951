//! A socket that is full: in a network namespace of its own, loopback is throttled so that sent datagrams stay charged
//! to the sender's tiny buffer. Nothing may be lost or reordered. Needs root, `ip` and `tc`; without them it says so.
#![cfg(target_os = "linux")]

mod common;

use std::process::Command;
use std::thread;

use common::{LOOK, LOOKS, addr, collect, config, train};
use warpline_pktio::{Backend, Io, IoConfig};

/// Puts this thread into a fresh namespace (it goes with the thread) whose loopback carries 80 Mbit/s.
fn throttled_loopback() -> Result<(), String> {
    // SAFETY: a new network namespace for this thread concerns only sockets opened later.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(format!("no network namespace: {}", std::io::Error::last_os_error()));
    }
    for command in ["ip link set lo up", "tc qdisc add dev lo root tbf rate 80mbit burst 16kb limit 4mb"] {
        let mut words = command.split(' ');
        let status = Command::new(words.next().unwrap_or_default()).args(words).status();
        match status {
            Ok(status) if status.success() => (),
            other => return Err(format!("`{command}`: {other:?}")),
        }
    }
    Ok(())
}

#[test]
fn what_finds_no_room_is_sent_later_and_in_order() {
    let story = thread::spawn(|| {
        if let Err(reason) = throttled_loopback() {
            println!("skipped: {reason}");
            return;
        }
        for (backend, gso) in
            [(Backend::Udp, false), (Backend::Udp, true), (Backend::Uring, false), (Backend::Uring, true)]
        {
            let config = IoConfig { send_buffer: 4096, gso, backend, ..config() };
            let mut a = Io::bind(addr("127.0.0.1:0"), &config).expect("loopback is up");
            let mut b = Io::bind(addr("127.0.0.1:0"), &config).expect("loopback is up");
            let to = b.local_addr();
            for n in 0..20 {
                train(&mut a, to, 10_000, 1_000, n * 10);
            }
            a.flush().expect("the socket is usable");
            assert!(a.tx_pending() > 0, "the buffer is smaller than what was sent");
            let mut seen = Vec::new();
            for _ in 0..LOOKS {
                if a.tx_pending() == 0 {
                    break;
                }
                a.wait(Some(LOOK)).expect("the socket is usable");
                a.flush().expect("the socket is usable");
            }
            seen.extend(collect(&mut b, 200));
            assert!(seen.iter().enumerate().all(|(n, d)| (usize::from(d.fill), d.len) == (n, 1_000)));
            let stats = a.stats().snapshot();
            assert!(stats.tx_blocked > 0);
            assert_eq!((stats.tx_datagrams, stats.drop_tx_refused, stats.gso_refused), (200, 0, 0));
        }
    });
    story.join().expect("the story holds");
}
