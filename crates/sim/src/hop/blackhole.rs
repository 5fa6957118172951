//! A stretch of time in which nothing gets through.

use std::ops::Range;

use super::{Direction, Dropped, Hop, HopCx, Ways};
use crate::{Instant, Packet};

/// Swallows every packet that arrives within one of its windows.
#[derive(Debug)]
pub struct BlackHole {
    ways: Ways,
    windows: Vec<Range<Instant>>,
}

impl BlackHole {
    /// Windows may be in any order.
    pub fn new(ways: Ways, windows: Vec<Range<Instant>>) -> Self {
        Self { ways, windows }
    }
}

impl Hop for BlackHole {
    fn forward(&mut self, cx: &mut HopCx<'_>, direction: Direction, packet: Packet) {
        let dark = self.windows.iter().any(|window| window.contains(&cx.now));
        if dark && self.ways.contains(direction) {
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
    fn only_the_window_is_dark() {
        let ms = |n| Instant::from_nanos(0) + Duration::from_millis(n);
        let mut drive = Drive::new(BlackHole::new(Ways::Both, vec![ms(10)..ms(20)]));
        for at in [9, 10, 19, 20] {
            drive.give(Duration::from_millis(at), Direction::Down, packet(10));
        }
        assert_eq!(drive.times_ms(), [9, 20]);
    }
}
