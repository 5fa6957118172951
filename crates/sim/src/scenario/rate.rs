//! Very long, very slow and very fast paths.

use std::time::Duration;

use super::{Scenario, Setup, bottleneck, delay};
use crate::app::Workload;
use crate::hop::{Loss, Ways};

/// A satellite and more.
pub const LONG_RTT: Scenario = Scenario {
    name: "long-rtt",
    about: "1 to 3 s round trip, some loss",
    build: |rng| {
        let mut hops = vec![bottleneck(rng.range(1, 20) * 1_000_000, 500), delay(rng, 500, 1_500)];
        hops.push(Box::new(Loss::new(Ways::Both, rng.range(0, 2) as f64 / 100.0)));
        let setup = Setup::new(hops, Workload::streams(3, 50_000, 200_000));
        Setup { stall_max: Duration::from_secs(60), ..setup }.idle_timeout(Some(Duration::from_secs(120)))
    },
};

/// A modem: one full packet takes 190 ms.
pub const TINY_BANDWIDTH: Scenario = Scenario {
    name: "tiny-bandwidth",
    about: "64 kbit/s",
    build: |rng| {
        let hops = vec![bottleneck(64_000, rng.range(500, 3_000)), delay(rng, 10, 100)];
        let setup = Setup::new(hops, Workload::streams(2, 5_000, 40_000));
        Setup { stall_max: Duration::from_secs(60), ..setup }.idle_timeout(Some(Duration::from_secs(120)))
    },
};

/// A data centre, or a long fat pipe.
pub const HUGE_BANDWIDTH: Scenario = Scenario {
    name: "huge-bandwidth",
    about: "10 Gbit/s, up to 20 ms round trip",
    build: |rng| {
        let hops = vec![bottleneck(10_000_000_000, 20), delay(rng, 0, 10)];
        let mut workload = Workload::streams(4, 500_000, 2_000_000);
        workload.chunk_max = 64 << 10;
        Setup::new(hops, workload)
    },
};
