//! Corruption that the UDP checksum did not catch: flipped bits, cut tails, added bytes.

use super::{Direction, Hop, HopCx};
use crate::{Packet, Rng};

/// Damages some packets.
#[derive(Debug)]
pub struct Corrupt {
    probability: f64,
}

impl Corrupt {
    /// Each packet is damaged with `probability`.
    pub fn new(probability: f64) -> Self {
        Self { probability }
    }
}

impl Hop for Corrupt {
    fn forward(&mut self, cx: &mut HopCx<'_>, _direction: Direction, mut packet: Packet) {
        if cx.rng.chance(self.probability) {
            damage(cx.rng, &mut packet.payload);
            *cx.damaged += 1;
        }
        cx.pass(packet);
    }
}

/// Changes `payload` in one of a few ways.
fn damage(rng: &mut Rng, payload: &mut Vec<u8>) {
    match rng.below(8) {
        0 => payload.truncate(rng.below(payload.len() as u64) as usize),
        1 => payload.extend((0..rng.range(1, 40)).map(|i| i as u8)),
        kind => {
            // Half of the flips go to the first bytes, where the headers are.
            let reach = if kind < 5 { payload.len() } else { payload.len().min(40) };
            for _ in 0..rng.range(1, 4) {
                let at = rng.below(reach as u64) as usize;
                if let Some(byte) = payload.get_mut(at) {
                    *byte ^= 1 << rng.below(8);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{Drive, packet};
    use super::*;

    #[test]
    fn packets_of_any_length_are_damaged() {
        let mut drive = Drive::new(Corrupt::new(1.0));
        for len in 0..200 {
            drive.give(Duration::ZERO, Direction::Up, packet(len));
        }
        let changed = drive.passed.iter().enumerate().filter(|(len, (_, p))| p.payload != packet(*len).payload);
        assert!(changed.count() > 150);
    }
}
