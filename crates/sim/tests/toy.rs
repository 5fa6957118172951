//! The simulator itself, shown with the smallest protocol that can do anything: stop and wait. The client sends numbered
//! packets of pattern content, the server acknowledges each; whatever is not acknowledged in time is sent again.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use warpline_sim::check::{AntiAmplification, Liveness, Pattern};
use warpline_sim::hop::{
    BlackHole, Bottleneck, BottleneckConfig, Corrupt, Delay, Duplicate, Hop, Loss, Nat, Reorder, Ways,
};
use warpline_sim::log::Log;
use warpline_sim::path::Path;
use warpline_sim::world::{Limits, NodeId, World};
use warpline_sim::{Codepoint, Instant, Node, Packet, Report, Rng, Tally, address};

const BLOCK: usize = 1_000;
const RETRY: Duration = Duration::from_millis(200);

struct Sender {
    address: SocketAddr,
    blocks: u64,
    acknowledged: u64,
    due: Option<Instant>,
    begun: bool,
}

impl Sender {
    fn new(address: SocketAddr, blocks: u64) -> Self {
        Self { address, blocks, acknowledged: 0, due: None, begun: false }
    }
}

impl Node for Sender {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn handle_datagram(&mut self, now: Instant, packet: Packet) {
        let number = <[u8; 8]>::try_from(&packet.payload[..]).ok().map(u64::from_be_bytes);
        if number == Some(self.acknowledged) {
            self.acknowledged += 1;
            self.due = Some(now);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.begun = true;
        self.due = Some(now);
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Vec<Packet>) {
        if !self.begun || self.is_done() || self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = Some(now + RETRY);
        let mut content = Pattern::new(1);
        content.generate(self.acknowledged as usize * BLOCK);
        let mut payload = self.acknowledged.to_be_bytes().to_vec();
        payload.extend(content.generate(BLOCK));
        // A check sum stands in for the AEAD.
        payload.extend(sum(&payload).to_be_bytes());
        out.push(Packet { src: self.address, dst: address::SERVER, ecn: Codepoint::Ect0, payload });
    }

    fn next_timeout(&self) -> Option<Instant> {
        if self.is_done() { None } else { self.due }
    }

    fn is_done(&self) -> bool {
        self.acknowledged == self.blocks
    }

    fn tally(&self) -> Tally {
        Tally { completed: self.acknowledged, ..Tally::default() }
    }

    fn report(&self) -> Report {
        Report { done: self.is_done(), tally: self.tally(), faults: Vec::new() }
    }
}

#[derive(Default)]
struct Receiver {
    next: u64,
    content: Option<Pattern>,
    answers: Vec<Packet>,
    faults: Vec<String>,
}

impl Node for Receiver {
    fn address(&self) -> SocketAddr {
        address::SERVER
    }

    fn handle_datagram(&mut self, _now: Instant, packet: Packet) {
        if packet.payload.len() != BLOCK + 16 {
            return;
        }
        let (body, check) = packet.payload.split_at(BLOCK + 8);
        if sum(body).to_be_bytes() != check {
            return;
        }
        let (number, block) = body.split_at(8);
        let number = number.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        if number == self.next {
            self.next += 1;
            let content = self.content.get_or_insert_with(|| Pattern::new(1));
            if let Err(at) = content.verify(block) {
                self.faults.push(format!("wrong byte at {at}"));
            }
        }
        if number < self.next {
            let payload = number.to_be_bytes().to_vec();
            self.answers.push(Packet { src: address::SERVER, dst: packet.src, ecn: Codepoint::NotEct, payload });
        }
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_transmit(&mut self, _now: Instant, out: &mut Vec<Packet>) {
        out.append(&mut self.answers);
    }

    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    fn is_done(&self) -> bool {
        true
    }

    fn tally(&self) -> Tally {
        Tally { delivered_bytes: self.next * BLOCK as u64, ..Tally::default() }
    }

    fn report(&self) -> Report {
        Report { done: true, tally: self.tally(), faults: self.faults.clone() }
    }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn at(duration: Duration) -> Instant {
    Instant::from_nanos(0) + duration
}

fn bad_network(rng: &mut Rng) -> Path {
    let nat = Nat::new(address::outside(0, 1)).rebind_port(at(Duration::from_secs(2)));
    let dark = at(Duration::from_secs(1))..at(Duration::from_millis(1_500));
    let hops: Vec<Box<dyn Hop>> = vec![
        Box::new(nat),
        Box::new(Loss::new(Ways::Both, 0.1)),
        Box::new(BlackHole::new(Ways::Both, vec![dark])),
        Box::new(Bottleneck::new(BottleneckConfig {
            bits_per_s: 2_000_000,
            queue_bytes: 30_000,
            ce_above_bytes: None,
        })),
        Box::new(Delay::new(Duration::from_millis(10))),
        Box::new(Reorder::new(0.1, Duration::from_millis(40))),
        Box::new(Duplicate::new(0.1, Duration::from_millis(40))),
        Box::new(Corrupt::new(0.05)),
    ];
    Path::new(hops, rng.fork())
}

fn run(seed: u64, path: impl FnOnce(&mut Rng) -> Path, deadline: Duration) -> (Result<(), String>, World) {
    let path = path(&mut Rng::new(seed));
    let rtt = 2 * path.least_delay();
    let sender = Box::new(Sender::new(address::client(0), 200));
    let limits = Limits { deadline, events_max: 1_000_000 };
    let mut world = World::new(Box::new(Receiver::default()), vec![(sender, path)], limits, Log::new(false));
    world.watch(Box::new(Liveness::new(Duration::from_secs(10))));
    world.watch(Box::new(AntiAmplification::new(rtt)));
    (world.run(), world)
}

#[test]
fn everything_arrives_over_a_bad_network() {
    for seed in 0..20 {
        let (result, world) = run(seed, bad_network, Duration::from_secs(300));
        assert_eq!(result, Ok(()), "seed {seed}");
        let report = world.node(NodeId::SERVER).report();
        assert_eq!((report.tally.delivered_bytes, report.faults), (200_000, vec![]), "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let (_, world) = run(seed, bad_network, Duration::from_secs(300));
        (world.now(), world.log().events(), world.log().hash())
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn virtual_time_is_what_the_path_makes_it() {
    let delay = |rng: &mut Rng| Path::new(vec![Box::new(Delay::new(Duration::from_millis(500)))], rng.fork());
    // The retry timer of 200 ms is shorter than the round trip of a second, so each block is sent five times.
    let (result, world) = run(1, delay, Duration::from_secs(300));
    assert_eq!(result, Ok(()));
    assert_eq!(world.now(), at(Duration::from_secs(200)));
}

#[test]
fn a_dead_path_is_reported_as_no_progress() {
    let dead = |rng: &mut Rng| Path::new(vec![Box::new(Loss::new(Ways::Both, 1.0))], rng.fork());
    let (result, _) = run(1, dead, Duration::from_secs(300));
    assert!(result.unwrap_err().starts_with("no progress"));
}
