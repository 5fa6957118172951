//! Virtual time: the queue of what happens next.
//!
//! Events are ordered by (time, sequence number). The second key makes the order total: two events of the same
//! nanosecond happen in the order in which they were scheduled, in every run.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::Instant;

/// Events that lie ahead. The clock is the time of the event that was taken last; it never goes back.
#[derive(Debug)]
pub struct EventQueue<T> {
    heap: BinaryHeap<Scheduled<T>>,
    now: Instant,
    next_seq: u64,
}

impl<T> EventQueue<T> {
    /// An empty queue whose clock stands at `start`.
    pub fn new(start: Instant) -> Self {
        Self { heap: BinaryHeap::new(), now: start, next_seq: 0 }
    }

    /// The current virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Schedules `event`. A time that has passed already means now.
    pub fn schedule(&mut self, at: Instant, event: T) {
        let at = at.max(self.now);
        self.heap.push(Scheduled { at, seq: self.next_seq, event });
        self.next_seq += 1;
    }

    /// Takes the next event and moves the clock to its time.
    pub fn pop(&mut self) -> Option<(Instant, T)> {
        let Scheduled { at, event, .. } = self.heap.pop()?;
        debug_assert!(at >= self.now);
        self.now = at;
        Some((at, event))
    }

    /// When the next event happens.
    pub fn next_time(&self) -> Option<Instant> {
        self.heap.peek().map(|scheduled| scheduled.at)
    }

    /// How many events lie ahead.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing lies ahead.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[derive(Debug)]
struct Scheduled<T> {
    at: Instant,
    seq: u64,
    event: T,
}

impl<T> Ord for Scheduled<T> {
    /// Reversed: the heap gives the greatest, we want the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.seq).cmp(&(self.at, self.seq))
    }
}

impl<T> PartialOrd for Scheduled<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Scheduled<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Scheduled<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn events_come_in_order_of_time_and_then_of_scheduling() {
        let mut queue = EventQueue::new(at(0));
        queue.schedule(at(30), 'd');
        queue.schedule(at(10), 'a');
        queue.schedule(at(20), 'b');
        queue.schedule(at(20), 'c');
        let order: Vec<char> = std::iter::from_fn(|| queue.pop().map(|(_, e)| e)).collect();
        assert_eq!(order, ['a', 'b', 'c', 'd']);
        assert_eq!(queue.now(), at(30));
    }

    #[test]
    fn the_past_means_now() {
        let mut queue = EventQueue::new(at(100));
        queue.schedule(at(5), ());
        assert_eq!(queue.pop(), Some((at(100), ())));
        assert!(queue.is_empty());
    }
}
