//! A router that clears the ECN field.

use super::{Direction, Hop, HopCx, Ways};
use crate::{Codepoint, Packet};

/// Clears ECN codepoints, as some routers do (RFC 9000, section 13.4.2 is about finding them).
#[derive(Debug)]
pub struct EcnBleach {
    ways: Ways,
}

impl EcnBleach {
    /// Acts on packets that go these ways.
    pub fn new(ways: Ways) -> Self {
        Self { ways }
    }
}

impl Hop for EcnBleach {
    fn forward(&mut self, cx: &mut HopCx<'_>, direction: Direction, mut packet: Packet) {
        if self.ways.contains(direction) {
            packet.ecn = Codepoint::NotEct;
        }
        cx.pass(packet);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{Drive, packet};
    use super::*;

    #[test]
    fn codepoints_are_cleared_one_way() {
        let mut drive = Drive::new(EcnBleach::new(Ways::Only(Direction::Up)));
        drive.give(Duration::ZERO, Direction::Up, packet(10));
        drive.give(Duration::ZERO, Direction::Down, packet(10));
        let ecn: Vec<_> = drive.passed.iter().map(|(_, p)| p.ecn).collect();
        assert_eq!(ecn, [Codepoint::NotEct, Codepoint::Ect0]);
    }
}
