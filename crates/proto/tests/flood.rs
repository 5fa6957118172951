//! A flood of Initial packets from addresses that nobody has: the memory of the server, by a counting allocator.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod common;

use std::alloc::System;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use common::tamper::{FirstInitial, Tampered};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use warpline_frame::Frame;
use warpline_proto::DatagramMeta;
use warpline_proto::config::TransportConfig;
use warpline_proto::limits::HALF_OPEN_MAX;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Initials in a second of virtual time, each of another address with a ClientHello that is in order.
const PER_SECOND: u64 = 100_000;

/// What a half-open connection may come to hold beside what it begins with: it says its flight again, until the limit of
/// anti-amplification. Ten bytes for each packet of the flood would be more.
const LATER_BYTES_MAX: isize = (HALF_OPEN_MAX / 2) as isize * 512;

/// Bytes that are allocated now.
fn allocated() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// Floods a server for `seconds`. What it holds is looked at twenty times a second; returns the most of the first second, in
/// which the half-open connections come about, and the most of all that follow.
fn flood(seconds: u64) -> (isize, isize) {
    let mut test = Tampered::new(&TransportConfig::default());
    test.pair.connect();
    let mut buf = vec![0; 65_536];
    let transmit = test.pair.client.poll_transmit(test.pair.now, &mut buf).unwrap();
    let first = FirstInitial::of(&buf[..transmit.len]);
    let before = allocated();
    let (mut early, mut late) = (0, 0);
    let (start, mut spent) = (test.pair.now, Duration::ZERO);
    let (mut received, mut sent) = (0, 0);
    for n in 0..seconds * PER_SECOND {
        let now = start + Duration::from_nanos(n * 1_000_000_000 / PER_SECOND);
        let host = u32::from(Ipv4Addr::new(11, 0, 0, 0)).wrapping_add(n as u32);
        let meta = DatagramMeta { remote: SocketAddr::new(Ipv4Addr::from(host).into(), 4_000), local: None, ecn: None };
        // IDs of clients are random: a server has no order in them to lean on.
        let id = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let datagram = first.to(&id);
        received += datagram.len();
        let began = std::time::Instant::now();
        test.pair.server.handle_datagram(now, &meta, &mut Frame::from_vec(datagram));
        if test.pair.server.next_timeout().is_some_and(|at| at <= now) {
            test.pair.server.handle_timeout(now);
        }
        while let Some(transmit) = test.pair.server.poll_transmit(now, &mut buf) {
            sent += transmit.len;
        }
        while test.pair.server.poll_event().is_some() {}
        spent += began.elapsed();
        if n % (PER_SECOND / 20) == 0 {
            let most = if n < PER_SECOND { &mut early } else { &mut late };
            *most = (*most).max(allocated() - before);
        }
        assert!(test.pair.server.len() <= HALF_OPEN_MAX);
    }
    let stats = test.pair.server.stats();
    println!(
        "{seconds} s at {PER_SECOND} Initials a second: {early} bytes at most in the first second, {late} afterwards; {} half open, \
         {} accepted, {} Retry; {:.0} Initials a second of real time on this core; {:.2} bytes sent for each received",
        test.pair.server.len(),
        stats.accepted,
        stats.retries,
        (seconds * PER_SECOND) as f64 / spent.as_secs_f64(),
        sent as f64 / received as f64,
    );
    assert!(stats.retries > seconds * PER_SECOND * 9 / 10, "{stats:?}");
    assert!(sent <= 3 * received);
    (early, late)
}

#[test]
fn memory_does_not_grow_under_spoofed_initials() {
    let (early, late) = flood(3);
    assert!(late <= early + LATER_BYTES_MAX, "{early} bytes in the first second, then {late}");
}

/// The same for half a minute, in which the first of the half-open connections are given up.
#[test]
#[ignore = "takes a minute: cargo test --release -p warpline-proto --test flood -- --ignored --nocapture"]
fn memory_does_not_grow_in_half_a_minute() {
    let (early, late) = flood(30);
    assert!(late <= early + LATER_BYTES_MAX, "{early} bytes in the first second, then {late}");
}
