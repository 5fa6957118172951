//! What is particular to a socket behind a ring: overflow, starvation, closing with requests pending, threads.
#![cfg(target_os = "linux")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{Ended, LOOKS, addr, collect, config, datagrams, socket, train, unless_refused};
use warpline_pktio::{Backend, Io, IoConfig, limits};

/// A socket behind a ring, or `None`, said in one line.
fn ring() -> Option<Io> {
    socket(Backend::Uring, "127.0.0.1:0")
}

#[test]
fn ten_times_what_the_queue_holds_leaves_in_order() {
    let (Some(mut a), Some(mut b)) = (ring(), ring()) else { return };
    let (to, count) = (b.local_addr(), 10 * limits::TX_TRAINS_MAX);
    let (mut seen, mut batch) = (Vec::new(), Vec::new());
    for n in 0..count {
        train(&mut a, to, 100, 100, n as u8);
        // Not flushed: what has no room any more leaves by itself.
        a.flush_soon().expect("the socket is usable");
        if n % 100 == 0 {
            b.recv(&mut batch).expect("the socket is usable");
            seen.extend(batch.drain(..).flat_map(datagrams));
        }
    }
    a.flush().expect("the socket is usable");
    assert_eq!(a.tx_pending(), 0);
    let rest = count - seen.len();
    seen.extend(collect(&mut b, rest));
    assert!(seen.iter().enumerate().all(|(n, datagram)| datagram.fill == n as u8));
    let stats = a.stats().snapshot();
    assert_eq!((stats.tx_datagrams, stats.tx_trains), (count as u64, count as u64));
    assert!(stats.syscalls() <= 12, "64 trains leave in one call: {stats:?}");
}

#[test]
fn what_is_put_off_leaves_with_the_next_look_or_the_wait() {
    let (Some(mut a), Some(mut b)) = (ring(), ring()) else { return };
    let to = b.local_addr();
    for (n, look) in [true, false].into_iter().enumerate() {
        train(&mut a, to, 10, 10, n as u8);
        a.flush_soon().expect("the socket is usable");
        assert_eq!(b.recv(&mut Vec::new()).expect("the socket is usable"), 0, "it is still in the queue");
        let before = a.stats().snapshot().syscalls();
        if look {
            a.recv(&mut Vec::new()).expect("the socket is usable");
        } else {
            a.wait(Some(Duration::from_millis(1))).expect("the socket is usable");
        }
        assert_eq!(a.stats().snapshot().syscalls() - before, 1);
        assert_eq!(collect(&mut b, 1)[0].fill, n as u8);
    }
}

#[test]
fn looks_in_vain_are_no_system_calls() {
    let (Some(mut a), Some(mut b)) = (ring(), ring()) else { return };
    assert_eq!(a.recv(&mut Vec::new()).expect("the socket is usable"), 0);
    let before = a.stats().snapshot().syscalls();
    for _ in 0..1000 {
        assert_eq!(a.recv(&mut Vec::new()).expect("the socket is usable"), 0);
        assert!(a.is_drained());
        a.flush_soon().expect("nothing is queued");
    }
    assert_eq!(a.stats().snapshot().syscalls(), before);
    // … and what arrives is announced without one.
    let to = a.local_addr();
    train(&mut b, to, 10, 10, 1);
    b.flush().expect("the socket is usable");
    assert!((0..LOOKS).any(|_| {
        thread::sleep(Duration::from_millis(1));
        !a.is_drained()
    }));
    collect(&mut a, 1);
}

#[test]
fn more_datagrams_than_buffers_are_received_in_several_rounds() {
    let (Some(mut a), Some(mut b)) = (ring(), ring()) else { return };
    let (to, count) = (b.local_addr(), 8 * limits::URING_BUFFERS);
    b.recv(&mut Vec::new()).expect("reception begins");
    for n in 0..count {
        train(&mut a, to, 50, 50, n as u8);
        a.flush().expect("the socket is usable");
    }
    let seen = collect(&mut b, count);
    assert!(seen.iter().enumerate().all(|(n, datagram)| datagram.fill == n as u8));
    assert!(b.stats().snapshot().rx_starved > 0, "there are fewer buffers than datagrams");
}

