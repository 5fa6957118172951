//! A link that takes packets up to a size, which may shrink while traffic flows. It sends no ICMP message.

use super::{Direction, Dropped, Hop, HopCx};
use crate::{Instant, Packet};

/// Drops what is larger than the limit, silently.
#[derive(Debug)]
pub struct MtuLimit {
    limit: usize,
    later: Option<(Instant, usize)>,
}

impl MtuLimit {
    /// `limit` is in bytes of IP packet.
    pub fn new(limit: usize) -> Self {
        Self { limit, later: None }
    }

    /// From `at` on the limit is `limit`.
    #[must_use]
    pub fn then(mut self, at: Instant, limit: usize) -> Self {
        self.later = Some((at, limit));
        self
    }
}

impl Hop for MtuLimit {
    fn forward(&mut self, cx: &mut HopCx<'_>, _direction: Direction, packet: Packet) {
        if let Some((at, limit)) = self.later
            && cx.now >= at
        {
            self.limit = limit;
            self.later = None;
        }
        if packet.wire_len() > self.limit {
            cx.drop(Dropped::TooBig, packet);
        } else {
            cx.pass(packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{Drive, packet};
    use super::*;

    #[test]
    fn the_limit_counts_headers_and_may_shrink() {
        let later = Instant::from_nanos(0) + Duration::from_millis(5);
        let mut drive = Drive::new(MtuLimit::new(1_500).then(later, 1_300));
        drive.give(Duration::ZERO, Direction::Up, packet(1_472));
        drive.give(Duration::ZERO, Direction::Up, packet(1_473));
        drive.give(Duration::from_millis(5), Direction::Up, packet(1_472));
        drive.give(Duration::from_millis(6), Direction::Up, packet(1_272));
        assert_eq!((drive.passed.len(), drive.dropped.len()), (2, 2));
    }
}
