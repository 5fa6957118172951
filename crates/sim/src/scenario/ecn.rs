//! Explicit congestion notification on the path.

use super::{Scenario, Setup, delay};
use crate::Rng;
use crate::app::Workload;
use crate::hop::{Bottleneck, BottleneckConfig, Direction, EcnBleach, Hop, Ways};

/// The bottleneck marks where others drop.
pub const MARKING: Scenario = Scenario {
    name: "ecn-marking",
    about: "the bottleneck marks CE above a threshold",
    build: |rng| Setup::new(marking_link(rng), Workload::streams(4, 200_000, 800_000)),
};

/// The same, and a router that clears the marks one way or both.
pub const BLEACHING: Scenario = Scenario {
    name: "ecn-bleaching",
    about: "a router clears ECN codepoints, one way or both",
    build: |rng| {
        let ways = match rng.below(3) {
            0 => Ways::Both,
            1 => Ways::Only(Direction::Up),
            _ => Ways::Only(Direction::Down),
        };
        let mut hops = marking_link(rng);
        hops.push(Box::new(EcnBleach::new(ways)));
        Setup::new(hops, Workload::streams(4, 100_000, 400_000))
    },
};

fn marking_link(rng: &mut Rng) -> Vec<Box<dyn Hop>> {
    let config = BottleneckConfig {
        bits_per_s: rng.range(5, 50) * 1_000_000,
        queue_bytes: 300_000,
        ce_above_bytes: Some(rng.range(10_000, 60_000)),
    };
    vec![Box::new(Bottleneck::new(config)), delay(rng, 1, 40)]
}
