//! The parts. Each does its work some hundred times within [`counted`] and says how many operations that was.

use rustls::Side;
use rustls::quic::Version;
use warpline::Chunk;
use warpline_proto::{Endpoint, PacketCrypto, StreamId, provider};
use warpline_wire::frame::{self, Frame};
use warpline_wire::{Reader, Writer, header};

use super::crowd::{Crowd, Talk};
use super::pair::{Configs, Pair};
use super::{Unit, counted};

/// A part.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: &'static str,
    /// What is counted.
    pub(super) unit: Unit,
    /// What one operation is.
    pub(super) per: &'static str,
    /// Does it, and returns the number of operations.
    pub(super) run: fn() -> u64,
}

/// All parts.
pub(super) const PARTS: &[Part] = &[
    instructions("header-short", "packet", short_headers),
    instructions("header-long", "packet", long_headers),
    instructions("frames", "packet of an ACK and five STREAM frames", frames),
    instructions("seal", "packet of 1,433 bytes", || cipher(true)),
    instructions("open", "packet of 1,433 bytes", || cipher(false)),
    instructions("stream-write", "chunk of 16 KiB", || bulk(Count::Write)),
    instructions("packet-build", "packet, sealed", || bulk(Count::Build)),
    instructions("packet-receive", "packet, opened", || bulk(Count::Receive)),
    instructions("stream-read", "chunk of a packet", || bulk(Count::Read)),
    instructions("ack-build", "packet with an ACK", || bulk(Count::AckBuild)),
    instructions("ack-process", "packet that is acknowledged", || bulk(Count::AckProcess)),
    instructions("timers", "look at the timers of both sides", || bulk(Count::Timers)),
    instructions("handshake", "handshake, both sides", handshakes),
    lines("lines-message", "message, its echo and the acknowledgement", || crowd(Talk::Messages)),
    lines("lines-request", "request and response on a stream of their own", || crowd(Talk::Requests)),
];

const fn instructions(name: &'static str, per: &'static str, run: fn() -> u64) -> Part {
    Part { name, unit: Unit::Instructions, per, run }
}

const fn lines(name: &'static str, per: &'static str, run: fn() -> u64) -> Part {
    Part { name, unit: Unit::Lines, per, run }
}

const TIMES: u64 = 1_000;

fn short_headers() -> u64 {
    let mut datagram = vec![0x5a; 1452];
    datagram[0] = 0x41;
    parse_headers(&datagram)
}

fn long_headers() -> u64 {
    let mut datagram = vec![0x5a; 1452];
    // A Handshake packet of version 1 with IDs of 8 bytes and a length of 1,200.
    let head = [0xe1, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 7, 6, 5, 4, 3, 2, 1, 0x44, 0xb0];
    datagram[..head.len()].copy_from_slice(&head);
    parse_headers(&datagram)
}

fn parse_headers(datagram: &[u8]) -> u64 {
    counted(|| (0..TIMES).filter(|_| header::parse(std::hint::black_box(datagram), 8).is_ok()).count() as u64)
}

fn frames() -> u64 {
    let mut payload = [0; 1452];
    let mut w = Writer::new(&mut payload);
    frame::encode_ack(&mut w, 7, [90..=100, 70..=80, 1..=60].into_iter(), None);
    for id in 0..5 {
        let stream = frame::StreamHeader { id: StreamId(id * 4), offset: 70_000, len: Some(200), fin: false };
        stream.encode(&mut w);
        w.slice(&[0x5a; 200]);
    }
    let len = w.position();
    counted(|| {
        let mut acknowledged = 0;
        for _ in 0..TIMES {
            let mut r = Reader::new(std::hint::black_box(&payload[..len]));
            while !r.is_empty() {
                if let Ok(Frame::Ack(ack)) = frame::decode(&mut r) {
                    acknowledged += ack.ranges().map(|range| range.end() - range.start() + 1).sum::<u64>();
                }
            }
        }
        assert_eq!(acknowledged, TIMES * 82);
        TIMES
    })
}

