//! When which connection wants to be called.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Deadlines of connections by index. A connection's earlier deadlines stay in the heap until they pass, and are found
/// to be stale then: rearming at every packet would cost more.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
    armed: Vec<Option<Instant>>,
}

impl Timers {
    /// Connection `index` wants to be called at `deadline`, whatever it wanted before.
    pub fn set(&mut self, index: usize, deadline: Option<Instant>) {
        if self.armed.len() <= index {
            self.armed.resize(index + 1, None);
        }
        let armed = &mut self.armed[index];
        if let Some(deadline) = deadline
            && armed.is_none_or(|armed| deadline < armed)
        {
            *armed = Some(deadline);
            self.heap.push(Reverse((deadline, index)));
        }
    }

    /// The next connection whose time may have come. It has to be asked for its deadline, and set again.
    pub fn due(&mut self, now: Instant) -> Option<usize> {
        while let Some(&Reverse((deadline, index))) = self.heap.peek() {
            if deadline > now {
                return None;
            }
            self.heap.pop();
            if self.armed[index] == Some(deadline) {
                self.armed[index] = None;
                return Some(index);
            }
        }
        None
    }

    /// How long nobody wants to be called, at most `limit`.
    pub fn quiet(&self, now: Instant, limit: Duration) -> Duration {
        self.heap.peek().map_or(limit, |&Reverse((deadline, _))| limit.min(deadline.saturating_duration_since(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_counts_once() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut timers = Timers::default();
        timers.set(3, Some(start + 2 * second));
        timers.set(3, Some(start + second));
        timers.set(1, Some(start + 3 * second));
        assert_eq!(timers.quiet(start, 9 * second), second);
        assert_eq!(timers.due(start), None);
        assert_eq!(timers.due(start + 2 * second), Some(3));
        assert_eq!(timers.due(start + 2 * second), None);
        assert_eq!(timers.due(start + 3 * second), Some(1));
    }
}
