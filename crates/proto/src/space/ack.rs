//! When and what to acknowledge (RFC 9000 section 13.2).

use core::time::Duration;

use warpline_wire::frame::EcnCounts;

use crate::ecn::Ecn;
use crate::limits::ACK_RANGES_MAX;
use crate::ranges::RangeSet;
use crate::time::Instant;

/// Ack-eliciting packets after which an acknowledgement is sent at the start of a connection, as RFC 9000 section
/// 13.2.2 recommends.
const THRESHOLD_START: u32 = 2;
/// The same once a bulk transfer is seen: acknowledging more seldom costs the sender nothing that it needs (its window is
/// far larger) and halves the work on both sides. Stacks that were measured send 1 to 10 per 100 packets.
const THRESHOLD_BULK: u32 = 16;
/// Ack-eliciting packets in order after which a transfer counts as bulk: past a sender's slow start from 10 packets.
const BULK_AFTER: u32 = 256;

/// What the policy needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckConfig {
    /// Acknowledge at once: Initial and Handshake packets (RFC 9000 section 13.2.1).
    pub(crate) immediate: bool,
    /// Longest time to hold an acknowledgement back.
    pub(crate) max_delay: Duration,
}

/// What was received in one packet number space.
#[derive(Debug, Default)]
pub(crate) struct AckState {
    received: RangeSet,
    /// Numbers below were forgotten: they count as received, since processing a packet twice is worse than losing it.
    floor: u64,
    /// When the largest number arrived.
    largest_at: Instant,
    /// Ack-eliciting packets since the last acknowledgement was sent.
    unacked: u32,
    /// Ack-eliciting packets in a row that came in order.
    in_order_run: u32,
    due: bool,
    deadline: Option<Instant>,
    ecn: EcnCounts,
    ecn_seen: bool,
}

impl AckState {
    /// True when `pn` was received before, or is too old to tell.
    #[inline]
    pub(crate) fn is_duplicate(&self, pn: u64) -> bool {
        pn < self.floor || self.received.contains(pn)
    }

    /// Largest number received.
    #[inline]
    pub(crate) fn largest(&self) -> Option<u64> {
        self.received.last().map(|r| r.end - 1)
    }

    /// Notes an authentic packet that is not a duplicate.
    #[inline]
    pub(crate) fn on_packet(&mut self, now: Instant, pn: u64, eliciting: bool, ecn: Option<Ecn>, config: AckConfig) {
        let expected = self.received.last().map_or(0, |r| r.end);
        self.received.insert(pn..pn + 1);
        if pn >= expected {
            self.largest_at = now;
        }
        if self.received.len() > ACK_RANGES_MAX
            && let Some(oldest) = self.received.pop_first()
        {
            self.floor = oldest.end;
        }
        let marked_ce = self.count_ecn(ecn);
        if !eliciting {
            return;
        }
        self.unacked += 1;
        let in_order = pn == expected;
        self.in_order_run = if in_order { self.in_order_run.saturating_add(1) } else { 0 };
        let threshold = if self.in_order_run >= BULK_AFTER { THRESHOLD_BULK } else { THRESHOLD_START };
        // RFC 9000 section 13.2.1: a gap or a packet from within one, and a CE mark, are reported at once.
        if config.immediate || !in_order || marked_ce || self.unacked >= threshold {
            self.due = true;
        } else if self.deadline.is_none() {
            self.deadline = Some(now + config.max_delay);
        }
    }

    #[inline]
    fn count_ecn(&mut self, ecn: Option<Ecn>) -> bool {
        let Some(ecn) = ecn else { return false };
        self.ecn_seen = true;
        match ecn {
            Ecn::Ect0 => self.ecn.ect0 += 1,
            Ecn::Ect1 => self.ecn.ect1 += 1,
            Ecn::Ce => self.ecn.ce += 1,
        }
        ecn == Ecn::Ce
    }

    /// An acknowledgement must go out now, by itself if need be.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.due
    }

    /// An acknowledgement would tell the peer something that it waits for.
    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        self.unacked > 0
    }

    /// Some packet was received: an ACK frame can be written.
    pub(crate) fn can_ack(&self) -> bool {
        !self.received.is_empty()
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.due { None } else { self.deadline }
    }

    pub(crate) fn on_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|d| d <= now) {
            self.due = true;
        }
    }

    /// The time since the largest number arrived, for the ACK Delay field.
    pub(crate) fn delay(&self, now: Instant) -> Duration {
        now - self.largest_at
    }

    /// Received ranges, highest first.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = core::ops::RangeInclusive<u64>> + Clone + '_ {
        self.received.iter().rev().map(|r| r.start..=r.end - 1)
    }

    pub(crate) fn ecn_counts(&self) -> Option<EcnCounts> {
        self.ecn_seen.then_some(self.ecn)
    }

    /// An ACK frame that reports everything known was written.
    pub(crate) fn on_sent(&mut self) {
        self.unacked = 0;
        self.due = false;
        self.deadline = None;
    }

    /// The peer got an ACK frame whose largest number was `largest`: what lies below need not be reported any more
    /// (RFC 9000 section 13.2.4).
    pub(crate) fn on_ack_acked(&mut self, largest: u64) {
        // The range that holds the largest stays whole in meaning: its front only says what the peer knows by now.
        self.received.remove_below(largest);
        self.floor = self.floor.max(largest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: AckConfig = AckConfig { immediate: false, max_delay: Duration::from_millis(25) };

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn second_packet_makes_it_due_and_the_first_sets_a_deadline() {
        let mut acks = AckState::default();
        acks.on_packet(at(1), 0, true, None, CONFIG);
        assert!(!acks.is_due());
        assert_eq!(acks.deadline(), Some(at(26)));
        acks.on_packet(at(2), 1, true, None, CONFIG);
        assert!(acks.is_due());
    }

    #[test]
    fn a_gap_is_reported_at_once() {
        let mut acks = AckState::default();
        acks.on_packet(at(1), 0, true, None, CONFIG);
        acks.on_sent();
        acks.on_packet(at(2), 2, true, None, CONFIG);
        assert!(acks.is_due());
        assert_eq!(acks.ranges().collect::<Vec<_>>(), [2..=2, 0..=0]);
    }

    #[test]
    fn packets_that_elicit_nothing_are_not_acknowledged_by_themselves() {
        let mut acks = AckState::default();
        for pn in 0..10 {
            acks.on_packet(at(pn), pn, false, None, CONFIG);
        }
        assert!(!acks.is_due() && acks.deadline().is_none() && acks.can_ack());
    }

    #[test]
    fn ranges_are_bounded_and_the_forgotten_count_as_duplicates() {
        let mut acks = AckState::default();
        for i in 0..ACK_RANGES_MAX as u64 + 10 {
            acks.on_packet(at(0), i * 2, true, None, CONFIG);
        }
        assert_eq!(acks.ranges().count(), ACK_RANGES_MAX);
        assert!(acks.is_duplicate(0) && acks.is_duplicate(3), "forgotten numbers must not be processed again");
        assert!(!acks.is_duplicate(ACK_RANGES_MAX as u64 * 2 + 1));
    }

    #[test]
    fn bulk_in_order_is_acknowledged_less_often() {
        let mut acks = AckState::default();
        let mut sent = 0;
        for pn in 0..1_000 {
            acks.on_packet(at(0), pn, true, None, CONFIG);
            if acks.is_due() {
                acks.on_sent();
                sent += 1;
            }
        }
        assert_eq!(sent, 254 / 2 + (1_000 - 254) / 16);
    }
}
