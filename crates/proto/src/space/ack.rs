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

/// How the peer wants its packets acknowledged (draft-ietf-quic-ack-frequency section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AckRequest {
    /// Number of the frame that said so.
    pub(crate) sequence: u64,
    /// Ack-eliciting packets that may go unacknowledged.
    pub(crate) threshold: u64,
    /// Longest time to hold an acknowledgement back.
    pub(crate) max_delay: Duration,
    /// Reordering in packets that is reported at once; 0 for none.
    pub(crate) reordering: u64,
}

/// Packets out of order since the last acknowledgement after which one is sent whatever the peer asked for: a range must
/// be reported before it is forgotten (section 6 of the draft).
const UNREPORTED_GAPS_MAX: u32 = ACK_RANGES_MAX as u32 / 4;

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
    /// Packets out of order since the last acknowledgement was sent.
    unreported_gaps: u32,
    /// Largest number that an ACK frame of ours reported.
    reported: Option<u64>,
    /// What the peer asked for; `None` for this endpoint's own choice. By itself, since few peers ask.
    request: Option<Box<AckRequest>>,
    /// The packet before was marked CE.
    was_ce: bool,
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

    /// Whether a time of loss has left a list behind that is longer than packet numbers left out by the peer make it.
    #[inline]
    pub(crate) fn holds_long_list(&self) -> bool {
        self.received.holds_long_list()
    }

    /// Gives back what a time of loss has grown.
    pub(crate) fn shrink(&mut self) {
        self.received.shrink();
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
        let was_ce = std::mem::replace(&mut self.was_ce, marked_ce);
        if !eliciting {
            return;
        }
        self.unacked += 1;
        let in_order = pn == expected;
        self.in_order_run = if in_order { self.in_order_run.saturating_add(1) } else { 0 };
        self.unreported_gaps += u32::from(!in_order);
        let (due, max_delay) = match self.request.as_deref() {
            // RFC 9000 section 13.2.1: a gap or a packet from within one, and a CE mark, are reported at once.
            None => (!in_order || marked_ce || self.unacked >= self.own_threshold(), config.max_delay),
            Some(request) => (self.is_due_by(request, pn, marked_ce, was_ce), request.max_delay),
        };
        if config.immediate || due {
            self.due = true;
        } else if self.deadline.is_none() {
            self.deadline = Some(now + max_delay);
        }
    }

    #[inline]
    fn own_threshold(&self) -> u32 {
        if self.in_order_run >= BULK_AFTER { THRESHOLD_BULK } else { THRESHOLD_START }
    }

    /// The rules of draft-ietf-quic-ack-frequency section 6.
    #[inline]
    fn is_due_by(&self, request: &AckRequest, pn: u64, marked_ce: bool, was_ce: bool) -> bool {
        // Section 6.3: with a threshold above 1 only the first mark of a row is news.
        let news_of_ce = marked_ce && (!was_ce || request.threshold <= 1);
        news_of_ce
            || u64::from(self.unacked) > request.threshold
            || self.unreported_gaps >= UNREPORTED_GAPS_MAX
            || self.is_beyond_reordering(request.reordering, pn)
    }

    /// Section 6.2: the peer can declare a packet lost that no acknowledgement has shown missing, or `pn` is one that it has
    /// declared lost already.
    #[inline]
    fn is_beyond_reordering(&self, threshold: u64, pn: u64) -> bool {
        if threshold == 0 {
            return false;
        }
        let reported_missing = self.reported.and_then(|n| n.checked_sub(threshold));
        let largest = self.largest().unwrap_or_default();
        if pn < largest && reported_missing.is_some_and(|bound| pn <= bound) {
            return true;
        }
        let has_gaps = self.received.len() > 1 || self.received.first().is_some_and(|r| r.start > self.floor);
        if !has_gaps {
            return false;
        }
        let unreported_from = reported_missing.map_or(0, |n| n + 1).max(self.floor);
        self.first_missing(unreported_from).is_some_and(|missing| missing + threshold <= largest)
    }

    /// The smallest number from `from` on, below the largest received, that was not received.
    fn first_missing(&self, from: u64) -> Option<u64> {
        let mut at = from;
        for range in self.received.iter() {
            if range.start > at {
                return Some(at);
            }
            at = at.max(range.end);
        }
        None
    }

    /// The peer asks for another frequency; an older request than the one in force changes nothing.
    pub(crate) fn on_request(&mut self, request: AckRequest) {
        if self.request.as_deref().is_none_or(|known| request.sequence > known.sequence) {
            self.request = Some(Box::new(request));
        }
    }

    /// The peer wants to hear at once (IMMEDIATE_ACK).
    pub(crate) fn on_immediate(&mut self) {
        self.due = true;
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
        self.unreported_gaps = 0;
        self.reported = self.largest();
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

    /// Feeds `numbers` under a request for `reordering` only and says which of them were acknowledged at once.
    fn acknowledged_at_once(reordering: u64, numbers: &[u64]) -> Vec<u64> {
        let mut acks = AckState::default();
        let max_delay = Duration::from_millis(100);
        acks.on_request(AckRequest { sequence: 0, threshold: 1_000, max_delay, reordering });
        let mut out = Vec::new();
        for pn in numbers {
            acks.on_packet(at(0), *pn, true, None, CONFIG);
            if acks.is_due() {
                acks.on_sent();
                out.push(*pn);
            }
        }
        out
    }

    /// The examples of draft-ietf-quic-ack-frequency section 6.2.1.
    #[test]
    fn reordering_is_reported_when_the_peer_can_act_on_it() {
        assert_eq!(acknowledged_at_once(3, &[0, 1, 3, 4, 5, 8, 9, 10]), [5, 9, 10]);
        assert_eq!(acknowledged_at_once(5, &[0, 1, 3, 5, 6, 7, 8, 9]), [7, 9]);
        assert_eq!(acknowledged_at_once(1, &[0, 1, 3, 4]), [3]);
        assert_eq!(acknowledged_at_once(0, &[0, 5, 9, 2]), []);
        // Number 2 was shown missing with 5 and comes late: the peer learns that it was not lost.
        assert_eq!(acknowledged_at_once(3, &[0, 1, 3, 4, 5, 2]), [5, 2]);
    }

    #[test]
    fn a_request_decides_about_the_number_of_acknowledgements_until_a_newer_one_comes() {
        let mut acks = AckState::default();
        let request = |sequence, threshold| AckRequest {
            sequence,
            threshold,
            max_delay: Duration::from_millis(5),
            reordering: 3,
        };
        acks.on_request(request(1, 9));
        acks.on_request(request(0, 1));
        let mut sent = 0;
        for pn in 0..100 {
            acks.on_packet(at(pn), pn, true, None, CONFIG);
            if pn == 0 {
                assert_eq!(acks.deadline(), Some(at(5)));
            }
            if acks.is_due() {
                acks.on_sent();
                sent += 1;
            }
        }
        assert_eq!(sent, 10);
        acks.on_request(request(2, 0));
        acks.on_packet(at(100), 100, true, None, CONFIG);
        assert!(acks.is_due());
    }

    #[test]
    fn only_the_first_of_a_row_of_marks_is_news_under_a_request() {
        let mut acks = AckState::default();
        let max_delay = Duration::from_millis(5);
        acks.on_request(AckRequest { sequence: 0, threshold: 50, max_delay, reordering: 3 });
        let mut due = Vec::new();
        for (pn, ecn) in [Ecn::Ect0, Ecn::Ce, Ecn::Ce, Ecn::Ect0, Ecn::Ce].into_iter().enumerate() {
            acks.on_packet(at(0), pn as u64, true, Some(ecn), CONFIG);
            due.push(acks.is_due());
            acks.on_sent();
        }
        assert_eq!(due, [false, true, false, false, true]);
    }

    /// However rarely the peer wants to hear, no range is forgotten unreported.
    #[test]
    fn gaps_are_reported_before_they_are_forgotten() {
        let numbers: Vec<u64> = (0..1_000).map(|i| i * 2).collect();
        let at_once = acknowledged_at_once(0, &numbers);
        assert!(at_once.len() >= 1_000 / ACK_RANGES_MAX, "{}", at_once.len());
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
