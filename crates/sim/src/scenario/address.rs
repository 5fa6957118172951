//! The client's address changes while traffic flows (RFC 9000, section 9).

use std::time::Duration;

use super::{Scenario, Setup, at_ms, link};
use crate::app::Workload;
use crate::hop::{Hop, Loss, Nat, Ways};
use crate::{Rng, address};

/// A NAT forgets its mapping and takes another port.
pub const PORT_REBINDING: Scenario = Scenario {
    name: "port-rebinding",
    about: "the NAT gives the client new ports, several times, with some loss",
    build: |rng| {
        let mut nat = Nat::new(address::outside(0, 1));
        for at in times(rng) {
            nat = nat.rebind_port(at_ms(at));
        }
        setup(nat, rng)
    },
};

/// The client moves to another network.
pub const ADDRESS_CHANGE: Scenario = Scenario {
    name: "address-change",
    about: "the client appears from another address, with some loss",
    build: |rng| {
        let mut nat = Nat::new(address::outside(0, 1));
        for (nth, at) in (2..).zip(times(rng)) {
            nat = nat.rebind_address(at_ms(at), address::outside(0, nth).ip());
        }
        setup(nat, rng)
    },
};

/// One to three moments, seconds apart. None falls into the handshake: RFC 9000, section 9, forbids migration before it is
/// confirmed.
fn times(rng: &mut Rng) -> Vec<u64> {
    let mut at = rng.range(1_500, 3_000);
    let mut times = Vec::new();
    for _ in 0..rng.range(1, 3) {
        times.push(at);
        at += rng.range(1_500, 3_000);
    }
    times
}

/// Both directions carry data. A client that only waits would never tell the server of its new address, so it keeps the
/// connection alive.
fn setup(nat: Nat, rng: &mut Rng) -> Setup {
    let mut hops: Vec<Box<dyn Hop>> = vec![Box::new(nat)];
    hops.extend(link(rng));
    hops.push(Box::new(Loss::new(Ways::Both, rng.range(0, 2) as f64 / 100.0)));
    let mut workload = Workload::streams(100, 5_000, 20_000);
    workload.at_once = 4;
    workload.pause = Duration::from_millis(100);
    let mut setup = Setup::new(hops, workload);
    setup.client.keep_alive = Some(Duration::from_millis(500));
    setup
}
