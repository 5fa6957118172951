//! What applications do: many streams, many connections, resets, readers that do not read, datagrams.

use std::time::Duration;

use warpline_proto::Dir;

use super::{Scenario, Setup, bottleneck, delay, link};
use crate::Rng;
use crate::app::{Ending, Exchange, Workload};
use crate::hop::{Loss, Ways};

/// More streams than the peer allows at once, of both kinds.
pub const MANY_STREAMS: Scenario = Scenario {
    name: "many-streams",
    about: "600 small streams of both kinds, with some loss",
    build: |rng| {
        let mut workload = Workload::streams(0, 0, 0);
        workload.exchanges = (0..600).map(|_| exchange(rng, 3_000)).collect();
        workload.at_once = rng.range(1, 200) as usize;
        workload.chunk_max = rng.range(1, 4_000) as usize;
        Setup::new(lossy(rng), workload)
    },
};

/// Several clients, each with connection after connection.
pub const CHURN: Scenario = Scenario {
    name: "churn",
    about: "four clients with ten short connections each, with some loss",
    build: |rng| {
        let mut workload = Workload::streams(3, 500, 2_000);
        workload.connections = 10;
        let mut setup = Setup::new(lossy(rng), workload);
        for _ in 1..4 {
            setup.paths.push(lossy(rng));
        }
        setup
    },
};

/// Streams abandoned from either side.
pub const RESETS: Scenario = Scenario {
    name: "resets",
    about: "streams are reset and refused at random offsets, with some loss",
    build: |rng| {
        let mut workload = Workload::streams(0, 0, 0);
        workload.exchanges = (0..100)
            .map(|_| {
                let mut exchange = exchange(rng, 50_000);
                exchange.ending = match rng.below(3) {
                    0 => Ending::Whole,
                    1 => Ending::ResetAfter(rng.below(exchange.upload + 1)),
                    _ => Ending::StopAfter(rng.below(exchange.download + 1)),
                };
                exchange
            })
            .collect();
        workload.at_once = 10;
        Setup::new(lossy(rng), workload)
    },
};

/// A client that does not read. The path is perfect, so what the server sends is its credit and little more.
pub const SLOW_READER: Scenario = Scenario {
    name: "slow-reader",
    about: "nothing is read for 10 s: credit and buffers bound what is sent and held",
    build: |rng| {
        const WINDOW: u64 = 100_000;
        const SEND_BUFFER: u64 = 200_000;
        let mut workload = Workload::streams(8, 1_000, 200_000);
        workload.deaf_for = Duration::from_secs(10);
        let volume = workload.volume();
        let hops = vec![bottleneck(1_000_000_000, 1_000), delay(rng, 1, 20)];
        let mut setup = Setup::new(hops, workload);
        for transport in [&mut setup.client, &mut setup.server] {
            transport.stream_window = WINDOW / 2;
            transport.stream_window_max = WINDOW / 2;
            transport.connection_window = WINDOW;
            transport.connection_window_max = WINDOW;
            transport.send_buffer = SEND_BUFFER;
        }
        // All content once, a tenth for headers and acknowledgements, and the handshake.
        setup.server_sends_max = Some(volume + volume / 10 + 30_000);
        setup
    },
};

/// Unreliable datagrams beside streams.
pub const DATAGRAMS: Scenario = Scenario {
    name: "datagrams",
    about: "datagrams beside streams, with some loss",
    build: |rng| {
        let mut workload = Workload::streams(3, 50_000, 100_000);
        workload.datagrams = 200;
        Setup::new(lossy(rng), workload)
    },
};

fn lossy(rng: &mut Rng) -> Vec<Box<dyn crate::hop::Hop>> {
    let mut hops = link(rng);
    hops.push(Box::new(Loss::new(Ways::Both, rng.range(0, 5) as f64 / 100.0)));
    hops
}

fn exchange(rng: &mut Rng, len_max: u64) -> Exchange {
    let dir = if rng.chance(0.3) { Dir::Uni } else { Dir::Bi };
    let download = if dir == Dir::Uni { 0 } else { rng.below(len_max) };
    Exchange { dir, upload: rng.below(len_max), download, ending: Ending::Whole }
}
