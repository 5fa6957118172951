//! A path: the hops between one client and the server, and the addresses that lead over it.

use std::time::Duration;

use crate::hop::{Direction, Dropped, Hop, HopCx};
use crate::{Instant, Packet, Rng};

/// A row of hops. Packets that go up pass them first to last, packets that go down last to first.
#[derive(Debug)]
pub struct Path {
    hops: Vec<Box<dyn Hop>>,
    rng: Rng,
}

/// Where a packet is on its way over a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    /// Which way it goes.
    pub direction: Direction,
    /// How many hops lie behind it.
    pub passed_hops: usize,
}

impl Leg {
    /// Before the first hop.
    pub fn start(direction: Direction) -> Self {
        Self { direction, passed_hops: 0 }
    }
}

/// What a hop made of a packet.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What goes on, and when it arrives at the next hop or at the end.
    pub passed: Vec<(Instant, Packet)>,
    /// What was dropped.
    pub dropped: Vec<(Dropped, Packet)>,
    /// How many were damaged.
    pub damaged: u64,
}

impl Path {
    /// A path of these hops, the one next to the client first. `rng` is the path's own.
    pub fn new(hops: Vec<Box<dyn Hop>>, rng: Rng) -> Self {
        Self { hops, rng }
    }

    /// Whether a packet on this leg has passed all hops.
    pub fn is_over(&self, leg: Leg) -> bool {
        leg.passed_hops >= self.hops.len()
    }

    /// The least time that a packet needs from one end to the other.
    pub fn least_delay(&self) -> Duration {
        self.hops.iter().map(|hop| hop.least_delay()).sum()
    }

    /// Gives `packet` to the next hop of its leg; the caller moves the leg on. `outcome` is filled anew.
    pub fn step(&mut self, now: Instant, leg: Leg, packet: Packet, outcome: &mut Outcome) {
        outcome.passed.clear();
        outcome.dropped.clear();
        outcome.damaged = 0;
        let index = match leg.direction {
            Direction::Up => Some(leg.passed_hops),
            Direction::Down => self.hops.len().checked_sub(leg.passed_hops + 1),
        };
        let Some(hop) = index.and_then(|index| self.hops.get_mut(index)) else {
            outcome.passed.push((now, packet));
            return;
        };
        let Outcome { passed, dropped, damaged } = outcome;
        hop.forward(&mut HopCx { now, rng: &mut self.rng, passed, dropped, damaged }, leg.direction, packet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::testing::packet;
    use crate::hop::{EcnBleach, Loss, Ways};

    #[test]
    fn down_is_the_reverse_of_up() {
        let hops: Vec<Box<dyn Hop>> = vec![Box::new(Loss::new(Ways::Both, 1.0)), Box::new(EcnBleach::new(Ways::Both))];
        let mut path = Path::new(hops, Rng::new(1));
        let mut outcome = Outcome::default();
        let now = Instant::from_nanos(0);

        path.step(now, Leg::start(Direction::Up), packet(10), &mut outcome);
        assert_eq!(outcome.dropped.len(), 1, "the client's side comes first on the way up");
        path.step(now, Leg::start(Direction::Down), packet(10), &mut outcome);
        assert_eq!(outcome.passed.len(), 1, "and last on the way down");
        assert!(path.is_over(Leg { direction: Direction::Up, passed_hops: 2 }));
    }
}
