//! The timers of a scheduler.

use super::clock::Instant;
use super::wheel::{Entries, Link, NIL, Wheel};
use crate::baton::Baton;
use crate::limits::{STALE_PRECISE_MAX, TICK_BITS};
use crate::sched::Inner;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};
use std::time::Duration;

/// Who watches over a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    Wheel,
    Kernel,
}

/// Names a timer; harmless after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerKey {
    index: u32,
    generation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    InWheel,
    InHeap,
    /// Due, not yet seen by whoever waits.
    Fired,
}

struct Entry {
    at: Instant,
    link: Link,
    generation: u32,
    state: State,
    /// Posted when the time has come. It is moved out for that, so that nothing is borrowed while others are woken.
    baton: Baton,
    callback: Option<Callback>,
}

struct Callback {
    call: Box<dyn FnMut()>,
    period: Option<Duration>,
}

#[derive(Default)]
struct Slab {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

impl Entries for Slab {
    fn link(&mut self, entry: u32) -> &mut Link {
        &mut self.entries[entry as usize].link
    }

    /// Rounded up: a timer does not fire before its time.
    fn tick(&self, entry: u32) -> u64 {
        self.entries[entry as usize].at.as_nanos().div_ceil(1 << TICK_BITS)
    }
}

#[derive(Default)]
struct Tables {
    slab: Slab,
    wheel: Wheel,
    /// Entries of timers that were removed stay until they come up or are swept.
    heap: BinaryHeap<Reverse<(Instant, TimerKey)>>,
    precise: usize,
}

/// See the module above.
#[derive(Default)]
pub(crate) struct Timers {
    tables: RefCell<Tables>,
    set: Cell<usize>,
}

impl Timers {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.set.get() == 0
    }

    /// Timers that are set and have not fired.
    pub(crate) fn len(&self) -> usize {
        self.set.get()
    }

    pub(super) fn set(&self, at: Instant, precision: Precision) -> TimerKey {
        self.insert(at, precision, None)
    }

    fn insert(&self, at: Instant, precision: Precision, callback: Option<Callback>) -> TimerKey {
        let tables = &mut *self.tables.borrow_mut();
        let index = tables.slab.free.pop().unwrap_or_else(|| {
            let link = Link { prev: NIL, next: NIL, list: 0 };
            let (state, baton) = (State::Free, Baton::new());
            tables.slab.entries.push(Entry { at, link, generation: 0, state, baton, callback: None });
            tables.slab.entries.len() as u32 - 1
        });
        let entry = &mut tables.slab.entries[index as usize];
        entry.at = at;
        entry.callback = callback;
        let key = TimerKey { index, generation: entry.generation };
        tables.arm(key, precision);
        self.set.set(self.set.get() + 1);
        key
    }

    pub(super) fn poll(&self, key: TimerKey, context: &mut Context<'_>) -> Poll<()> {
        let tables = &mut *self.tables.borrow_mut();
        match tables.entry(key) {
            Some(entry) if entry.state != State::Fired => entry.baton.poll_wait(context),
            _ => Poll::Ready(()),
        }
    }

    /// Ends a timer, whether it fired or not. Its callback is dropped after everything is in order again.
    pub(super) fn remove(&self, key: TimerKey) {
        let callback = {
            let tables = &mut *self.tables.borrow_mut();
            let Some(entry) = tables.entry(key) else { return };
            let state = entry.state;
            if state != State::Fired {
                self.set.set(self.set.get() - 1);
            }
            match state {
                State::InWheel => tables.wheel.remove(&mut tables.slab, key.index),
                State::InHeap => tables.sweep(),
                State::Free | State::Fired => {}
            }
            tables.release(key)
        };
        drop(callback);
    }

    /// Wakes and calls everything that is due.
    pub(crate) fn fire(&self, now: Instant) {
        self.tables.borrow_mut().advance(now);
        loop {
            let due = self.tables.borrow_mut().pop_due(now);
            let Some(key) = due else { return };
            self.set.set(self.set.get() - 1);
            let (baton, callback) = self.tables.borrow_mut().fired(key);
            baton.post();
            if let Some(callback) = callback {
                self.call(key, callback, now);
            }
        }
    }

    fn call(&self, key: TimerKey, mut callback: Callback, now: Instant) {
        let panicked = catch_unwind(AssertUnwindSafe(|| (callback.call)())).is_err();
        if panicked {
            tracing::error!("the callback of a timer panicked; the timer is taken out");
        }
        let tables = &mut *self.tables.borrow_mut();
        // The callback may have cancelled its own timer.
        let Some(entry) = tables.entry(key) else { return };
        match callback.period {
            Some(period) if !panicked => {
                entry.at = next_period(entry.at, period, now);
                entry.callback = Some(callback);
                tables.arm(key, Precision::Wheel);
                self.set.set(self.set.get() + 1);
            }
            _ => drop(tables.release(key)),
        }
    }

