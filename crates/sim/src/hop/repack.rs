//! First flights as no client sends them: with bytes behind the last packet, or several datagrams in one.

use super::{Direction, Hop, HopCx};
use crate::Packet;

/// The most bytes that a datagram is filled up to.
const PADDED_MAX: u64 = 1_472;

/// Changes some of the datagrams that begin with a long header and go up.
#[derive(Debug)]
pub struct Repack {
    probability: f64,
    /// Waits for the next datagram, to go before it in one.
    held: Option<Packet>,
}

impl Repack {
    /// Each such datagram is changed with `probability`.
    pub fn new(probability: f64) -> Self {
        Self { probability, held: None }
    }
}

impl Hop for Repack {
    fn forward(&mut self, cx: &mut HopCx<'_>, direction: Direction, mut packet: Packet) {
        if direction != Direction::Up {
            return cx.pass(packet);
        }
        let is_long = packet.payload.first().is_some_and(|first| first & 0x80 != 0);
        if let Some(held) = self.held.take() {
            packet.payload.splice(..0, held.payload);
            return cx.pass(packet);
        }
        if !is_long || !cx.rng.chance(self.probability) {
            return cx.pass(packet);
        }
        if cx.rng.chance(0.5) {
            self.held = Some(packet);
        } else {
            let len = packet.payload.len();
            let padded = cx.rng.range(len as u64, PADDED_MAX.max(len as u64)) as usize;
            packet.payload.resize(padded, 0);
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
    fn datagrams_are_joined_or_filled_up_and_no_byte_of_them_is_lost() {
        let mut drive = Drive::new(Repack::new(1.0));
        for _ in 0..50 {
            drive.give(Duration::ZERO, Direction::Up, Packet { payload: vec![0xc0; 100], ..packet(0) });
        }
        let taken: usize =
            drive.passed.iter().map(|(_, p)| p.payload.iter().filter(|byte| **byte == 0xc0).count()).sum();
        let held = drive.hop.held.as_ref().map_or(0, |held| held.payload.len());
        assert_eq!(taken + held, 5_000);
        assert!(drive.passed.iter().any(|(_, p)| p.payload.len() == 200));
        assert!(drive.passed.iter().any(|(_, p)| p.payload.ends_with(&[0])));
        let short = packet(100);
        drive.hop.held = None;
        drive.give(Duration::ZERO, Direction::Up, short.clone());
        assert_eq!(drive.passed.last().map(|(_, p)| &p.payload), Some(&short.payload));
    }
}
