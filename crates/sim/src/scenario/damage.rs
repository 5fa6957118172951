//! Packets that arrive damaged, late, twice, or not at all.

use std::time::Duration;

use super::{Scenario, Setup, link};
use crate::app::Workload;
use crate::hop::{BurstLoss, BurstLossConfig, Corrupt, Duplicate, Loss, Reorder, Ways};

/// Bits flip, tails are cut.
pub const CORRUPTION: Scenario = Scenario {
    name: "corruption",
    about: "up to 10 % of the packets are damaged, some are lost",
    build: |rng| {
        let mut hops = link(rng);
        hops.push(Box::new(Corrupt::new(rng.range(1, 10) as f64 / 100.0)));
        hops.push(Box::new(Loss::new(Ways::Both, 0.01)));
        Setup::new(hops, Workload::streams(5, 20_000, 100_000))
    },
};

/// Packets overtake each other and come twice.
pub const REORDERING: Scenario = Scenario {
    name: "reordering",
    about: "up to 30 % of the packets are held back by up to 50 ms, 5 % come twice",
    build: |rng| {
        let mut hops = link(rng);
        let share = rng.range(1, 30) as f64 / 100.0;
        hops.push(Box::new(Reorder::new(share, Duration::from_millis(rng.range(1, 50)))));
        hops.push(Box::new(Duplicate::new(0.05, Duration::from_millis(50))));
        Setup::new(hops, Workload::streams(5, 100_000, 300_000))
    },
};

/// Losses that come in a row.
pub const BURST_LOSS: Scenario = Scenario {
    name: "burst-loss",
    about: "whole trains of packets are lost (Gilbert-Elliott)",
    build: |rng| {
        let mut hops = link(rng);
        let mean_burst = rng.range(2, 6) as f64;
        hops.push(Box::new(BurstLoss::new(BurstLossConfig {
            enter_bad: 0.005,
            leave_bad: 1.0 / mean_burst,
            loss_good: 0.001,
            loss_bad: 0.8,
        })));
        let setup = Setup::new(hops, Workload::streams(5, 50_000, 200_000));
        Setup { stall_max: Duration::from_secs(60), ..setup }.idle_timeout(Some(Duration::from_secs(120)))
    },
};
