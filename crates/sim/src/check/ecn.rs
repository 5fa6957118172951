//! Explicit congestion notification seen from outside: who is told of congestion sends less, and who learns that the path clears
//! the marks stops setting them.

use super::Monitor;
use crate::hop::{Direction, Ways};
use crate::world::NodeId;
use crate::{Codepoint, Instant, Packet};

/// Packets of a direction below which its share of marks says nothing: slow start ends in a queue whoever sends.
const JUDGED_MIN: u64 = 400;

fn direction(sender: NodeId) -> Direction {
    if sender == NodeId::SERVER { Direction::Down } else { Direction::Up }
}

/// Fails when, at the end, too many of the packets that came in one direction were marked CE: the queue has stood above the
/// threshold all the time. For worlds with one client.
#[derive(Debug)]
pub struct CeShareLimit {
    share_max: f64,
    /// All packets and those marked, per direction.
    arrived: [(u64, u64); 2],
    over: bool,
}

impl CeShareLimit {
    /// `share_max` is between 0 and 1.
    pub fn new(share_max: f64) -> Self {
        Self { share_max, arrived: [(0, 0); 2], over: false }
    }
}

impl Monitor for CeShareLimit {
    fn delivered(&mut self, _now: Instant, node: NodeId, packet: &Packet) {
        // Who gets it has not sent it.
        let sender = if node == NodeId::SERVER { NodeId::client(0) } else { NodeId::SERVER };
        let (all, marked) = &mut self.arrived[direction(sender).index()];
        *all += 1;
        *marked += u64::from(packet.ecn == Codepoint::Ce);
    }

    fn over(&mut self) {
        self.over = true;
    }

    fn violation(&self) -> Option<String> {
        let of = |(all, marked): &(u64, u64)| (*all, *marked as f64 / *all as f64);
        let too_much = |(all, share): &(u64, f64)| *all >= JUDGED_MIN && *share > self.share_max;
        let (all, share) = self.arrived.iter().map(of).find(too_much).filter(|_| self.over)?;
        Some(format!("{share:.2} of {all} packets were marked CE, {:.2} may be", self.share_max))
    }
}

/// Fails when a sender goes on marking packets as ECN-capable although every mark is cleared on the way.
#[derive(Debug)]
pub struct BleachedLimit {
    ways: Ways,
    packets_max: u64,
    /// Per direction.
    marked: [u64; 2],
}

impl BleachedLimit {
    /// Marks are cleared `ways`; until it is known a sender may have marked `packets_max`.
    pub fn new(ways: Ways, packets_max: u64) -> Self {
        Self { ways, packets_max, marked: [0; 2] }
    }
}

impl Monitor for BleachedLimit {
    fn sent(&mut self, _now: Instant, node: NodeId, packet: &Packet) {
        let direction = direction(node);
        if self.ways.contains(direction) && packet.ecn.is_capable() {
            self.marked[direction.index()] += 1;
        }
    }

    fn violation(&self) -> Option<String> {
        let marked = self.marked.iter().find(|marked| **marked > self.packets_max)?;
        Some(format!(
            "{marked} packets were marked as ECN-capable on a path that clears it, {} may be",
            self.packets_max
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::testing::packet;

    const NOW: Instant = Instant::from_nanos(0);

    #[test]
    fn a_queue_that_stands_is_noticed_at_the_end() {
        let mut limit = CeShareLimit::new(0.5);
        for nth in 0..JUDGED_MIN {
            let ecn = if nth % 4 == 0 { Codepoint::Ect0 } else { Codepoint::Ce };
            limit.delivered(NOW, NodeId::SERVER, &Packet { ecn, ..packet(10) });
            limit.delivered(NOW, NodeId::client(0), &packet(10));
        }
        assert_eq!(limit.violation(), None, "it is not over");
        limit.over();
        assert!(limit.violation().is_some());
        let mut short = CeShareLimit::new(0.5);
        short.delivered(NOW, NodeId::SERVER, &Packet { ecn: Codepoint::Ce, ..packet(10) });
        short.over();
        assert_eq!(short.violation(), None, "too little to judge");
    }

    #[test]
    fn marks_that_are_cleared_are_counted_where_they_are_cleared() {
        let mut limit = BleachedLimit::new(Ways::Only(Direction::Up), 2);
        for _ in 0..9 {
            limit.sent(NOW, NodeId::SERVER, &packet(10));
            limit.sent(NOW, NodeId::client(0), &Packet { ecn: Codepoint::NotEct, ..packet(10) });
        }
        limit.sent(NOW, NodeId::client(0), &packet(10));
        limit.sent(NOW, NodeId::client(0), &packet(10));
        assert_eq!(limit.violation(), None);
        limit.sent(NOW, NodeId::client(0), &packet(10));
        assert!(limit.violation().is_some());
    }
}
