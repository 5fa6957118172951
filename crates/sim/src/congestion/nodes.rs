//! Any nodes over the same links: other stacks beside the production endpoints.

use std::net::SocketAddr;

use super::{Flows, Link, Outcome, bottleneck, hops, observed};
use crate::log::Log;
use crate::path::Path;
use crate::world::{Limits, World};
use crate::{Instant, Node, Rng, address};

/// A node that is to be made.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its address.
    pub address: SocketAddr,
    /// When it begins to download; the server has nothing to begin.
    pub starts_at: Option<Instant>,
    /// All its randomness.
    pub seed: [u8; 32],
}

/// As [`measure`](super::measure), with nodes of the caller's: a server first, then `flows.count` clients. Each client downloads from
/// [`address::SERVER`] without end, from its start on. Of one seed the losses by packet are those of [`measure`](super::measure), for the first flow.
///
/// # Errors
///
/// What went wrong: a node that cannot be made, that loops, or that reports a fault.
pub fn measure_nodes<F>(link: &Link, flows: &Flows, seed: u64, mut make: F) -> Result<Outcome, String>
where
    F: FnMut(Place) -> Result<Box<dyn Node>, String>,
{
    let mut rng = Rng::new(seed);
    let bottleneck = bottleneck(link);
    // Randomness is drawn as `run::build` draws it: two seeds for each host, one generator for a client's application, one for its path.
    let (_, seed) = (rng.seed(), rng.seed());
    let server = make(Place { address: address::SERVER, starts_at: None, seed })?;
    let mut clients = Vec::new();
    for index in 0..flows.count {
        let (_, seed, _) = (rng.seed(), rng.seed(), rng.fork());
        let starts_at = Some(Instant::from_nanos(0) + flows.apart * index);
        let address = address::client(u16::try_from(index).map_err(|error| error.to_string())?);
        let path = Path::new(hops(link, link.rtt, &bottleneck), rng.fork());
        clients.push((make(Place { address, starts_at, seed })?, path));
    }
    let limits = Limits { deadline: flows.until, events_max: u64::MAX };
    let mut world = World::new(server, clients, limits, Log::new(false));
    let goodput = observed(&mut world, flows, |tally| tally.delivered_bytes)?;
    let faults: Vec<String> = world.nodes().flat_map(|node| node.report().faults).collect();
    if faults.is_empty() { Ok(Outcome::new(goodput, link)) } else { Err(faults.join("; ")) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Packet, Report, Tally};

    /// Sends a packet of 1,000 bytes each millisecond to every client, or counts what arrives.
    struct Ticker {
        place: Place,
        next: Instant,
        delivered_bytes: u64,
    }

    impl Node for Ticker {
        fn address(&self) -> SocketAddr {
            self.place.address
        }

        fn handle_datagram(&mut self, _now: Instant, packet: Packet) {
            self.delivered_bytes += packet.payload.len() as u64;
        }

        fn handle_timeout(&mut self, _now: Instant) {}

        fn poll_transmit(&mut self, now: Instant, out: &mut Vec<Packet>) {
            if self.place.starts_at.is_none() && self.next <= now {
                self.next = now + Duration::from_millis(1);
                let (src, ecn, payload) = (self.place.address, crate::Codepoint::NotEct, vec![0; 972]);
                out.push(Packet { src, dst: address::client(0), ecn, payload });
            }
        }

        fn next_timeout(&self) -> Option<Instant> {
            self.place.starts_at.is_none().then_some(self.next)
        }

        fn is_done(&self) -> bool {
            false
        }

        fn tally(&self) -> Tally {
            Tally { delivered_bytes: self.delivered_bytes, ..Tally::default() }
        }

        fn report(&self) -> Report {
            Report::default()
        }
    }

    fn goodput(link: &Link, seed: u64) -> f64 {
        let flows = Flows::from_start(Duration::from_secs(4));
        let make = |place| {
            let next = Instant::from_nanos(0);
            Ok(Box::new(Ticker { place, next, delivered_bytes: 0 }) as Box<dyn Node>)
        };
        measure_nodes(link, &flows, seed, make).unwrap().goodput[0]
    }

    #[test]
    fn packets_meet_the_rate_and_the_loss_of_the_link() {
        let whole = goodput(&Link::new(10, 10, 0.0, 1.0), 1);
        assert!((7.7e6..7.8e6).contains(&whole), "972 bytes each millisecond: {whole}");
        let narrow = goodput(&Link::new(1, 10, 0.0, 1.0), 1);
        assert!((0.95e6..0.98e6).contains(&narrow), "content of 1 Mbit/s: {narrow}");
        let lossy = goodput(&Link::new(10, 10, 10.0, 1.0), 1);
        assert!((0.87..0.93).contains(&(lossy / whole)), "a tenth is lost: {lossy}");
        assert!(goodput(&Link::new(10, 10, 10.0, 1.0), 2) != lossy, "by the seed");
    }
}
