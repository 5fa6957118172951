//! The path goes dark and comes back.

use std::time::Duration;

use super::{Scenario, Setup, at_ms, link};
use crate::app::Workload;
use crate::hop::{BlackHole, Direction, Loss, Ways};

/// Dark windows, both directions or one.
pub const BLACK_HOLE: Scenario = Scenario {
    name: "black-hole",
    about: "the path is dark for up to 8 s, twice, in one direction or both",
    build: |rng| {
        let ways = match rng.below(3) {
            0 => Ways::Both,
            1 => Ways::Only(Direction::Up),
            _ => Ways::Only(Direction::Down),
        };
        let first = rng.range(1, 500);
        let light = first + rng.range(1, 8_000);
        let second = light + rng.range(1, 500);
        let windows = vec![at_ms(first)..at_ms(light), at_ms(second)..at_ms(second + rng.range(1, 8_000))];
        let mut hops = link(rng);
        hops.push(Box::new(BlackHole::new(ways, windows)));
        let setup = Setup::new(hops, Workload::streams(4, 200_000, 500_000));
        Setup { stall_max: Duration::from_secs(60), ..setup }.idle_timeout(Some(Duration::from_secs(60)))
    },
};

/// Almost nothing gets through: everything rests on probe timeouts.
pub const PTO_STORM: Scenario = Scenario {
    name: "pto-storm",
    about: "30 to 45 % loss, everything rests on probes",
    build: |rng| {
        let mut hops = link(rng);
        hops.push(Box::new(Loss::new(Ways::Both, rng.range(30, 45) as f64 / 100.0)));
        let setup =
            Setup::new(hops, Workload::streams(2, 3_000, 10_000)).idle_timeout(Some(Duration::from_secs(3_600)));
        Setup { stall_max: Duration::from_secs(3_600), deadline: Duration::from_secs(7_200), ..setup }
    },
};
