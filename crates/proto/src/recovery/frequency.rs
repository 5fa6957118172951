//! How often the peer is asked to acknowledge (draft-ietf-quic-ack-frequency sections 7 and 8).
//!
//! A sender of bulk data needs a handful of acknowledgements per round trip, not one for every other packet. What is asked
//! for follows the window and the round-trip time, and is only said again when it has changed by half.
//!
//! A window of a few packets needs one for each of them: with one for two, a sender of two or three packets goes in bursts of two, which a
//! queue as short as such a link's drops, and which leave the link idle in between. Up to a window of sixteen a controller whose window
//! lets packets out gains by it, too: the first of two waits for the second before it is acknowledged, a tenth of a round trip at eight
//! packets, and both the rate and the growth of the window go by round trips. A larger one may have to say that it needs more than
//! it gets: a receiver that was not asked may acknowledge a long transfer as seldom as it likes, every 16th packet in this stack's case, and a window of
//! thirty then leaves in two lumps.

use core::time::Duration;

use crate::time::Instant;

/// Acknowledgements asked for per window of packets. In slow start the window grows by what is acknowledged, and HyStart++ wants eight
/// round-trip times per round (RFC 9406 section 4.2). Afterwards what one of them covers leaves in one piece where the window
/// opens, and a queue of a tenth of a window has to hold it.
const PER_WINDOW: u64 = 16;
/// Most packets that are to go unacknowledged: a GSO train, so that a lost ACK frame costs a train at most.
const THRESHOLD_MAX: u64 = 64;
/// Least threshold worth a frame; a peer acknowledges every other packet by itself.
const THRESHOLD_WORTH: u64 = 4;
/// Packets of window from which a peer that was never asked for anything is asked for fewer acknowledgements.
const WINDOW_WORTH: u64 = THRESHOLD_WORTH * PER_WINDOW;
/// Packets of window up to which each is to be acknowledged: twice the least window.
const WINDOW_SMALL: u64 = 4;
/// The same where acknowledgements let packets out.
const WINDOW_CLOCKED: u64 = PER_WINDOW;
/// Shortest delay that is asked for: what timers on the other side keep to.
const DELAY_MIN: Duration = Duration::from_millis(1);

/// What is asked of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Number of the frame.
    pub sequence: u64,
    /// Ack-eliciting packets that may go unacknowledged.
    pub threshold: u64,
    /// Longest time that an acknowledgement may be held back.
    pub max_delay: Duration,
}

/// What the policy looks at.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// The time.
    pub now: Instant,
    /// Congestion window in packets.
    pub window: u64,
    /// The window is still searched for.
    pub slow_start: bool,
    /// Smoothed round-trip time.
    pub srtt: Duration,
    /// Acknowledgements let packets out, rather than a model of the path.
    pub is_clocked: bool,
}

impl Situation {
    /// Whether a peer that was never asked may be asked now: for fewer acknowledgements than it gives at first, or for as many as a
    /// window that has been found needs.
    #[inline]
    pub fn is_worth_asking(&self) -> bool {
        self.window >= WINDOW_WORTH || !self.slow_start
    }

    /// The window has been found, and holds a few packets only.
    #[inline]
    fn is_scarce(&self) -> bool {
        let few = if self.is_clocked { WINDOW_CLOCKED } else { WINDOW_SMALL };
        self.window <= few && !self.slow_start
    }
}

/// The peer's terms, what was asked last, and what is to be asked.
#[derive(Debug)]
pub struct AckFrequency {
    /// Shortest delay that the peer takes (`min_ack_delay`).
    delay_min: Duration,
    /// The peer's `max_ack_delay`: never more is asked for.
    delay_max: Duration,
    next_sequence: u64,
    last: Option<Wish>,
    last_at: Instant,
    in_flight: bool,
    to_send: bool,
    /// What was asked for was for another path.
    is_outdated: bool,
}

impl AckFrequency {
    /// For a peer that announced `min_ack_delay` and `max_ack_delay`.
    pub fn new(delay_min: Duration, delay_max: Duration) -> Self {
        Self {
            delay_min,
            delay_max,
            next_sequence: 0,
            last: None,
            last_at: Instant::default(),
            in_flight: false,
            to_send: false,
            is_outdated: false,
        }
    }

    /// Looks whether the peer should hear of something new: at most once a round trip, with nothing unanswered.
    #[inline]
    pub fn review(&mut self, at: &Situation) {
        if self.in_flight || self.to_send || at.now - self.last_at < at.srtt {
            return;
        }
        let wish = self.wish(at);
        let differs = |a: u64, b: u64| a != b && (a >= b * 2 || b >= a * 2);
        let news = match &self.last {
            Some(_) if self.is_outdated => true,
            None => at.is_worth_asking(),
            Some(last) => {
                differs(wish.threshold, last.threshold)
                    || differs(wish.max_delay.as_micros() as u64, last.max_delay.as_micros() as u64)
            }
        };
        if news {
            self.last = Some(wish);
            self.last_at = at.now;
            self.to_send = true;
            self.is_outdated = false;
        }
    }

    fn wish(&self, at: &Situation) -> Wish {
        let least = self.delay_min.max(DELAY_MIN).min(self.delay_max);
        Wish {
            sequence: self.next_sequence,
            threshold: if at.is_scarce() { 0 } else { (at.window / PER_WINDOW).clamp(1, THRESHOLD_MAX) },
            max_delay: (at.srtt / 4).clamp(least, self.delay_max),
        }
    }