fn cipher(seal: bool) -> u64 {
    let provider = provider::provider(PacketCrypto::AwsLc).expect("it runs everywhere");
    let suite = provider.cipher_suites.iter().find_map(|suite| suite.tls13()?.quic_suite());
    let suite = suite.expect("the suites are those of QUIC");
    let near = suite.keys(&[7; 8], Side::Client, Version::V1);
    let far = suite.keys(&[7; 8], Side::Server, Version::V1);
    let mut packet = vec![0x5a; 1433];
    for number in 0..TIMES {
        packet.truncate(1433);
        let sealing = || near.local.packet.encrypt_in_place(number, &[0x40; 13], &mut packet);
        let tag = within(seal, sealing);
        packet.extend_from_slice(tag.expect("it is below the cipher's limit").as_ref());
        let opening = || far.remote.packet.decrypt_in_place(number, &[0x40; 13], &mut packet).is_ok();
        assert!(within(!seal, opening));
    }
    TIMES
}

/// What is counted of a bulk transfer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Count {
    Write,
    Build,
    Receive,
    Read,
    AckBuild,
    AckProcess,
    Timers,
}

/// A transfer from the server to the client without loss.
fn bulk(count: Count) -> u64 {
    let mut pair = Pair::connected();
    let id = pair.open();
    let block = Chunk::from(vec![0x5a; 16 << 10]);
    let mut operations = 0;
    for round in 0..300 {
        // The first rounds grow the congestion window and the pools.
        let is_warm = round >= 100;
        let of = |what| is_warm && count == what;
        let counts = |what, number: u64| if of(what) { number } else { 0 };
        loop {
            let mut chunk = block.clone();
            let written = within(of(Count::Write), || pair.write(id, &mut chunk));
            operations += counts(Count::Write, u64::from(written > 0));
            if !chunk.is_empty() {
                break;
            }
        }
        let packets = pair
            .datagrams(false, |endpoint, now, buffer| within(of(Count::Build), || endpoint.poll_transmit(now, buffer)));
        let number = packets.len() as u64;
        for what in [Count::Build, Count::Receive, Count::AckProcess] {
            operations += counts(what, number);
        }
        for mut packet in packets {
            let now = pair.now;
            within(of(Count::Receive), || pair.client.handle_datagram(now, &Pair::meta(true), &mut packet));
        }
        let chunks = within(of(Count::Read), || pair.read(id));
        operations += counts(Count::Read, chunks);
        let acks = pair.datagrams(true, |endpoint: &mut Endpoint, now, buffer| {
            within(of(Count::AckBuild), || endpoint.poll_transmit(now, buffer))
        });
        operations += counts(Count::AckBuild, acks.len() as u64);
        for mut ack in acks {
            let now = pair.now;
            within(of(Count::AckProcess), || pair.server.handle_datagram(now, &Pair::meta(false), &mut ack));
        }
        while pair.server.poll_event().is_some() {}
        within(of(Count::Timers), || pair.pass_time());
        operations += counts(Count::Timers, 1);
    }
    operations
}

/// Does `operation`, counted if it is the one that is meant.
fn within<T>(is_meant: bool, operation: impl FnOnce() -> T) -> T {
    if is_meant { counted(operation) } else { operation() }
}

fn handshakes() -> u64 {
    const HANDSHAKES: u64 = 20;
    for _ in 0..HANDSHAKES {
        let configs = Configs::new();
        counted(|| Pair::connect(&configs));
    }
    HANDSHAKES
}

/// The server's part of what connections do in turn, so many of them that no cache keeps any until its next turn.
fn crowd(talk: Talk) -> u64 {
    const CONNECTIONS: usize = 150;
    const WARM: u64 = 3;
    const ROUNDS: u64 = 6;
    let mut crowd = Crowd::new(&Configs::prompt(PacketCrypto::AwsLc), CONNECTIONS);
    let mut operations = 0;
    for round in 0..WARM + ROUNDS {
        let served = crowd.round(talk, |serve| if round < WARM { serve() } else { counted(serve) });
        operations += if round < WARM { 0 } else { served };
    }
    operations
}
