//! Looking again for a short while instead of going to sleep.
//!
//! Falling asleep and being woken costs a worker about 10 µs and its peer on the same machine 1 µs, and on virtual
//! machines several times that. Where the next datagram is likely to come sooner, it pays to keep turning. Likely means:
//! it did so the last time. A worker begins to spin after a sleep that turned out short, and stops as soon as a spin was
//! in vain, so a worker that waits long each time does not spin at all. After a large batch it sleeps too: bulk data is
//! taken with the least work when bursts may build up.

use crate::limits::SPIN_DATAGRAMS_MAX;
use std::time::Duration;
use warpline_proto::Instant;

/// Whether to sleep or to look again.
#[derive(Debug)]
pub(crate) struct Spin {
    limit: Duration,
    /// The last wait was short.
    armed: bool,
    /// When the first turn without work was.
    idle_since: Option<Instant>,
}

impl Spin {
    /// Spins up to `limit`; not at all if it is zero.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, armed: false, idle_since: None }
    }

    /// A turn had work; `datagrams` of it.
    #[inline]
    pub(crate) fn worked(&mut self, datagrams: u64) {
        self.idle_since = None;
        self.armed &= datagrams <= SPIN_DATAGRAMS_MAX;
    }

    /// A turn at `now` had no work. `true`: look again; `false`: sleep.
    #[inline]
    pub(crate) fn look_again(&mut self, now: Instant) -> bool {
        if !self.armed {
            return false;
        }
        let since = *self.idle_since.get_or_insert(now);
        self.armed = now - since < self.limit;
        self.armed
    }

    /// The worker slept for so long.
    pub(crate) fn slept(&mut self, duration: Duration) {
        self.idle_since = None;
        // Half of it and more is the way to sleep and back, so the gap was below the limit.
        self.armed = duration < self.limit * 2;
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
            spin.worked(2);
        }
        spin.worked(SPIN_DATAGRAMS_MAX + 1);
        assert!(!spin.look_again(at(1_000)));
    }

    #[test]
    fn without_a_limit_there_is_no_spinning() {
        let mut spin = Spin::new(Duration::ZERO);
        spin.slept(Duration::ZERO);
        assert!(!spin.look_again(at(0)));
    }
}
