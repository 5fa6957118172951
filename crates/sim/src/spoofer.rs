//! A host that sends first flights of connections in the names of addresses where nobody answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use warpline_proto::Endpoint;
use warpline_proto::config::{ClientConfig, EndpointConfig};

use crate::{Codepoint, Instant, Node, Packet, Report, Rng, Tally, address};

/// Longer than any first flight's datagrams together.
const FLIGHT_LEN_MAX: usize = 16 << 10;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Spoofing {
    /// First flights, each of another address.
    pub flights: u16,
    /// IP addresses that they come from, in turn.
    pub sources: u8,
    /// Time from one to the next.
    pub apart: Duration,
}

/// The host.
#[derive(Debug)]
pub struct Spoofer {
    index: u16,
    config: ClientConfig,
    spoofing: Spoofing,
    rng: Rng,
    sent: u16,
    next_at: Instant,
    out: Vec<Packet>,
}

impl Spoofer {
    /// A host at the end of path `index`, whose addresses it takes.
    pub fn new(index: u16, config: ClientConfig, spoofing: Spoofing, rng: Rng) -> Self {
        Self { index, config, spoofing, rng, sent: 0, next_at: Instant::from_nanos(0), out: Vec::new() }
    }

    /// A first flight as a client makes it, in another's name.
    fn flight(&mut self, now: Instant) {
        let nth = self.sent % u16::from(self.spoofing.sources.max(1));
        let mut src: SocketAddr = address::outside(self.index, nth as u8);
        src.set_port(1_024 + self.sent);
        let endpoint_config = Arc::new(EndpointConfig::new(&self.rng.seed()));
        let mut endpoint = Endpoint::new(endpoint_config, None, self.rng.seed());
        if endpoint.connect(now, &self.config, address::SERVER, "localhost").is_err() {
            return;
        }
        let mut buffer = vec![0; FLIGHT_LEN_MAX];
        while let Some(transmit) = endpoint.poll_transmit(now, &mut buffer) {
            let train = buffer.get(..transmit.len).unwrap_or_default();
            let datagrams = train.chunks(transmit.segment_size.max(1)).map(<[u8]>::to_vec);
            self.out.extend(datagrams.map(|payload| Packet {
                src,
                dst: address::SERVER,
                ecn: Codepoint::NotEct,
                payload,
            }));
        }
    }
}

impl Node for Spoofer {
    fn address(&self) -> SocketAddr {
        address::client(self.index)
    }

    fn handle_datagram(&mut self, _now: Instant, _packet: Packet) {}

    fn handle_timeout(&mut self, now: Instant) {
        while self.next_timeout().is_some_and(|at| at <= now) {
            self.flight(now);
            self.sent += 1;
            self.next_at = now + self.spoofing.apart.max(Duration::from_nanos(1));
        }
    }

    fn poll_transmit(&mut self, _now: Instant, out: &mut Vec<Packet>) {
        out.append(&mut self.out);
    }

    fn next_timeout(&self) -> Option<Instant> {
        (self.sent < self.spoofing.flights).then_some(self.next_at)
    }

    fn is_done(&self) -> bool {
        self.sent == self.spoofing.flights
    }

    fn tally(&self) -> Tally {
        Tally::default()
    }

    fn report(&self) -> Report {
        Report { done: self.is_done(), ..Report::default() }
    }
}
