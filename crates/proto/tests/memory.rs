//! What an idle connection of a server costs: bytes by a counting allocator, for many connections in one process.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod common;

use std::alloc::System;
use std::time::Duration;

use common::{ALPN, Pair, Transfer};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use warpline_frame::Frame as Memory;
use warpline_proto::config::{ClientConfig, ServerConfig, TlsOptions, TransportConfig, Trust};
use warpline_proto::{DatagramMeta, Endpoint, Event, PacketCrypto, provider};

/// Bytes that an idle connection of a server may cost, TLS included.
const IDLE_BYTES_MAX: isize = 13 * 1024;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that are allocated now.
fn allocated() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// Bytes that are allocated and of which nothing is used.
fn untouched(endpoint: &Endpoint) -> isize {
    endpoint.untouched_bytes() as isize
}

/// Runs a part of the server's work and adds the bytes that it keeps to `held`.
fn counted<R>(held: &mut isize, f: impl FnOnce() -> R) -> R {
    let before = allocated();
    let result = f();
    *held += allocated() - before;
    result
}

/// Two endpoints whose packets are sealed by this library: keys of libraries differ in size, and which one is the fastest is measured.
fn pair(crypto: PacketCrypto) -> Pair {
    let transport = TransportConfig { max_idle_timeout: None, ..TransportConfig::default() };
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = identity.signing_key.serialize_der().try_into().unwrap();
    let server = ServerConfig::with_packet_crypto(crypto, vec![identity.cert.der().clone()], key, &[ALPN]).unwrap();
    let mut pair = Pair::with_server(&transport, server.transport(transport.clone()).unwrap());
    let options = TlsOptions { crypto, ..TlsOptions::default() };
    let client = ClientConfig::with_options(&Trust::Anyone, &[ALPN], &options, None).unwrap();
    pair.client_config = client.transport(transport).unwrap();
    pair
}

/// Connects `count` clients one after the other and gives the bytes that the server holds for each.
fn bytes_per_connection(crypto: PacketCrypto, count: usize) -> isize {
    let mut pair = pair(crypto);
    let mut buf = vec![0; 65_536];
    let mut held = 0;
    for i in 0..count {
        let client = pair.connect();
        let remote = format!("10.{}.{}.1:{}", i / 250, i % 250, 1_000 + i % 50_000).parse().unwrap();
        let to_server = DatagramMeta { remote, local: None, ecn: None };
        let to_client = DatagramMeta { remote: pair.server_addr, local: None, ecn: None };
        // Until neither side has anything to say for a while.
        for _ in 0..60 {
            pair.now += Duration::from_millis(20);
            let now = pair.now;
            pair.client.handle_timeout(now);
            counted(&mut held, || pair.server.handle_timeout(now));
            while let Some(transmit) = pair.client.poll_transmit(now, &mut buf) {
                for datagram in buf[..transmit.len].chunks(transmit.segment_size) {
                    counted(&mut held, || {
                        let mut memory = Memory::from_vec(datagram.to_vec());
                        pair.server.handle_datagram(now, &to_server, &mut memory);
                    });
                }
            }
            counted(&mut held, || while pair.server.poll_event().is_some() {});
            while let Some(transmit) = counted(&mut held, || pair.server.poll_transmit(now, &mut buf)) {
                for datagram in buf[..transmit.len].chunks(transmit.segment_size) {
                    pair.client.handle_datagram(now, &to_client, &mut Memory::from_vec(datagram.to_vec()));
                }
            }
        }
        let mut connected = false;
        while let Some((_, event)) = pair.client.poll_event() {
            connected |= event == Event::Connected;
        }
        assert!(connected && pair.client.peek(client).is_some());
    }
    assert_eq!(pair.server.len(), count);
    (held - untouched(&pair.server)) / count as isize
}

/// One test for both, since the allocator counts what the whole process does.
#[test]
fn an_idle_connection_costs_little_before_and_after_work() {
    let libraries = [PacketCrypto::WarplineGcm, PacketCrypto::AwsLc, PacketCrypto::Ring];
    for crypto in libraries.into_iter().filter(|crypto| provider::provider(*crypto).is_ok()) {
        a_connection_that_has_worked_costs_little_again(crypto);
        let bytes = bytes_per_connection(crypto, 500);
        println!("{}: {bytes} bytes for each idle connection of a server", crypto.name());
        assert!(bytes <= IDLE_BYTES_MAX, "{bytes} bytes with {}", crypto.name());
    }
}

/// What a transfer needed is given back when the connection rests.
fn a_connection_that_has_worked_costs_little_again(crypto: PacketCrypto) {
    let mut pair = pair(crypto);
    let before = allocated();
    let handles = pair.established();
    let (client, server) = handles;
    for _ in 0..3 {
        let mut upload = Transfer::open(&mut pair.client, client, 20_000_000);
        let mut download = Transfer::open(&mut pair.server, server, 20_000_000);
        pair.run_until(Duration::from_secs(60), |p| {
            upload.pump(p.now, (&mut p.client, client), (&mut p.server, server));
            download.pump(p.now, (&mut p.server, server), (&mut p.client, client));
            upload.done && download.done
        });
    }
    let held = |pair: &Pair| allocated() - before - untouched(&pair.client) - untouched(&pair.server);
    let working = held(&pair);
    pair.run_for(Duration::from_secs(25));
    pair.tidy();
    let resting = held(&pair);
    println!("{}: {working} bytes for both ends while they work, {resting} when they rest", crypto.name());
    // Keys of libraries lie elsewhere, and have the place of ours in the connection.
    assert!(resting <= 2 * IDLE_BYTES_MAX + 13 * 1024, "{resting} bytes for both ends, from {working}");
}

/// The same for as many as a busy server has; takes a minute.
#[test]
#[ignore = "takes a minute: cargo test -p warpline-proto --test memory -- --ignored --nocapture"]
fn twenty_thousand_idle_connections() {
    let bytes = bytes_per_connection(PacketCrypto::Auto, 20_000);
    println!("{bytes} bytes for each of 20,000 idle connections of a server");
    assert!(bytes <= IDLE_BYTES_MAX, "{bytes} bytes");
}
