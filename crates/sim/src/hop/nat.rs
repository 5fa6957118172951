//! A NAT before the client, which forgets its mapping at given times and then gives the client another address.

use std::net::{IpAddr, SocketAddr};

use super::{Direction, Dropped, Hop, HopCx};
use crate::{Instant, Packet};

/// Rewrites the client's address.
#[derive(Debug)]
pub struct Nat {
    inside: Option<SocketAddr>,
    outside: SocketAddr,
    rebinds: Vec<Rebind>,
}

/// A change of the outside address.
#[derive(Debug, Clone, Copy)]
struct Rebind {
    at: Instant,
    outside: SocketAddr,
}

impl Nat {
    /// `outside` is the address that the server sees at first.
    pub fn new(outside: SocketAddr) -> Self {
        Self { inside: None, outside, rebinds: Vec::new() }
    }

    /// From `at` on the server sees `outside` instead; what is still sent to the address before is dropped.
    #[must_use]
    pub fn rebind(mut self, at: Instant, outside: SocketAddr) -> Self {
        self.rebinds.push(Rebind { at, outside });
        self.rebinds.sort_by_key(|rebind| rebind.at);
        self
    }

    /// Only the port changes: what most home routers do.
    #[must_use]
    pub fn rebind_port(self, at: Instant) -> Self {
        let mut outside = self.rebinds.last().map_or(self.outside, |rebind| rebind.outside);
        outside.set_port(outside.port().wrapping_add(1).max(1_024));
        self.rebind(at, outside)
    }

    /// The whole address changes: another network.
    #[must_use]
    pub fn rebind_address(self, at: Instant, ip: IpAddr) -> Self {
        let port = self.rebinds.last().map_or(self.outside, |rebind| rebind.outside).port();
        self.rebind(at, SocketAddr::new(ip, port))
    }
}

impl Hop for Nat {
    fn forward(&mut self, cx: &mut HopCx<'_>, direction: Direction, mut packet: Packet) {
        while let Some(&rebind) = self.rebinds.first()
            && rebind.at <= cx.now
        {
            self.outside = rebind.outside;
            self.rebinds.remove(0);
        }
        match direction {
            Direction::Up => {
                self.inside = Some(packet.src);
                packet.src = self.outside;
                cx.pass(packet);
            }
            Direction::Down => match self.inside {
                Some(inside) if packet.dst == self.outside => {
                    packet.dst = inside;
                    cx.pass(packet);
                }
                _ => cx.drop(Dropped::NoMapping, packet),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{Drive, packet};
    use super::*;

    #[test]
    fn the_old_address_dies_with_its_mapping() {
        let first: SocketAddr = ([203, 0, 113, 9], 1_111).into();
        let at = Instant::from_nanos(0) + Duration::from_millis(10);
        let mut drive = Drive::new(Nat::new(first).rebind_port(at));

        let down = || Packet { dst: first, ..packet(10) };
        drive.give(Duration::ZERO, Direction::Down, down());
        assert_eq!(drive.dropped[0].0, Dropped::NoMapping, "nothing comes in before anything went out");

        drive.give(Duration::ZERO, Direction::Up, packet(10));
        drive.give(Duration::from_millis(1), Direction::Down, down());
        assert_eq!(drive.passed[0].1.src, first);
        assert_eq!(drive.passed[1].1.dst, packet(10).src);

        drive.give(Duration::from_millis(10), Direction::Up, packet(10));
        assert_eq!(drive.passed[2].1.src.port(), 1_112);
        drive.give(Duration::from_millis(11), Direction::Down, down());
        assert_eq!(drive.dropped.len(), 2);
    }
}
