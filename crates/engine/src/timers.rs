//! Timers of tasks: a heap of deadlines beside a slab of wakers.
//!
//! Connections keep their own timers in `proto`; these here are for sleeping tasks, of which there are few compared
//! to packets. Cancelling leaves the heap entry behind, to be skipped when it comes up; the heap is rebuilt when more
//! than half of it is such leftovers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use warpline_proto::Instant;

/// Names a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    /// Which worker's timers it belongs to: the task that holds the key may have come from another one.
    owner: u64,
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    waker: Option<Waker>,
}

/// Leftovers that are tolerated before the heap is rebuilt, so that small heaps never are.
const LEFTOVERS_MIN: usize = 64;

/// The timers of one worker.
#[derive(Debug)]
pub(crate) struct Timers {
    id: u64,
    heap: BinaryHeap<Reverse<(Instant, u32, u32)>>,
    entries: Vec<Entry>,
    free: Vec<u32>,
}

impl Default for Timers {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { id, heap: BinaryHeap::new(), entries: Vec::new(), free: Vec::new() }
    }
}

impl Timers {
    /// Starts a timer that wakes `waker` once `deadline` has passed.
    pub(crate) fn start(&mut self, deadline: Instant, waker: Waker) -> TimerKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, waker: None });
            u32::try_from(self.entries.len() - 1).expect("a worker's memory ends long before 2^32 timers")
        });
        let entry = &mut self.entries[index as usize];
        entry.waker = Some(waker);
        let key = TimerKey { owner: self.id, index, generation: entry.generation };
        self.heap.push(Reverse((deadline, index, key.generation)));
        key
    }

    /// Replaces the waker of a running timer and returns the old one, to be dropped where no borrow is held.
    /// `None` if it has fired, or runs elsewhere.
    pub(crate) fn update(&mut self, key: TimerKey, waker: &Waker) -> Option<Option<Waker>> {
        if key.owner != self.id {
            return None;
        }
        let entry = self.entries.get_mut(key.index as usize).filter(|entry| entry.generation == key.generation)?;
        match &mut entry.waker {
            Some(old) if old.will_wake(waker) => Some(None),
            old => Some(old.replace(waker.clone())),
        }
    }

    /// Stops a timer and returns its waker, to be dropped where no borrow is held.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<Waker> {
        if key.owner != self.id {
            return None;
        }
        let waker = self.release(key.index, key.generation)?;
        let live = self.entries.len() - self.free.len();
        if self.heap.len() > 2 * live + LEFTOVERS_MIN {
            let entries = &self.entries;
            self.heap.retain(|Reverse((_, index, generation))| entries[*index as usize].generation == *generation);
        }
        Some(waker)
    }

    fn release(&mut self, index: u32, generation: u32) -> Option<Waker> {
        let entry = self.entries.get_mut(index as usize).filter(|entry| entry.generation == generation)?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index);
        entry.waker.take()
    }

    /// Moves the wakers of all timers that are due to `due`.
    pub(crate) fn fire(&mut self, now: Instant, due: &mut Vec<Waker>) {
        while let Some(Reverse((deadline, index, generation))) = self.heap.peek().copied() {
            if deadline > now {
                break;
            }
            self.heap.pop();
            due.extend(self.release(index, generation));
        }
    }

    /// Moves the wakers of all timers to `due`: the worker ends, and what sleeps has gone elsewhere.
    pub(crate) fn fire_all(&mut self, due: &mut Vec<Waker>) {
        self.fire(Instant::FAR_FUTURE, due);
    }

    /// When the next timer is due.
    pub(crate) fn next(&mut self) -> Option<Instant> {
        while let Some(Reverse((deadline, index, generation))) = self.heap.peek().copied() {
            if self.entries[index as usize].generation == generation {
                return Some(deadline);
            }
            self.heap.pop();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ns: u64) -> Instant {
        Instant::from_nanos(ns)
    }

    #[test]
    fn fires_in_order_and_only_what_is_due() {
        let mut timers = Timers::default();
        timers.start(at(30), Waker::noop().clone());
        timers.start(at(10), Waker::noop().clone());
        assert_eq!(timers.next(), Some(at(10)));
        let mut due = Vec::new();
        timers.fire(at(29), &mut due);
        assert_eq!(due.len(), 1);
        assert_eq!(timers.next(), Some(at(30)));
        timers.fire(at(30), &mut due);
        assert_eq!(due.len(), 2);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_cancelled_timer_does_not_fire_and_its_key_stays_dead() {
        let mut timers = Timers::default();
        let key = timers.start(at(10), Waker::noop().clone());
        assert!(timers.cancel(key).is_some());
        let second = timers.start(at(20), Waker::noop().clone());
        assert!(timers.cancel(key).is_none());
        assert!(timers.update(key, Waker::noop()).is_none());
        assert!(timers.update(second, Waker::noop()).is_some());
        assert_eq!(timers.next(), Some(at(20)));
    }

    #[test]
    fn a_key_of_another_worker_names_nothing_here() {
        let (mut here, mut there) = (Timers::default(), Timers::default());
        let key = there.start(at(10), Waker::noop().clone());
        here.start(at(20), Waker::noop().clone());
        assert!(here.update(key, Waker::noop()).is_none() && here.cancel(key).is_none());
        assert_eq!(here.next(), Some(at(20)));
        let mut due = Vec::new();
        there.fire_all(&mut due);
        assert_eq!((due.len(), there.next()), (1, None));
    }

    #[test]
    fn leftovers_do_not_pile_up() {
        let mut timers = Timers::default();
        for i in 0..100_000 {
            let key = timers.start(at(i), Waker::noop().clone());
            timers.cancel(key);
        }
        assert!(timers.heap.len() <= 2 + LEFTOVERS_MIN);
        assert_eq!(timers.entries.len(), 1);
    }
}
