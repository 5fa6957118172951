//! Loss by position: the n-th packet of a direction is dropped. Makes the loss of one flight of the handshake a test of
//! its own instead of a matter of luck.

use super::{Direction, Dropped, Hop, HopCx};
use crate::Packet;

/// Drops the packets whose bit is set.
#[derive(Debug)]
pub struct DropNth {
    direction: Direction,
    mask: u64,
    seen: u32,
}

impl DropNth {
    /// Bit n of `mask` stands for the n-th packet of `direction`, counted from 0; later packets pass.
    pub fn new(direction: Direction, mask: u64) -> Self {
        Self { direction, mask, seen: 0 }
    }
}

impl Hop for DropNth {
    fn forward(&mut self, cx: &mut HopCx<'_>, direction: Direction, packet: Packet) {
        if direction != self.direction {
            return cx.pass(packet);
        }
        let doomed = self.mask.checked_shr(self.seen).is_some_and(|rest| rest & 1 == 1);
        self.seen = self.seen.saturating_add(1);
        if doomed {
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
    fn the_mask_says_which() {
        let mut drive = Drive::new(DropNth::new(Direction::Down, 0b101));
        for at in 0..70 {
            drive.give(Duration::from_millis(at), Direction::Down, packet(10));
        }
        drive.give(Duration::from_millis(99), Direction::Up, packet(10));
        assert_eq!(drive.dropped.len(), 2);
        assert_eq!(drive.times_ms()[..2], [1, 3]);
    }
}
