//! Independent random loss.

use super::{Direction, Dropped, Hop, HopCx, Ways};
use crate::Packet;

/// Drops each packet with the same probability.
#[derive(Debug)]
pub struct Loss {
    ways: Ways,
    probability: f64,
}

impl Loss {
    /// `probability` is between 0 and 1.
    pub fn new(ways: Ways, probability: f64) -> Self {
        Self { ways, probability }
    }
}

impl Hop for Loss {
    fn forward(&mut self, cx: &mut HopCx<'_>, direction: Direction, packet: Packet) {
        if self.ways.contains(direction) && cx.rng.chance(self.probability) {
            cx.drop(Dropped::Loss, packet);
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
    fn about_the_share_asked_for_is_lost_and_only_in_its_direction() {
        let mut drive = Drive::new(Loss::new(Ways::Only(Direction::Up), 0.2));
        for _ in 0..1_000 {
            drive.give(Duration::ZERO, Direction::Up, packet(10));
            drive.give(Duration::ZERO, Direction::Down, packet(10));
        }
        assert!((150..250).contains(&drive.dropped.len()), "{}", drive.dropped.len());
        assert_eq!(drive.passed.len() + drive.dropped.len(), 2_000);
    }
}
