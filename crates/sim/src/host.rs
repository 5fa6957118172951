//! A host: the production endpoint, or several, with an application on top, as a node of the simulated network.

use std::net::SocketAddr;

use warpline_frame::Frame;
use warpline_proto::{BATCH_MAX, DatagramMeta, Ecn, Kept};

use crate::app::App;
use crate::workers::Workers;
use crate::{Codepoint, Instant, Node, Packet, Report, Tally};

/// What `poll_transmit` may fill: as large as the kernel takes a train.
const TRAIN_LEN_MAX: usize = 64 << 10;

/// Rounds of events and actions in one turn; more means that the two never come to rest.
const ROUNDS_MAX: usize = 100_000;

/// Endpoints and their application.
#[derive(Debug)]
pub struct Host<A> {
    address: SocketAddr,
    workers: Workers,
    app: A,
    started: bool,
    restless: bool,
    buffer: Vec<u8>,
}

impl<A: App> Host<A> {
    /// A host that has not begun.
    pub fn new(address: SocketAddr, workers: Workers, app: A) -> Self {
        Self { address, workers, app, started: false, restless: false, buffer: vec![0; TRAIN_LEN_MAX] }
    }

    /// Hands the events to the application until there are none.
    fn turn(&mut self, now: Instant) {
        for _ in 0..ROUNDS_MAX {
            let Some((key, event)) = self.workers.poll_event() else { return };
            self.app.handle_event(now, &mut self.workers, key, event);
        }
        self.restless = true;
    }

    /// When the application wants to be woken. It waits for connections that are about to arrive.
    fn next_wake(&self) -> Option<Instant> {
        self.app.next_wake().filter(|_| self.workers.are_settled())
    }
}

impl<A: App> Node for Host<A> {
    fn address(&self) -> SocketAddr {
        self.app.address().unwrap_or(self.address)
    }

    fn handle_datagram(&mut self, now: Instant, packet: Packet) {
        let meta = meta(&packet);
        self.workers.handle_datagrams(now, &meta, vec![Frame::from_vec(packet.payload)]);
        self.turn(now);
    }

    fn handle_datagrams(&mut self, now: Instant, packets: Vec<Packet>) {
        let mut rest = packets.into_iter().peekable();
        while let Some(first) = rest.next() {
            let meta = self::meta(&first);
            let mut together = vec![Frame::from_vec(first.payload)];
            while let Some(next) = rest.next_if(|next| together.len() < BATCH_MAX && self::meta(next) == meta) {
                together.push(Frame::from_vec(next.payload));
            }
            self.workers.handle_datagrams(now, &meta, together);
        }
        self.turn(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if !self.started {
            self.started = true;
            self.app.start(now, &mut self.workers);
        }
        self.workers.handle_timeout(now);
        self.turn(now);
        if self.next_wake().is_some_and(|at| at <= now) {
            self.app.wake(now, &mut self.workers);
            self.turn(now);
        }
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Vec<Packet>) {
        let Some(transmit) = self.workers.poll_transmit(now, &mut self.buffer) else {
            return self.turn(now);
        };
        let train = self.buffer.get(..transmit.len).unwrap_or_default();
        for datagram in train.chunks(transmit.segment_size.max(1)) {
            out.push(Packet {
                src: self.address(),
                dst: transmit.remote,
                ecn: from_ecn(transmit.ecn),
                payload: datagram.to_vec(),
            });
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.workers.next_timeout().into_iter().chain(self.next_wake()).min()
    }

    fn is_done(&self) -> bool {
        self.started && self.app.is_done() && self.workers.are_idle()
    }

    fn tally(&self) -> Tally {
        self.app.tally()
    }

    fn kept(&self) -> Kept {
        self.workers.kept()
    }

    fn report(&self) -> Report {
        let mut report = self.app.report();
        report.done = self.is_done();
        if self.restless {
            report.faults.push("events without end".into());
        }
        report
    }
}

fn meta(packet: &Packet) -> DatagramMeta {
    DatagramMeta { remote: packet.src, local: Some(packet.dst.ip()), ecn: to_ecn(packet.ecn) }
}

fn to_ecn(codepoint: Codepoint) -> Option<Ecn> {
    match codepoint {
        Codepoint::NotEct => None,
        Codepoint::Ect0 => Some(Ecn::Ect0),
        Codepoint::Ect1 => Some(Ecn::Ect1),
        Codepoint::Ce => Some(Ecn::Ce),
    }
}

fn from_ecn(ecn: Option<Ecn>) -> Codepoint {
    match ecn {
        None => Codepoint::NotEct,
        Some(Ecn::Ect0) => Codepoint::Ect0,
        Some(Ecn::Ect1) => Codepoint::Ect1,
        Some(Ecn::Ce) => Codepoint::Ce,
    }
}
