//! The handshake under loss.

use std::time::Duration;

use warpline_proto::config::RetryPolicy;

use super::{Scenario, Setup, delay, link};
use crate::Rng;
use crate::app::Workload;
use crate::hop::{Direction, DropNth, Loss, Ways};

/// Any of the first six datagrams of each direction may be lost.
pub const EACH_FLIGHT_LOST: Scenario = Scenario {
    name: "handshake-loss",
    about: "any of the first six datagrams of each direction are lost",
    build: |rng| {
        let hops: Vec<Box<dyn crate::hop::Hop>> = vec![
            Box::new(DropNth::new(Direction::Up, rng.below(64))),
            Box::new(DropNth::new(Direction::Down, rng.below(64))),
            delay(rng, 1, 100),
        ];
        small(Setup::new(hops, Workload::streams(2, 2_000, 5_000)), rng)
    },
};

/// Every client must prove its address, on a lossy path.
pub const RETRY_UNDER_LOSS: Scenario = Scenario {
    name: "retry-loss",
    about: "the server answers with Retry, 20 % of everything is lost",
    build: |rng| {
        let mut hops = link(rng);
        hops.push(Box::new(Loss::new(Ways::Both, 0.2)));
        let setup = small(Setup::new(hops, Workload::streams(2, 2_000, 5_000)), rng);
        Setup { retry: RetryPolicy::Always, ..setup }
    },
};

/// The short transfers of this topic bring several connections each.
fn small(mut setup: Setup, rng: &mut Rng) -> Setup {
    setup.workload.connections = rng.range(1, 3) as u32;
    setup.stall_max = Duration::from_secs(60);
    setup.idle_timeout(Some(Duration::from_secs(120)))
}
