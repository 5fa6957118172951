//! Propagation delay: every packet leaves a fixed time after it came.

use std::time::Duration;

use super::{Direction, Hop, HopCx};
use crate::Packet;

/// Delays every packet by the same time, in both directions.
#[derive(Debug)]
pub struct Delay {
    one_way: Duration,
}

impl Delay {
    /// `one_way` is half of what this hop adds to the round-trip time.
    pub fn new(one_way: Duration) -> Self {
        Self { one_way }
    }
}

impl Hop for Delay {
    fn forward(&mut self, cx: &mut HopCx<'_>, _direction: Direction, packet: Packet) {
        cx.pass_at(cx.now + self.one_way, packet);
    }

    fn least_delay(&self) -> Duration {
        self.one_way
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Drive, packet};
    use super::*;

    #[test]
    fn both_directions_wait() {
        let mut drive = Drive::new(Delay::new(Duration::from_millis(25)));
        drive.give(Duration::ZERO, Direction::Up, packet(100));
        drive.give(Duration::from_millis(3), Direction::Down, packet(100));
        assert_eq!(drive.times_ms(), [25, 28]);
    }
}
