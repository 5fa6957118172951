//! Paths that do not carry large packets, and say nothing about it (RFC 8899).

use super::{Scenario, Setup, at_ms, link};
use crate::app::Workload;
use crate::hop::MtuLimit;

/// The limit lies anywhere between the least that QUIC needs and Ethernet.
pub const SMALL_PATH: Scenario = Scenario {
    name: "small-mtu",
    about: "the path carries IP packets of 1,228 to 1,500 bytes",
    build: |rng| {
        let mut hops = link(rng);
        hops.push(Box::new(MtuLimit::new(rng.range(1_228, 1_500) as usize)));
        Setup::new(hops, Workload::streams(4, 200_000, 500_000))
    },
};

/// A route change in the middle of the transfer makes large packets vanish.
pub const SHRINKING_PATH: Scenario = Scenario {
    name: "shrinking-mtu",
    about: "the path carries 1,500 bytes at first, then less: a black hole for large packets",
    build: |rng| {
        let mut hops = link(rng);
        let later = at_ms(rng.range(300, 2_000));
        hops.push(Box::new(MtuLimit::new(1_500).then(later, rng.range(1_228, 1_400) as usize)));
        Setup::new(hops, Workload::streams(4, 500_000, 1_000_000))
    },
};