#[test]
fn empty_datagrams_do_not_end_reception() {
    let (Some(mut a), Some(mut b)) = (ring(), ring()) else { return };
    let plain = std::net::UdpSocket::bind("127.0.0.1:0").expect("there are free ports");
    let to = b.local_addr();
    for n in 0..5 {
        plain.send_to(&[], to).expect("loopback takes it");
        train(&mut a, to, 10, 10, n);
        a.flush().expect("the socket is usable");
        assert_eq!(collect(&mut b, 1)[0].fill, n);
    }
    assert_eq!(b.stats().snapshot().drop_rx_truncated, 5);
}

/// A ring is closed while the kernel receives into its buffers and while sends are queued, again and again; the frames go
/// back to the allocator each time, so a late write would hit somebody else's memory.
#[test]
fn closing_with_requests_pending_leaves_nothing_behind() {
    let Some(first) = ring() else { return };
    let to = first.local_addr();
    drop(first);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("there are free ports");
            while !stop.load(Ordering::Relaxed) {
                // Nobody listens in between, which is no failure.
                drop(socket.send_to(&[7; 1200], to));
            }
        });
        let _ended = Ended(&stop);
        let files = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let mut before = 0;
        for round in 0..60 {
            let config = IoConfig { backend: Backend::Uring, ..config() };
            let mut io = Io::bind(to, &config).expect("the ring that was closed left the address");
            let mut kept = Vec::new();
            for _ in 0..round % 4 {
                let mut batch = Vec::new();
                io.recv(&mut batch).expect("the socket is usable");
                kept.append(&mut batch);
            }
            if round % 3 == 0 {
                train(&mut io, addr("127.0.0.1:9"), 1000, 100, 0);
                io.flush_soon().expect("the socket is usable");
            }
            drop(io);
            assert!(kept.iter().all(|received| received.frame.iter().all(|&byte| byte == 7)));
            if round == 10 {
                before = files();
            }
        }
        // Tests beside this one open and close files too.
        assert!(files() <= before + 40, "descriptors are closed: {before} before, {} after", files());
    });
}

#[test]
fn what_was_put_off_leaves_when_the_ring_closes() {
    let (Some(mut a), Some(mut b)) = (ring(), ring()) else { return };
    let to = b.local_addr();
    train(&mut a, to, 500, 100, 1);
    a.flush_soon().expect("the socket is usable");
    drop(a);
    collect(&mut b, 5);
}

#[test]
fn a_ring_may_move_to_a_thread_before_its_first_use_and_not_after() {
    let (Some(mut a), Some(mut b)) = (ring(), ring()) else { return };
    let to = b.local_addr();
    let mut a = thread::spawn(move || {
        train(&mut a, to, 10, 10, 1);
        a.flush().map(|()| a)
    })
    .join()
    .expect("no panic")
    .expect("this thread is the first to use it");
    collect(&mut b, 1);
    let error = a.recv(&mut Vec::new()).expect_err("another thread has used it");
    assert!(error.to_string().contains("thread"), "{error}");
}

#[test]
fn with_a_polling_thread_any_thread_may_use_it_and_the_steady_state_is_free() {
    let config = IoConfig { backend: Backend::Uring, sq_poll: Duration::from_secs(10), ..config() };
    let one = || Io::bind(addr("127.0.0.1:0"), &config);
    let (Some(mut a), Some(mut b)) = (unless_refused(one()), unless_refused(one())) else { return };
    let (from, to) = (a.local_addr(), b.local_addr());
    let mut batch = Vec::new();
    let mut exchange = |rounds: usize| {
        for n in 0..rounds {
            for (io, peer) in [(&mut a, to), (&mut b, from)] {
                train(io, peer, 3000, 1000, n as u8);
                io.flush_soon().expect("the socket is usable");
            }
            let mut seen = [0; 2];
            for _ in 0..1_000_000 {
                for (io, seen) in [&mut a, &mut b].into_iter().zip(&mut seen) {
                    io.recv(&mut batch).expect("the socket is usable");
                    *seen += batch.drain(..).map(|received| received.count()).sum::<usize>();
                }
                if seen == [3, 3] {
                    break;
                }
                thread::yield_now();
            }
            assert_eq!(seen, [3, 3], "datagrams that arrived");
        }
        a.stats().snapshot().syscalls() + b.stats().snapshot().syscalls()
    };
    let before = exchange(10);
    let after = exchange(100);
    assert!(after - before <= 2, "{} calls for 200 trains; the threads sleep after ten seconds only", after - before);
}