    /// When something is due, or has to be sorted again.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        let tables = &mut *self.tables.borrow_mut();
        let wheel = tables.wheel.next_tick().map(|tick| Instant::from_nanos(tick << TICK_BITS));
        let heap = tables.heap_first();
        wheel.into_iter().chain(heap).min()
    }
}

impl Tables {
    fn entry(&mut self, key: TimerKey) -> Option<&mut Entry> {
        let entry = self.slab.entries.get_mut(key.index as usize)?;
        (entry.generation == key.generation && entry.state != State::Free).then_some(entry)
    }

    fn arm(&mut self, key: TimerKey, precision: Precision) {
        let entry = &mut self.slab.entries[key.index as usize];
        match precision {
            Precision::Wheel => {
                entry.state = State::InWheel;
                self.wheel.insert(&mut self.slab, key.index);
            }
            Precision::Kernel => {
                entry.state = State::InHeap;
                self.heap.push(Reverse((entry.at, key)));
                self.precise += 1;
            }
        }
    }

    fn release(&mut self, key: TimerKey) -> Option<Callback> {
        let entry = &mut self.slab.entries[key.index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.state = State::Free;
        entry.baton.reset();
        self.slab.free.push(key.index);
        entry.callback.take()
    }

    /// A precise timer was removed: sweeps its like out if they are many.
    fn sweep(&mut self) {
        self.precise -= 1;
        if self.heap.len() > 2 * self.precise + STALE_PRECISE_MAX {
            let slab = &self.slab;
            self.heap.retain(|Reverse((_, key))| {
                let entry = &slab.entries[key.index as usize];
                entry.generation == key.generation && entry.state == State::InHeap
            });
        }
    }

    fn advance(&mut self, now: Instant) {
        self.wheel.advance(&mut self.slab, now.as_nanos() >> TICK_BITS);
    }

    /// The first deadline in the heap of a timer that still is.
    fn heap_first(&mut self) -> Option<Instant> {
        while let Some(&Reverse((at, key))) = self.heap.peek() {
            if self.entry(key).is_some_and(|entry| entry.state == State::InHeap) {
                return Some(at);
            }
            self.heap.pop();
        }
        None
    }

    fn pop_due(&mut self, now: Instant) -> Option<TimerKey> {
        if self.heap_first().is_some_and(|at| at <= now)
            && let Some(Reverse((_, key))) = self.heap.pop()
        {
            self.precise -= 1;
            return Some(key);
        }
        let index = self.wheel.pop_due(&mut self.slab)?;
        Some(TimerKey { index, generation: self.slab.entries[index as usize].generation })
    }

    fn fired(&mut self, key: TimerKey) -> (Baton, Option<Callback>) {
        let entry = &mut self.slab.entries[key.index as usize];
        entry.state = State::Fired;
        (std::mem::take(&mut entry.baton), entry.callback.take())
    }
}

/// The first multiple of the period after `due` that is still to come.
pub(super) fn next_period(due: Instant, period: Duration, now: Instant) -> Instant {
    let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1);
    let missed = now.as_nanos().saturating_sub(due.as_nanos()) / period;
    due + Duration::from_nanos(period.saturating_mul(missed + 1))
}

/// A timer with a callback. Dropping the handle leaves the timer as it is.
#[derive(Clone, Copy)]
pub struct TimerHandle {
    key: TimerKey,
    /// For the thread of its scheduler only.
    local: std::marker::PhantomData<*const ()>,
}

impl TimerHandle {
    /// Takes the timer out and drops its callback. Nothing happens if it is over.
    pub fn cancel(self) {
        Inner::try_with(|inner| inner.timers().remove(self.key));
    }
}

impl fmt::Debug for TimerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TimerHandle").field(&self.key.index).finish()
    }
}

/// Calls `f` once after `delay`, on the thread's own stack between two fibers: it must not wait. A panic in it is reported
/// through `tracing` and ends only the timer.
///
/// # Panics
/// Without a scheduler on this thread.
pub fn once(delay: Duration, f: impl FnOnce() + 'static) -> TimerHandle {
    let mut f = Some(f);
    start(delay, None, Box::new(move || f.take().map_or((), |f| f())))
}

/// Calls `f` every `period`, first after one period, as [`once`] does. Calls that are late do not shift later ones; those
/// that were missed altogether are skipped.
///
/// # Panics
/// If the period is zero, or without a scheduler on this thread.
pub fn every(period: Duration, f: impl FnMut() + 'static) -> TimerHandle {
    assert!(!period.is_zero(), "a period has a length");
    start(period, Some(period), Box::new(f))
}

fn start(delay: Duration, period: Option<Duration>, call: Box<dyn FnMut()>) -> TimerHandle {
    let callback = Some(Callback { call, period });
    let key = Inner::with(|inner| inner.timers().insert(inner.now() + delay, Precision::Wheel, callback));
    TimerHandle { key, local: std::marker::PhantomData }
}
