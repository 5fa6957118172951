//! One value from one thread to a task on another.
//!
//! The value's cell belongs to the sender until `DONE` is set and to the receiver afterwards. The waker's cell belongs to
//! the receiver while `WAKER` is not set; while it is set and `DONE` is not, to nobody; whoever then changes the word
//! first decides: the sender by setting `DONE` gains the right to look at the waker, the receiver by clearing `WAKER` the
//! right to replace it. Both changes are read-modify-writes with acquire and release, so each sees what the other wrote.
//! Nobody ever waits for the other side.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::sync::{Arc, AtomicU8, Ordering, UnsafeCell};

/// The sender is done: it has written a value, or has gone without one.
const DONE: u8 = 1;
/// There is a waker.
const WAKER: u8 = 2;
/// Nobody waits for the answer any more.
const UNWANTED: u8 = 4;

/// Makes the two sides.
pub fn oneshot<T: Send>() -> (Reply<T>, Answer<T>) {
    let slot = Arc::new(Slot { state: AtomicU8::new(0), value: UnsafeCell::new(None), waker: UnsafeCell::new(None) });
    (Reply { slot: slot.clone() }, Answer { slot })
}

struct Slot<T> {
    state: AtomicU8,
    value: UnsafeCell<Option<T>>,
    waker: UnsafeCell<Option<Waker>>,
}

// SAFETY: the state hands each cell to one side at a time (see the module), so values and wakers only move.
unsafe impl<T: Send> Sync for Slot<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Slot<T> {}

/// The side that answers. Dropped without an answer, the other side learns that none will come.
pub struct Reply<T: Send> {
    slot: Arc<Slot<T>>,
}

impl<T: Send> Reply<T> {
    /// Answers.
    pub fn send(self, value: T) {
        // SAFETY: `DONE` is not set, so the cell is the sender's, and the sender is consumed.
        self.slot.value.with_mut(|cell| unsafe { *cell = Some(value) });
        // Dropping `self` tells.
    }

    /// Whether anybody still waits for the answer.
    pub fn is_wanted(&self) -> bool {
        self.slot.state.load(Ordering::Relaxed) & UNWANTED == 0
    }
}

impl<T: Send> Drop for Reply<T> {
    fn drop(&mut self) {
        let before = self.slot.state.fetch_or(DONE, Ordering::AcqRel);
        if before & WAKER != 0 {
            // SAFETY: `WAKER` was set when this side set `DONE`, so the receiver leaves the cell alone from now on.
            self.slot.waker.with(|cell| unsafe { &*cell }.as_ref().map(Waker::wake_by_ref));
        }
    }
}

/// The side that waits: a future that resolves to `None` if no answer will come.
pub struct Answer<T: Send> {
    slot: Arc<Slot<T>>,
}

impl<T: Send> Answer<T> {
    /// What the sender left; only once it is done.
    fn take(&self) -> Poll<Option<T>> {
        // SAFETY: `DONE` is set, so the cell is the receiver's.
        Poll::Ready(self.slot.value.with_mut(|cell| unsafe { &mut *cell }.take()))
    }

    /// Whether the waker that is there would wake the same task.
    fn has(&self, waker: &Waker) -> bool {
        // SAFETY: only the receiver writes the cell, and this is the receiver.
        self.slot.waker.with(|cell| unsafe { &*cell }.as_ref().is_some_and(|known| known.will_wake(waker)))
    }
}

impl<T: Send> Drop for Answer<T> {
    fn drop(&mut self) {
        self.slot.state.fetch_or(UNWANTED, Ordering::Relaxed);
    }
}

impl<T: Send> Future for Answer<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let state = self.slot.state.load(Ordering::Acquire);
        if state & DONE != 0 {
            return self.take();
        }
        if state & WAKER != 0 {
            if self.has(cx.waker()) {
                return Poll::Pending;
            }
            if self.slot.state.fetch_and(!WAKER, Ordering::AcqRel) & DONE != 0 {
                return self.take();
            }
        }
        let waker = Some(cx.waker().clone());
        // SAFETY: `WAKER` is not set, so the cell is the receiver's.
        let old = self.slot.waker.with_mut(|cell| std::mem::replace(unsafe { &mut *cell }, waker));
        drop(old);
        if self.slot.state.fetch_or(WAKER, Ordering::AcqRel) & DONE != 0 {
            return self.take();
        }
        Poll::Pending
    }
}

impl<T: Send> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

impl<T: Send> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}
