//! Hosts of several workers, between which connections move: whatever else happens to them.

use std::time::Duration;

use super::{Scenario, address, damage, handshake, load, migration, outage};
use crate::Rng;
use crate::hop::{Duplicate, Reorder};
use crate::workers::Moving;

/// What happens beside the moves.
const BESIDE: [&Scenario; 13] = [
    &handshake::EACH_FLIGHT_LOST,
    &handshake::RETRY_UNDER_LOSS,
    &damage::CORRUPTION,
    &damage::REORDERING,
    &damage::BURST_LOSS,
    &outage::PTO_STORM,
    &address::PORT_REBINDING,
    &address::ADDRESS_CHANGE,
    &migration::MIGRATION,
    &load::MANY_STREAMS,
    &load::CHURN,
    &load::RESETS,
    &load::DATAGRAMS,
];

/// Connections are taken out of one endpoint and put into another.
pub const MOVING_WORKERS: Scenario = Scenario {
    name: "moving-workers",
    about: "connections move between the workers of the server, the client or both, beside what other scenarios do",
    build: |rng| {
        let beside = BESIDE[rng.below(BESIDE.len() as u64) as usize];
        let mut setup = (beside.build)(rng);
        for hops in &mut setup.paths {
            let hold_max = Duration::from_millis(rng.range(1, 20));
            hops.push(Box::new(Reorder::new(rng.range(0, 10) as f64 / 100.0, hold_max)));
            hops.push(Box::new(Duplicate::new(rng.range(0, 5) as f64 / 100.0, Duration::from_millis(50))));
        }
        if rng.chance(0.5) {
            setup.workload.early_data = true;
            setup.workload.connections = setup.workload.connections.max(3);
        }
        let sides = rng.below(3);
        setup.server_workers = (sides != 0).then(|| moving(rng));
        setup.client_workers = (sides != 1).then(|| moving(rng));
        setup
    },
};

/// Two to five workers. Changes follow one another at once, with time for a few round trips, or seldom.
fn moving(rng: &mut Rng) -> Moving {
    let rest_max = [1, 20, 200, 2_000][rng.below(4) as usize];
    Moving {
        workers: rng.range(2, 5) as usize,
        rest_max: Duration::from_millis(rest_max),
        step_max: Duration::from_micros(rng.range(10, 20_000)),
        share: rng.range(20, 100) as f64 / 100.0,
    }
}
