//! Loss in bursts: the model of Gilbert and Elliott, two states with a loss rate each.

use super::{Direction, Dropped, Hop, HopCx};
use crate::Packet;

/// Probabilities of the two-state model, each per packet.
#[derive(Debug, Clone, Copy)]
pub struct BurstLossConfig {
    /// From good to bad.
    pub enter_bad: f64,
    /// From bad to good; 1 / this is the mean length of a burst in packets.
    pub leave_bad: f64,
    /// Loss in the good state.
    pub loss_good: f64,
    /// Loss in the bad state.
    pub loss_bad: f64,
}

/// Loses packets in bursts, independently per direction.
#[derive(Debug)]
pub struct BurstLoss {
    config: BurstLossConfig,
    bad: [bool; 2],
}

impl BurstLoss {
    /// Both directions start in the good state.
    pub fn new(config: BurstLossConfig) -> Self {
        Self { config, bad: [false; 2] }
    }
}

impl Hop for BurstLoss {
    fn forward(&mut self, cx: &mut HopCx<'_>, direction: Direction, packet: Packet) {
        let bad = &mut self.bad[direction.index()];
        let turn = if *bad { self.config.leave_bad } else { self.config.enter_bad };
        *bad ^= cx.rng.chance(turn);
        let loss = if *bad { self.config.loss_bad } else { self.config.loss_good };
        if cx.rng.chance(loss) {
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
    fn losses_cluster() {
        let config = BurstLossConfig { enter_bad: 0.01, leave_bad: 0.2, loss_good: 0.0, loss_bad: 1.0 };
        let mut drive = Drive::new(BurstLoss::new(config));
        let (mut bursts, mut in_burst) = (0, false);
        for _ in 0..20_000 {
            let before = drive.dropped.len();
            drive.give(Duration::ZERO, Direction::Up, packet(10));
            let lost = drive.dropped.len() > before;
            bursts += usize::from(lost && !in_burst);
            in_burst = lost;
        }
        let mean = drive.dropped.len() as f64 / bursts as f64;
        assert!((4.0..6.0).contains(&mean), "bursts of {mean} packets on average");
    }
}
