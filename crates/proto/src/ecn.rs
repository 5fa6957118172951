//! Explicit congestion notification: whether the path passes the marks (RFC 9000 section 13.4).

use thiserror::Error;

/// In-flight packets sent with a mark before anything is known of the path (RFC 9000 appendix A.4).
const TESTING_PACKETS: u64 = 10;

/// An ECN codepoint of the IP header, other than Not-ECT (RFC 3168).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecn {
    /// ECN-capable, ECT(0): what this endpoint sends.
    Ect0,
    /// ECN-capable, ECT(1).
    Ect1,
    /// Congestion experienced.
    Ce,
}

/// Why the path, or the peer, was found not to pass marks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EcnFailure {
    /// Marked packets were acknowledged without counts.
    #[error("the peer reports no ECN counts")]
    NotReported,
    /// Fewer marks were counted than were sent: something on the path clears them.
    #[error("marks were cleared on the path")]
    Cleared,
    /// ECT(1) was counted although none was sent.
    #[error("marks were changed on the path")]
    Remarked,
    /// A count went down.
    #[error("an ECN count went down")]
    Decreased,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The first packets are marked.
    Testing,
    /// They were sent; what became of them is not known.
    Unknown,
    Capable,
    Off,
}

/// ECN validation of one path.
#[derive(Clone, Copy, Debug)]
pub struct Validation {
    state: State,
    /// Marked packets sent and not yet acknowledged, lost ones included.
    outstanding: u64,
    sent: u64,
    /// Counts last reported, by packet number space: ECT(0), ECT(1), CE.
    reported: [(u64, u64, u64); 3],
}

impl Validation {
    /// Validation of a new path; with `enabled` false nothing is ever marked.
    pub fn new(enabled: bool) -> Self {
        let state = if enabled { State::Testing } else { State::Off };
        Self { state, outstanding: 0, sent: 0, reported: [(0, 0, 0); 3] }
    }

    /// True when the packets being written will get a mark from the next [`Self::mark`].
    #[inline]
    pub fn is_marking(&self) -> bool {
        matches!(self.state, State::Testing | State::Capable)
    }

    /// The mark for the datagrams whose packets were reported by [`Self::on_sent`] since the last call.
    #[inline]
    pub fn mark(&mut self) -> Option<Ecn> {
        let mark = self.is_marking().then_some(Ecn::Ect0);
        if self.state == State::Testing && self.sent >= TESTING_PACKETS {
            self.state = State::Unknown;
        }
        mark
    }

    /// A packet that counts as in flight was written.
    #[inline]
    pub fn on_sent(&mut self) {
        if self.is_marking() {
            self.sent += 1;
            self.outstanding += 1;
        }
    }

    /// The counts go on from those of another path: the peer counts per packet number space, not per path.
    pub fn keep_counts(&mut self, of: &Self) {
        self.reported = of.reported;
    }

    /// Checks the counts (ECT(0), ECT(1), CE) of an ACK frame of packet number space `space` (0 to 2), which
    /// acknowledged `newly_acked_marked` marked packets for the first time. `is_newest` tells that the largest
    /// acknowledged number went up; others are not looked at. Returns by how much the CE count went up; after a failure
    /// nothing more is marked.
    #[inline]
    pub fn on_ack(
        &mut self,
        space: usize,
        counts: Option<(u64, u64, u64)>,
        newly_acked_marked: u64,
        is_newest: bool,
    ) -> Result<u64, EcnFailure> {
        if self.state == State::Off {
            return Ok(0);
        }
        let marked = newly_acked_marked.min(self.outstanding);
        self.outstanding -= marked;
        if !is_newest {
            return Ok(0);
        }
        let checked = self.check(space.min(2), counts, marked);
        if checked.is_err() {
            self.state = State::Off;
        }
        checked
    }

    fn check(&mut self, space: usize, counts: Option<(u64, u64, u64)>, marked: u64) -> Result<u64, EcnFailure> {
        let Some((ect0, ect1, ce)) = counts else {
            return if marked == 0 { Ok(0) } else { Err(EcnFailure::NotReported) };
        };
        let before = self.reported[space];
        if ect0 < before.0 || ect1 < before.1 || ce < before.2 {
            return Err(EcnFailure::Decreased);
        }
        if ect1 > before.1 {
            return Err(EcnFailure::Remarked);
        }
        let marks = ce - before.2;
        if (ect0 - before.0).saturating_add(marks) < marked {
            return Err(EcnFailure::Cleared);
        }
        self.reported[space] = (ect0, ect1, ce);
        if marked > 0 {
            self.state = State::Capable;
        }
        Ok(marks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(n: u32) -> Validation {
        let mut v = Validation::new(true);
        for _ in 0..n {
            v.on_sent();
        }
        v
    }

    #[test]
    fn ten_packets_then_wait_for_the_verdict() {
        let mut v = sent(9);
        assert_eq!(v.mark(), Some(Ecn::Ect0));
        // The train that reaches the tenth packet is still marked as a whole.
        v.on_sent();
        v.on_sent();
        assert_eq!(v.mark(), Some(Ecn::Ect0));
        assert_eq!(v.mark(), None);
        assert_eq!(v.on_ack(2, Some((11, 0, 0)), 11, true), Ok(0));
        assert_eq!(v.mark(), Some(Ecn::Ect0));
        v.on_sent();
        assert_eq!(v.on_ack(2, Some((11, 0, 1)), 1, true), Ok(1));
        assert!(v.is_marking());
    }

    #[test]
    fn bleaching_and_remarking_turn_it_off() {
        let mut v = sent(3);
        assert_eq!(v.on_ack(2, None, 3, true), Err(EcnFailure::NotReported));
        assert_eq!((v.mark(), v.on_ack(2, None, 3, true)), (None, Ok(0)));
        assert_eq!(sent(3).on_ack(2, Some((2, 0, 0)), 3, true), Err(EcnFailure::Cleared));
        assert_eq!(sent(3).on_ack(2, Some((2, 1, 0)), 3, true), Err(EcnFailure::Remarked));
        let mut v = sent(5);
        assert_eq!(v.on_ack(2, Some((3, 0, 0)), 3, true), Ok(0));
        assert_eq!(v.on_ack(2, Some((2, 0, 5)), 1, true), Err(EcnFailure::Decreased));
        assert_eq!(Validation::new(false).mark(), None);
    }

    #[test]
    fn reordered_acks_are_not_judged_and_spaces_count_alone() {
        let mut v = sent(5);
        assert_eq!(v.on_ack(0, Some((3, 0, 0)), 2, true), Ok(0));
        assert_eq!(v.on_ack(0, Some((1, 0, 0)), 1, false), Ok(0));
        assert_eq!(v.on_ack(1, Some((1, 0, 0)), 1, true), Ok(0));
        let mut moved = sent(1);
        moved.keep_counts(&v);
        assert_eq!(moved.on_ack(0, Some((4, 0, 0)), 1, true), Ok(0));
    }
}
