//! Careful resume seen from outside: no more is in flight than the jump may reach, and what was acknowledged.

use std::collections::VecDeque;
use std::time::Duration;

use super::Monitor;
use crate::world::NodeId;
use crate::{Instant, Packet};

/// Fails when the server has more in flight than a bound and as many bytes again as it may know to have arrived. Slow start adds what
/// is acknowledged to the window, and nothing may add more: so this holds from the first packet on, whatever the window
/// began with.
#[derive(Debug)]
pub struct JumpLimit {
    bytes_max: u64,
    /// Time from a packet's arrival until the server can know of it.
    back: Duration,
    sent: u64,
    arrived: VecDeque<(Instant, u64)>,
    acknowledged: u64,
    violation: Option<String>,
}

impl JumpLimit {
    /// The server begins with at most `bytes_max` bytes of UDP payload, to clients from which it takes `back` to the server.
    pub fn new(bytes_max: u64, back: Duration) -> Self {
        Self { bytes_max, back, sent: 0, arrived: VecDeque::new(), acknowledged: 0, violation: None }
    }
}

impl Monitor for JumpLimit {
    fn sent(&mut self, now: Instant, node: NodeId, packet: &Packet) {
        if node != NodeId::SERVER {
            return;
        }
        while let Some((_, bytes)) = self.arrived.pop_front_if(|(at, _)| *at + self.back <= now) {
            self.acknowledged += bytes;
        }
        self.sent += packet.payload.len() as u64;
        let in_flight = self.sent - self.acknowledged;
        let allowed = self.bytes_max + self.acknowledged;
        if in_flight > allowed && self.violation.is_none() {
            self.violation = Some(format!("{in_flight} bytes are in flight at {now:?}, {allowed} may be"));
        }
    }

    fn delivered(&mut self, now: Instant, node: NodeId, packet: &Packet) {
        if node != NodeId::SERVER {
            self.arrived.push_back((now, packet.payload.len() as u64));
        }
    }

    fn violation(&self) -> Option<String> {
        self.violation.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::testing::packet;

    #[test]
    fn the_bound_grows_with_what_the_server_may_know_of() {
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let client = NodeId::client(0);
        let mut limit = JumpLimit::new(1_000, Duration::from_millis(10));
        limit.sent(at(0), client, &packet(5_000));
        limit.sent(at(0), NodeId::SERVER, &packet(1_000));
        limit.delivered(at(10), client, &packet(1_000));
        assert_eq!(limit.violation(), None);
        limit.sent(at(20), NodeId::SERVER, &packet(2_000));
        assert_eq!(limit.violation(), None, "as much again as arrived");
        limit.sent(at(21), NodeId::SERVER, &packet(1));
        assert!(limit.violation().is_some());
        let mut early = JumpLimit::new(1_000, Duration::from_millis(10));
        early.sent(at(0), NodeId::SERVER, &packet(1_000));
        early.delivered(at(10), client, &packet(1_000));
        early.sent(at(19), NodeId::SERVER, &packet(1));
        assert!(early.violation().is_some(), "the news is still on its way");
    }
}
