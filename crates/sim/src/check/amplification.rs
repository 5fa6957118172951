//! Anti-amplification (RFC 9000, section 8.1): to an address that is not validated the server sends at most three times
//! what it received from there.
//!
//! The checker reads only what header protection leaves open. An address that begins with an Initial counts as validated
//! once a Handshake packet, or an Initial with a token, has arrived from it. An address that begins in the middle of a
//! connection (a migration) cannot be validated before a path challenge has gone there and back: before something that was sent
//! there has reached the client, and then something of the client, from wherever (section 8.2.3), the server. Where nothing
//! arrives, the limit holds for ever. Damage on the way may make the checker believe in a validation too early: it errs towards
//! silence.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::Monitor;
use super::headers::{Kind, long_packets};
use crate::world::NodeId;
use crate::{Instant, Packet, address};

/// Watches what the server sends to each address.
#[derive(Debug)]
pub struct AntiAmplification {
    least_rtt: Duration,
    addresses: BTreeMap<SocketAddr, Account>,
    /// Packets under way to addresses that began in the middle of a connection and are limited.
    under_way: BTreeMap<Vec<u8>, SocketAddr>,
    violation: Option<String>,
}

#[derive(Debug)]
struct Account {
    received: u64,
    sent: u64,
    limited: Limited,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limited {
    UntilHandshake,
    /// A challenge has to go there and back. When the first packet reached the client there.
    UntilAnswered {
        reached: Option<Instant>,
    },
    No,
}

impl AntiAmplification {
    /// `least_rtt` is the least time that anything needs to the client and back.
    pub fn new(least_rtt: Duration) -> Self {
        Self { least_rtt, addresses: BTreeMap::new(), under_way: BTreeMap::new(), violation: None }
    }

    /// Something of the client with this address has reached the server: it may answer what had reached the client.
    fn answered(&mut self, now: Instant, from: SocketAddr) {
        let back = self.least_rtt / 2;
        for (at, account) in &mut self.addresses {
            if let Limited::UntilAnswered { reached: Some(reached) } = account.limited
                && now >= reached + back
                && address::owner(*at) == address::owner(from)
            {
                account.limited = Limited::No;
                self.under_way.retain(|_, to| to != at);
            }
        }
    }

    /// A packet has reached a client.
    fn reached(&mut self, now: Instant, packet: &Packet) {
        // A NAT has changed its destination since.
        if let Some(to) = self.under_way.remove(&packet.payload)
            && let Some(Account { limited: Limited::UntilAnswered { reached: reached @ None }, .. }) =
                self.addresses.get_mut(&to)
        {
            *reached = Some(now);
        }
    }
}

impl Monitor for AntiAmplification {
    fn delivered(&mut self, now: Instant, node: NodeId, packet: &Packet) {
        if node != NodeId::SERVER {
            return self.reached(now, packet);
        }
        self.answered(now, packet.src);
        let account = self.addresses.entry(packet.src).or_insert_with(|| {
            let begins_long = packet.payload.first().is_some_and(|first| first & 0x80 != 0);
            let limited = if begins_long { Limited::UntilHandshake } else { Limited::UntilAnswered { reached: None } };
            Account { received: 0, sent: 0, limited }
        });
        account.received += packet.payload.len() as u64;
        if account.limited == Limited::UntilHandshake && validates(&packet.payload) {
            account.limited = Limited::No;
        }
    }

    fn sent(&mut self, _now: Instant, node: NodeId, packet: &Packet) {
        if node != NodeId::SERVER || self.violation.is_some() {
            return;
        }
        let Some(account) = self.addresses.get_mut(&packet.dst) else {
            self.violation = Some(format!("server sent {} bytes to {} unasked", packet.payload.len(), packet.dst));
            return;
        };
        account.sent += packet.payload.len() as u64;
        if matches!(account.limited, Limited::UntilAnswered { .. }) {
            self.under_way.insert(packet.payload.clone(), packet.dst);
        }
        if account.limited != Limited::No && account.sent > 3 * account.received {
            let Account { received, sent, .. } = account;
            self.violation = Some(format!("server sent {sent} bytes to {}, which had sent {received}", packet.dst));
        }
    }

    fn violation(&self) -> Option<String> {
        self.violation.clone()
    }
}

/// Whether a datagram holds a Handshake packet or an Initial with a token, anywhere among its coalesced packets.
fn validates(datagram: &[u8]) -> bool {
    long_packets(datagram).any(|kind| matches!(kind, Kind::Initial { token: true } | Kind::Handshake))
}

#[cfg(test)]
mod tests {
    use super::super::headers::testing::{handshake, initial};
    use super::*;

    fn up(payload: Vec<u8>) -> Packet {
        Packet { payload, ..crate::hop::testing::packet(0) }
    }

    fn down(len: usize) -> Packet {
        let packet = crate::hop::testing::packet(len);
        Packet { src: packet.dst, dst: packet.src, ..packet }
    }

    #[test]
    fn the_limit_is_three_times_until_a_handshake_packet() {
        let now = Instant::from_nanos(0);
        let mut check = AntiAmplification::new(Duration::ZERO);
        let first = initial(&[]);
        let allowed = 3 * first.len();
        check.delivered(now, NodeId::SERVER, &up(first));
        check.sent(now, NodeId::SERVER, &down(allowed));
        assert_eq!(check.violation(), None);
        let mut coalesced = initial(&[]);
        coalesced.extend(handshake());
        check.delivered(now, NodeId::SERVER, &up(coalesced));
        check.sent(now, NodeId::SERVER, &down(100_000));
        assert_eq!(check.violation(), None);
    }

    #[test]
    fn one_byte_too_many_is_seen() {
        let now = Instant::from_nanos(0);
        let mut check = AntiAmplification::new(Duration::ZERO);
        let first = initial(&[]);
        let allowed = 3 * first.len();
        check.delivered(now, NodeId::SERVER, &up(first));
        check.sent(now, NodeId::SERVER, &down(allowed + 1));
        assert!(check.violation().is_some());
    }

    #[test]
    fn tokens_and_migrations_have_their_own_rules() {
        let at = |ms| Instant::from_nanos(0) + Duration::from_millis(ms);
        let mut check = AntiAmplification::new(Duration::from_millis(50));
        check.delivered(at(0), NodeId::SERVER, &up(initial(&[9, 9])));
        check.sent(at(0), NodeId::SERVER, &down(100_000));
        assert_eq!(check.violation(), None);

        // Sixty milliseconds there and back, and an answer that could have come.
        let moved = || {
            let mut check = AntiAmplification::new(Duration::from_millis(50));
            check.delivered(at(0), NodeId::SERVER, &up(vec![0x40; 100]));
            check.sent(at(0), NodeId::SERVER, &down(300));
            check
        };
        let mut check = moved();
        check.delivered(at(30), NodeId::client(0), &down(300));
        check.delivered(at(60), NodeId::SERVER, &up(vec![0x40; 1]));
        check.sent(at(60), NodeId::SERVER, &down(5_000));
        assert_eq!(check.violation(), None);

        let mut check = moved();
        check.delivered(at(30), NodeId::client(0), &down(300));
        check.delivered(at(54), NodeId::SERVER, &up(vec![0x40; 1]));
        check.sent(at(54), NodeId::SERVER, &down(4));
        assert!(check.violation().is_some(), "what came was sent before the challenge had arrived");

        let mut check = moved();
        check.delivered(at(5_000), NodeId::SERVER, &up(vec![0x40; 1]));
        check.sent(at(5_000), NodeId::SERVER, &down(4));
        assert!(check.violation().is_some(), "nothing has reached the client there");
    }
}
