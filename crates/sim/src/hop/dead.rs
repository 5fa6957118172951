//! Client addresses that do not work: a network that lets nothing out, nothing in, or neither.

use std::net::SocketAddr;

use super::{Direction, Dropped, Hop, HopCx, Ways};
use crate::Packet;

/// Swallows what comes from some of the client's addresses, or goes to them.
#[derive(Debug)]
pub struct DeadAddresses {
    dead: Vec<(SocketAddr, Ways)>,
}

impl DeadAddresses {
    /// Each address with the ways in which it is dead.
    pub fn new(dead: Vec<(SocketAddr, Ways)>) -> Self {
        Self { dead }
    }
}

impl Hop for DeadAddresses {
    fn forward(&mut self, cx: &mut HopCx<'_>, direction: Direction, packet: Packet) {
        let client = match direction {
            Direction::Up => packet.src,
            Direction::Down => packet.dst,
        };
        if self.dead.iter().any(|(address, ways)| *address == client && ways.contains(direction)) {
            cx.drop(Dropped::BlackHole, packet);
        } else {
            cx.pass(packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{Drive, packet};
    use super::*;

    #[test]
    fn only_the_dead_address_and_only_its_ways() {
        let up = packet(10);
        let down = Packet { src: up.dst, dst: up.src, ..packet(10) };
        let elsewhere = Packet { src: ([10, 0, 1, 2], 50_000).into(), ..packet(10) };
        let mut drive = Drive::new(DeadAddresses::new(vec![(up.src, Ways::Only(Direction::Up))]));
        drive.give(Duration::ZERO, Direction::Up, up);
        drive.give(Duration::ZERO, Direction::Down, down);
        drive.give(Duration::ZERO, Direction::Up, elsewhere);
        assert_eq!((drive.passed.len(), drive.dropped.len()), (2, 1));
    }
}
