//! Memory: what lies in send and receive buffers is bounded, however slow the network or the reader is.

use super::Monitor;
use crate::{Instant, Tally};

/// Fails when all nodes together hold more content than a bound: bytes that were taken from one application and not yet
/// given to the other.
#[derive(Debug)]
pub struct BufferLimit {
    bytes_max: u64,
    held: u64,
}

impl BufferLimit {
    /// `bytes_max` is the sum of the send buffers and receive windows of all connections, and of what abandoned streams never deliver.
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, held: 0 }
    }
}

impl Monitor for BufferLimit {
    fn tally(&mut self, _now: Instant, all: &Tally) {
        self.held = all.accepted_bytes.saturating_sub(all.delivered_bytes);
    }

    fn violation(&self) -> Option<String> {
        (self.held > self.bytes_max)
            .then(|| format!("{} bytes are buffered, {} are allowed", self.held, self.bytes_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_delivered_is_not_held() {
        let mut limit = BufferLimit::new(100);
        let now = Instant::from_nanos(0);
        limit.tally(now, &Tally { accepted_bytes: 500, delivered_bytes: 400, ..Tally::default() });
        assert_eq!(limit.violation(), None);
        limit.tally(now, &Tally { accepted_bytes: 501, delivered_bytes: 400, ..Tally::default() });
        assert!(limit.violation().is_some());
    }
}
