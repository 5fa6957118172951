//! The quick form of the simulation: every scenario with a few seeds. More: `cargo run --release -p warpline-sim`.
#![forbid(unsafe_code)]

use warpline_sim::run::run;
use warpline_sim::scenario::{ALL, find};

/// Seeds per scenario.
const SEEDS: u64 = 15;

/// One test per scenario, so that they run side by side and fail by name.
macro_rules! scenarios {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                let scenario = find($name).expect("the name stands in the list of scenarios");
                for seed in 0..SEEDS {
                    if let Err(failure) = run(scenario, seed, false) {
                        panic!("{failure}");
                    }
                }
            }
        )*

        #[test]
        fn every_scenario_has_a_test() {
            let tested = [$($name),*];
            let all: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
            assert_eq!(all, tested);
        }
    };
}

scenarios! {
    handshake_loss: "handshake-loss",
    retry_loss: "retry-loss",
    corruption: "corruption",
    reordering: "reordering",
    burst_loss: "burst-loss",
    black_hole: "black-hole",
    pto_storm: "pto-storm",
    port_rebinding: "port-rebinding",
    address_change: "address-change",
    migration: "migration",
    amplification: "amplification",
    ecn_marking: "ecn-marking",
    ecn_bleaching: "ecn-bleaching",
    small_mtu: "small-mtu",
    shrinking_mtu: "shrinking-mtu",
    long_rtt: "long-rtt",
    tiny_bandwidth: "tiny-bandwidth",
    huge_bandwidth: "huge-bandwidth",
    many_streams: "many-streams",
    churn: "churn",
    resets: "resets",
    slow_reader: "slow-reader",
    datagrams: "datagrams",
    moving_workers: "moving-workers",
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for name in ["corruption", "reordering", "churn", "resets", "moving-workers"] {
        let scenario = find(name).expect("the name stands in the list of scenarios");
        let outcome = |seed| run(scenario, seed, false).map_err(|failure| failure.to_string());
        for seed in 1..6 {
            assert_eq!(outcome(seed), outcome(seed), "{name}, seed {seed}");
            assert_ne!(outcome(seed), outcome(seed + 1), "{name}, seed {seed}");
        }
    }
}
