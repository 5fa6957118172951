//! Flow control seen from outside: a sender whose peer reads nothing must stop after the window it was given.

use super::Monitor;
use crate::world::NodeId;
use crate::{Instant, Packet};

/// Fails when a node sends more than a bound to one address. On a path without loss this bounds what was sent beyond
/// the peer's flow-control credit.
#[derive(Debug)]
pub struct VolumeLimit {
    node: NodeId,
    bytes_max: u64,
    bytes: u64,
}

impl VolumeLimit {
    /// `bytes_max` is in bytes of UDP payload over the whole run, everything that `node` sends.
    pub fn new(node: NodeId, bytes_max: u64) -> Self {
        Self { node, bytes_max, bytes: 0 }
    }
}

impl Monitor for VolumeLimit {
    fn sent(&mut self, _now: Instant, node: NodeId, packet: &Packet) {
        if node == self.node {
            self.bytes += packet.payload.len() as u64;
        }
    }

    fn violation(&self) -> Option<String> {
        (self.bytes > self.bytes_max)
            .then(|| format!("{:?} sent {} bytes, credit and overhead allow {}", self.node, self.bytes, self.bytes_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::testing::packet;

    #[test]
    fn only_the_watched_node_counts() {
        let mut limit = VolumeLimit::new(NodeId::SERVER, 100);
        limit.sent(Instant::from_nanos(0), NodeId::client(0), &packet(1_000));
        limit.sent(Instant::from_nanos(0), NodeId::SERVER, &packet(100));
        assert_eq!(limit.violation(), None);
        limit.sent(Instant::from_nanos(0), NodeId::SERVER, &packet(1));
        assert!(limit.violation().is_some());
    }
}
