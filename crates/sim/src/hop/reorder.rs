//! Reordering: some packets are held back, later ones overtake them.

use std::time::Duration;

use super::{Direction, Hop, HopCx};
use crate::Packet;

/// Holds some packets back for a random time.
#[derive(Debug)]
pub struct Reorder {
    probability: f64,
    hold_max: Duration,
}

impl Reorder {
    /// Each packet is held back with `probability`, for a time drawn evenly from zero to `hold_max`.
    pub fn new(probability: f64, hold_max: Duration) -> Self {
        Self { probability, hold_max }
    }
}

impl Hop for Reorder {
    fn forward(&mut self, cx: &mut HopCx<'_>, _direction: Direction, packet: Packet) {
        let hold_max = u64::try_from(self.hold_max.as_nanos()).unwrap_or(u64::MAX - 1);
        if cx.rng.chance(self.probability) {
            let hold = Duration::from_nanos(cx.rng.range(0, hold_max));
            cx.pass_at(cx.now + hold, packet);
        } else {
            cx.pass(packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Drive, packet};
    use super::*;

    #[test]
    fn some_are_overtaken_and_none_is_lost() {
        let mut drive = Drive::new(Reorder::new(0.3, Duration::from_millis(10)));
        for i in 0..500 {
            drive.give(Duration::from_millis(i), Direction::Up, packet(10));
        }
        assert_eq!(drive.passed.len(), 500);
        assert!(!drive.passed.is_sorted_by_key(|(at, _)| *at));
    }
}
