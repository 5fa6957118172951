//! Looking again for a short while instead of going to sleep.
//!
//! Falling asleep and being woken costs a worker about 10 µs and its peer on the same machine 1 µs, and on virtual
//! machines several times that. Where the next datagram is likely to come sooner, it pays to keep turning. Likely means:
//! it did so the last time. A worker begins to spin after a sleep that turned out short, and stops as soon as a spin was
//! in vain, so a worker that waits long each time does not spin at all. Where spins are in vain again and again, as when
//! packets of a slow link come evenly at twice the limit, it sits out ever more of the chances, and fewer again when they
//! pay. After a large batch that is answered by acknowledgements only it sleeps too: bulk data is taken with the least
//! work when bursts may build up.

use crate::limits::{SPIN_ANSWER_MIN, SPIN_DATAGRAMS_MAX};
use std::time::Duration;
use warpline_proto::Instant;

/// Most chances that are passed over after spins in vain.
const PASS_MAX: u32 = 63;

/// Whether to sleep or to look again.
#[derive(Debug)]
pub(crate) struct Spin {
    limit: Duration,
    /// The last wait was short.
    armed: bool,
    /// When the first turn without work was.
    idle_since: Option<Instant>,
    /// Chances to pass over after the next spin in vain.
    penalty: u32,
    /// Of these, how many are left.
    pass: u32,
}

impl Spin {
    /// Spins up to `limit`; not at all if it is zero.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, armed: false, idle_since: None, penalty: 0, pass: 0 }
    }

    /// A turn had work: `datagrams` came and `sent` bytes went.
    #[inline]
    pub(crate) fn worked(&mut self, datagrams: u64, sent: u64) {
        if self.idle_since.take().is_some() {
            self.penalty /= 2;
        }
        self.armed &= datagrams <= SPIN_DATAGRAMS_MAX || sent >= datagrams * SPIN_ANSWER_MIN;
    }

    /// A turn at `now` had no work. `true`: look again; `false`: sleep.
    #[inline]
    pub(crate) fn look_again(&mut self, now: Instant) -> bool {
        if !self.armed {
            return false;
        }
        let since = *self.idle_since.get_or_insert(now);
        self.armed = now - since < self.limit;
        if !self.armed {
            self.idle_since = None;
            self.pass = self.penalty;
            self.penalty = (self.penalty * 2 + 1).min(PASS_MAX);
        }
        self.armed
    }

    /// The worker slept for so long.
    pub(crate) fn slept(&mut self, duration: Duration) {
        self.idle_since = None;
        // Half of it and more is the way to sleep and back, so the gap was below the limit.
        let is_short = duration < self.limit * 2;
        self.armed = is_short && self.pass == 0;
        self.pass = self.pass.saturating_sub(u32::from(is_short));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(50);

    fn at(us: u64) -> Instant {
        Instant::from_nanos(us * 1_000)
    }

    #[test]
    fn a_short_sleep_arms_and_a_vain_spin_disarms() {
        let mut spin = Spin::new(LIMIT);
        assert!(!spin.look_again(at(0)));
        spin.slept(Duration::from_micros(60));
        assert!(spin.look_again(at(100)) && spin.look_again(at(149)));
        assert!(!spin.look_again(at(150)) && !spin.look_again(at(151)));
        spin.slept(Duration::from_millis(3));
        assert!(!spin.look_again(at(4_000)));
    }

    #[test]
    fn work_in_time_keeps_it_going_and_bulk_ends_it() {
        let mut spin = Spin::new(LIMIT);
        spin.slept(Duration::from_micros(10));
        for round in 0..10 {
            assert!(spin.look_again(at(round * 40)) && spin.look_again(at(round * 40 + 30)));
            spin.worked(2, 0);
        }
        spin.worked(SPIN_DATAGRAMS_MAX + 1, (SPIN_DATAGRAMS_MAX + 1) * SPIN_ANSWER_MIN);
        assert!(spin.look_again(at(400)), "the peer has something to answer");
        spin.worked(SPIN_DATAGRAMS_MAX + 1, 40);
        assert!(!spin.look_again(at(1_000)));
    }

    #[test]
    fn spins_that_never_pay_become_rare_and_some_that_do_make_up_for_them() {
        let mut spin = Spin::new(LIMIT);
        let mut now = 0;
        let mut spins_of = |spin: &mut Spin, rounds: u32| {
            let mut spins = 0;
            for _ in 0..rounds {
                now += 100;
                spin.slept(Duration::from_micros(70));
                spins += u32::from(spin.look_again(at(now)));
                assert!(!spin.look_again(at(now + 50)));
                spin.worked(1, 0);
            }
            spins
        };
        assert!(spins_of(&mut spin, 1_000) < 30);
        // In the chances that are left something comes in time.
        for _ in 0..6 {
            while !spin.armed {
                spin.slept(Duration::from_micros(70));
            }
            assert!(spin.look_again(at(0)));
            spin.worked(1, 0);
        }
        assert_eq!(spins_of(&mut spin, 1), 1);
    }

    #[test]
    fn without_a_limit_there_is_no_spinning() {
        let mut spin = Spin::new(Duration::ZERO);
        spin.slept(Duration::ZERO);
        assert!(!spin.look_again(at(0)));
    }
}
