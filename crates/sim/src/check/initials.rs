//! A client's datagrams with Initial packets have at least 1,200 bytes (RFC 9000, section 14.1).

use super::Monitor;
use super::headers::{Kind, long_packets};
use crate::world::NodeId;
use crate::{Instant, Packet};

const LEAST: usize = 1_200;

/// Watches what clients send.
#[derive(Debug, Default)]
pub struct InitialSize {
    violation: Option<String>,
}

impl Monitor for InitialSize {
    fn sent(&mut self, _now: Instant, node: NodeId, packet: &Packet) {
        let datagram = &packet.payload;
        let is_short = node != NodeId::SERVER && datagram.len() < LEAST;
        if is_short && long_packets(datagram).any(|kind| matches!(kind, Kind::Initial { .. })) {
            self.violation = Some(format!("{} sent an Initial packet in {} bytes", packet.src, datagram.len()));
        }
    }

    fn violation(&self) -> Option<String> {
        self.violation.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers::testing::{handshake, initial};
    use super::*;

    #[test]
    fn an_initial_anywhere_in_a_short_datagram_is_seen() {
        let sent = |node, payload| {
            let mut check = InitialSize::default();
            check.sent(Instant::from_nanos(0), node, &Packet { payload, ..crate::hop::testing::packet(0) });
            check.violation().is_some()
        };
        let behind = || [handshake(), initial(&[])].concat();
        let mut padded = behind();
        padded.resize(LEAST, 0);
        assert!(sent(NodeId::client(0), behind()));
        assert!(!sent(NodeId::client(0), padded));
        assert!(!sent(NodeId::client(0), handshake()));
        assert!(!sent(NodeId::SERVER, behind()));
    }
}
