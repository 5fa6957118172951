//! Duplication.

use std::time::Duration;

use super::{Direction, Hop, HopCx};
use crate::Packet;

/// Sends some packets twice, the copy a random time after the original.
#[derive(Debug)]
pub struct Duplicate {
    probability: f64,
    later_max: Duration,
}

impl Duplicate {
    /// The copy comes at most `later_max` after the original.
    pub fn new(probability: f64, later_max: Duration) -> Self {
        Self { probability, later_max }
    }
}

impl Hop for Duplicate {
    fn forward(&mut self, cx: &mut HopCx<'_>, _direction: Direction, packet: Packet) {
        if cx.rng.chance(self.probability) {
            let later_max = u64::try_from(self.later_max.as_nanos()).unwrap_or(u64::MAX - 1);
            let later = Duration::from_nanos(cx.rng.range(0, later_max));
            cx.pass_at(cx.now + later, packet.clone());
        }
        cx.pass(packet);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Drive, packet};
    use super::*;

    #[test]
    fn copies_are_whole() {
        let mut drive = Drive::new(Duplicate::new(1.0, Duration::from_millis(1)));
        drive.give(Duration::ZERO, Direction::Up, packet(10));
        assert_eq!(drive.passed.len(), 2);
        assert_eq!(drive.passed[0].1.payload, drive.passed[1].1.payload);
    }
}
