//! The client moves by its own decision (RFC 9000, section 9.2), not always to a place that works.

use std::time::Duration;

use super::{Scenario, Setup, at_ms, link};
use crate::app::{Move, Workload};
use crate::hop::{DeadAddresses, Direction, Hop, Loss, Reorder, Ways};
use crate::{Rng, address};

/// New local addresses while both directions carry data.
pub const MIGRATION: Scenario = Scenario {
    name: "migration",
    about: "the client moves one to five times, to dead addresses too, with loss and reordering",
    build: |rng| {
        let (moves, dead) = moves(rng);
        let mut hops: Vec<Box<dyn Hop>> = vec![Box::new(DeadAddresses::new(dead))];
        hops.extend(link(rng));
        hops.push(Box::new(Loss::new(Ways::Both, rng.range(0, 4) as f64 / 100.0)));
        let hold_max = Duration::from_millis(rng.range(1, 30));
        hops.push(Box::new(Reorder::new(rng.range(0, 20) as f64 / 100.0, hold_max)));
        let mut workload = Workload::streams(50, 10_000, 30_000);
        workload.at_once = 4;
        workload.pause = Duration::from_millis(100);
        workload.moves = moves;
        let mut setup = Setup::new(hops, workload);
        // The server may have given up the address where the client is, which only waits and would never tell it.
        setup.client.keep_alive = Some(Duration::from_millis(500));
        setup
    },
};

/// Where the client goes and when, and which of these places are dead. The exchanges take five seconds at least; the last move comes
/// before that, and is to a place that works.
fn moves(rng: &mut Rng) -> (Vec<Move>, Vec<(std::net::SocketAddr, Ways)>) {
    let (mut moves, mut dead) = (Vec::new(), Vec::new());
    let last = rng.range(1, 5) as u8;
    let mut at = rng.range(100, 1_000);
    for nth in 1..=last {
        // Back to where it began is a move like others.
        let back = nth > 1 && rng.chance(0.2);
        let to = address::home(0, if back { 0 } else { nth });
        moves.push(Move { at: at_ms(at), to });
        if nth < last && !back && rng.chance(0.3) {
            let ways = [Ways::Both, Ways::Only(Direction::Up), Ways::Only(Direction::Down)];
            dead.push((to, ways[rng.below(3) as usize]));
        }
        at += rng.range(100, 900);
    }
    (moves, dead)
}
