//! Servers that have more to say than an address that is not validated may get (RFC 9000, section 8.1), and addresses where nobody is.

use std::time::Duration;

use warpline_proto::config::RetryPolicy;

use super::{Scenario, Setup, link};
use crate::app::Workload;
use crate::hop::{Direction, DropNth, Hop, Repack};
use crate::spoofer::Spoofing;

/// Large certificates, odd first flights, and first flights in the names of others.
pub const AMPLIFICATION: Scenario = Scenario {
    name: "amplification",
    about: "large certificates, first flights lost, padded, joined or spoofed, with Retry and without",
    build: |rng| {
        let mut paths: Vec<Vec<Box<dyn Hop>>> = Vec::new();
        for _ in 0..rng.range(1, 3) {
            let mut hops = link(rng);
            hops.insert(0, Box::new(Repack::new(rng.range(0, 50) as f64 / 100.0)));
            hops.insert(0, Box::new(DropNth::new(Direction::Up, rng.below(16))));
            paths.push(hops);
        }
        let spoofed_path = link(rng);
        let mut workload = Workload::streams(2, 2_000, 10_000);
        workload.connections = rng.range(1, 2) as u32;
        let mut setup = Setup::new(Vec::new(), workload);
        setup.paths = paths;
        setup.retry = [RetryPolicy::Never, RetryPolicy::Always, RetryPolicy::UnderLoad][rng.below(3) as usize];
        setup.certificate_names = [1, 100, 300][rng.below(3) as usize];
        let spoofing = Spoofing {
            flights: rng.range(10, 60) as u16,
            sources: rng.range(1, 4) as u8,
            apart: Duration::from_millis(rng.range(0, 30)),
        };
        setup.spoofed = Some((spoofed_path, spoofing));
        setup.half_open_per_source = rng.range(2, 6) as usize;
        // A server that waits for the address of another waits no longer than this; a client is more patient.
        setup.client.max_idle_timeout = Some(Duration::from_secs(60));
        setup.server.max_idle_timeout = Some(Duration::from_secs(10));
        Setup { stall_max: Duration::from_secs(60), ..setup }
    },
};
