//! Waiting, on every backend: what ends it, and that nothing that should end it is lost.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{addr, collect, config, train, unless_refused};
use warpline_pktio::{Backend, Io, IoConfig, memory};

/// A pair of each kind.
fn pairs(config: &IoConfig) -> Vec<(Io, Io)> {
    let port = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let mut pairs = vec![memory::pair(port(1), port(2)).expect("the addresses differ")];
    let plain = || Io::portable(addr("127.0.0.1:0"), config).expect("loopback has free ports");
    pairs.push((plain(), plain()));
    for backend in [Backend::Udp, Backend::Uring] {
        let one = || Io::bind(addr("127.0.0.1:0"), &IoConfig { backend, ..*config });
        pairs.extend(unless_refused(one()).zip(unless_refused(one())));
    }
    pairs
}

#[test]
fn a_ring_before_the_wait_is_remembered() {
    for (mut io, _) in pairs(&config()) {
        let bell = io.doorbell();
        bell.ring();
        bell.ring();
        io.wait(None).unwrap();
        bell.clone().ring();
        io.wait(None).unwrap();
    }
}

/// Every round sleeps without a limit until the other thread rings: a lost ring would hang the test.
#[test]
fn rings_wake_a_sleeper() {
    for (mut io, _) in pairs(&config()) {
        let rounds = Arc::new(AtomicUsize::new(0));
        let (bell, seen) = (io.doorbell(), rounds.clone());
        let ringer = thread::spawn(move || {
            for round in 1..=500 {
                while seen.load(Ordering::Acquire) < round {
                    thread::yield_now();
                }
                if round % 7 == 0 {
                    thread::sleep(Duration::from_micros(200));
                }
                bell.ring();
            }
        });
        for round in 1..=500 {
            rounds.store(round, Ordering::Release);
            io.wait(None).unwrap();
        }
        // Waits may end early, so the ringer may still be busy; its rings are remembered and harm nobody.
        rounds.store(usize::MAX, Ordering::Release);
        ringer.join().unwrap();
    }
}

#[test]
fn datagrams_wake_a_sleeper() {
    for busy_poll in [Duration::ZERO, Duration::from_millis(1)] {
        for (mut a, mut b) in pairs(&IoConfig { busy_poll, ..config() }) {
            let to = b.local_addr();
            let sender = thread::spawn(move || {
                for n in 0..50 {
                    train(&mut a, to, 3000, 1200, n);
                    a.flush().unwrap();
                    thread::sleep(Duration::from_micros(100));
                }
                a
            });
            let mut seen = 0;
            let mut batch = Vec::new();
            while seen < 150 {
                b.wait(None).unwrap();
                b.recv(&mut batch).unwrap();
                seen += batch.iter().map(|r| r.count()).sum::<usize>();
            }
            sender.join().unwrap();
        }
    }
}

#[test]
fn a_wait_with_nothing_to_wait_for_ends_by_time() {
    for busy_poll in [Duration::ZERO, Duration::from_micros(300)] {
        for (mut io, _) in pairs(&IoConfig { busy_poll, ..config() }) {
            for timeout in [0, 1, 5] {
                io.wait(Some(Duration::from_millis(timeout))).unwrap();
            }
            assert_eq!(io.recv(&mut Vec::new()).unwrap(), 0);
        }
    }
}

#[test]
fn a_doorbell_outlives_its_worker() {
    for (io, _) in pairs(&config()) {
        let bell = io.doorbell();
        drop(io);
        bell.ring();
    }
}

#[test]
fn every_backend_carries_trains() {
    for (mut a, mut b) in pairs(&config()) {
        let (from, to) = (a.local_addr(), b.local_addr());
        for _ in 0..10 {
            train(&mut a, to, 10_100, 1000, 0);
            a.flush().unwrap();
            let seen = collect(&mut b, 11);
            assert!(seen.iter().enumerate().all(|(n, d)| usize::from(d.fill) == n && d.remote == from));
        }
        let (sent, received) = (a.stats().snapshot(), b.stats().snapshot());
        assert_eq!((sent.tx_datagrams, received.rx_datagrams), (110, 110));
        assert_eq!((sent.tx_bytes, received.rx_bytes), (101_000, 101_000));
    }
}