    /// A frame is to be sent.
    #[inline]
    pub fn is_pending(&self) -> bool {
        self.to_send
    }

    /// What the frame that is being written says.
    pub fn take(&mut self) -> Option<Wish> {
        let wish = self.last.as_mut().filter(|_| self.to_send)?;
        wish.sequence = self.next_sequence;
        self.next_sequence += 1;
        self.to_send = false;
        self.in_flight = true;
        Some(*wish)
    }

    /// The frame arrived; returns the delay that the peer keeps to from now on.
    pub fn on_acked(&mut self, sequence: u64) -> Option<Duration> {
        let last = self.last.filter(|last| last.sequence == sequence)?;
        self.in_flight = false;
        Some(last.max_delay)
    }

    /// The frame was lost: the wish is said again, with a new number, unless a newer one was.
    pub fn on_lost(&mut self, sequence: u64) {
        if self.in_flight && self.last.is_some_and(|last| last.sequence == sequence) {
            self.in_flight = false;
            self.to_send = true;
        }
    }

    /// The path changed: what was asked for fits no more, so the next review speaks up whatever it finds (section 8.4); what was not sent yet need not be.
    pub fn on_path_change(&mut self) {
        self.is_outdated = true;
        self.in_flight = false;
        self.to_send = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64, window: u64) -> Situation {
        let now = Instant::from_nanos(ms * 1_000_000);
        Situation { now, window, slow_start: false, srtt: Duration::from_millis(40), is_clocked: true }
    }

    fn peer() -> AckFrequency {
        AckFrequency::new(Duration::from_millis(1), Duration::from_millis(25))
    }

    #[test]
    fn a_window_of_middle_size_is_heard_once_it_has_been_found() {
        let mut f = peer();
        f.review(&Situation { slow_start: true, ..at(1_000, 40) });
        assert!(!f.is_pending());
        f.review(&at(2_000, 40));
        assert_eq!(f.take().map(|wish| wish.threshold), Some(2));
    }

    #[test]
    fn a_wish_for_a_path_that_was_left_is_not_sent() {
        let mut f = peer();
        f.review(&at(1_000, 800));
        assert!(f.is_pending());
        f.on_path_change();
        assert_eq!(f.take(), None);
        f.review(&at(2_000, 32));
        assert_eq!(f.take().map(|wish| wish.threshold), Some(2), "the next one is, whatever it is");
    }

    #[test]
    fn a_window_of_a_few_packets_asks_for_each_of_them() {
        for (is_clocked, few) in [(true, WINDOW_CLOCKED), (false, WINDOW_SMALL)] {
            let mut f = peer();
            let at = |ms, window| Situation { is_clocked, ..at(ms, window) };
            f.review(&Situation { slow_start: true, ..at(500, few) });
            assert!(!f.is_pending(), "it still grows");
            f.review(&at(1_000, few));
            let wish = f.take().unwrap();
            assert_eq!(wish.threshold, 0);
            f.on_acked(wish.sequence);
            f.review(&at(2_000, 2));
            assert!(!f.is_pending(), "the same is not said twice");
            f.review(&at(3_000, few + 1));
            assert_eq!(f.take().map(|wish| wish.threshold), Some(1), "one for two is what follows");
        }
    }

    #[test]
    fn nothing_is_asked_for_where_it_is_not_worth_asking() {
        for window in 0..100 {
            for slow_start in [false, true] {
                let mut f = peer();
                let situation = Situation { slow_start, ..at(1_000, window) };
                f.review(&situation);
                assert!(situation.is_worth_asking() || !f.is_pending(), "a window of {window}");
            }
        }
    }

    #[test]
    fn the_wish_follows_the_window_in_steps_of_two() {
        let mut f = peer();
        let mut asked = Vec::new();
        for step in 0..200 {
            f.review(&at(1_000 + step * 50, 64 + step * 8));
            if let Some(wish) = f.take() {
                assert_eq!(wish.max_delay, Duration::from_millis(10));
                asked.push(wish.threshold);
                f.on_acked(wish.sequence);
            }
        }
        assert_eq!(asked, [4, 8, 16, 32, 64]);
    }

    #[test]
    fn a_lost_wish_is_said_again_under_a_new_number() {
        let mut f = peer();
        f.review(&at(1_000, 100));
        let first = f.take().unwrap();
        f.on_lost(first.sequence);
        let again = f.take().unwrap();
        assert_eq!((again.threshold, again.sequence), (first.threshold, first.sequence + 1));
        assert_eq!(f.on_acked(first.sequence), None, "an older number settles nothing");
        assert_eq!(f.on_acked(again.sequence), Some(Duration::from_millis(10)));
    }

    #[test]
    fn a_new_path_is_told_anew() {
        let mut f = peer();
        f.review(&at(1_000, 100));
        let first = f.take().unwrap();
        f.on_acked(first.sequence);
        f.on_path_change();
        f.review(&at(2_000, 100));
        assert_eq!(f.take().map(|w| w.threshold), Some(6));
    }

    #[test]
    fn the_delay_stays_within_what_the_peer_takes() {
        let mut f = AckFrequency::new(Duration::from_millis(15), Duration::from_millis(20));
        f.review(&at(1_000, 100));
        assert_eq!(f.take().unwrap().max_delay, Duration::from_millis(15));
    }
}
