//! Liveness: as long as the network carries anything, something useful happens within a bounded time.

use std::time::Duration;

use super::Monitor;
use crate::{Instant, Tally};

/// Fails when the applications make no progress for too long.
#[derive(Debug)]
pub struct Liveness {
    bound: Duration,
    last: (Instant, u64),
    now: Instant,
    over: bool,
}

impl Liveness {
    /// `bound` must cover the longest dark window of the path and the probe timeouts that follow it.
    pub fn new(bound: Duration) -> Self {
        Self { bound, last: (Instant::from_nanos(0), 0), now: Instant::from_nanos(0), over: false }
    }
}

impl Monitor for Liveness {
    fn tally(&mut self, now: Instant, all: &Tally) {
        self.now = now;
        let progress = all.progress();
        if progress > self.last.1 {
            self.last = (now, progress);
        }
    }

    fn over(&mut self) {
        self.over = true;
    }

    fn violation(&self) -> Option<String> {
        let idle = self.now - self.last.0;
        (!self.over && idle > self.bound).then(|| format!("no progress for {idle:?} (bound {:?})", self.bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standing_still_is_noticed() {
        let s = |n| Instant::from_nanos(0) + Duration::from_secs(n);
        let mut liveness = Liveness::new(Duration::from_secs(5));
        let one = Tally { completed: 1, ..Tally::default() };
        liveness.tally(s(4), &one);
        liveness.tally(s(9), &one);
        assert_eq!(liveness.violation(), None);
        liveness.tally(s(10), &one);
        assert!(liveness.violation().is_some());
        liveness.over();
        assert_eq!(liveness.violation(), None, "nothing is left to do");
    }
}
