//! The queues of fibers that are ready, and what else every switch touches.

use super::cell::{FiberCell, State};
use std::cell::Cell;
use std::ptr::NonNull;

/// What a switch needs of its scheduler: one cache line.
#[repr(C, align(64))]
#[derive(Default)]
pub(crate) struct Hot {
    pub(super) ready: Queue,
    pub(super) ready_io: Queue,
    /// The fiber that runs. The scheduler's own loop leaves the last one here from switch to switch, and nothing when it
    /// calls code that is not its own.
    pub(super) current: Cell<Option<NonNull<FiberCell>>>,
    /// Fibers that were ever made ready, and those of them that were run, both modulo 2^32: what lies between is ready.
    pub(super) queued: Cell<u32>,
    pub(super) ran: Cell<u32>,
    /// What `ran` is when the turn's budget is used up.
    pub(super) stop: Cell<u32>,
    /// A fiber that waits gives the thread back to whoever resumed it, because that is a fiber that runs others while it
    /// waits itself, or because such a thing is not wanted (`Inner::host`).
    pub(super) nested: Cell<bool>,
    /// An executor of which this is a guest sleeps.
    pub(super) host_sleeps: Cell<bool>,
}

impl Hot {
    /// Fibers that are ready.
    pub(super) fn ready_count(&self) -> usize {
        self.queued.get().wrapping_sub(self.ran.get()) as usize
    }

    pub(super) fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.ready_io.is_empty()
    }

    /// Counts a fiber that is run.
    #[inline(always)]
    pub(super) fn count_run(&self) {
        self.ran.set(self.ran.get().wrapping_add(1));
    }

    /// The next fiber, if it is one that a parked fiber may run: only what is plain, so that order, budget and the share of
    /// completions are those of the scheduler's own loop.
    #[inline(always)]
    pub(super) fn next_plain(&self) -> Option<NonNull<FiberCell>> {
        let head = self.ready.head.get()?;
        // SAFETY: cells outlive the queue.
        let plain = unsafe { head.as_ref() }.state.get() == State::Active;
        if !plain || !self.ready_io.is_empty() || self.ran.get() == self.stop.get() {
            return None;
        }
        self.count_run();
        // SAFETY: as above.
        self.ready.head.set(unsafe { head.as_ref() }.next.get());
        Some(head)
    }
}

/// A first-in, first-out queue through the cells themselves. A cell is in at most one.
#[derive(Default)]
pub(crate) struct Queue {
    head: Cell<Option<NonNull<FiberCell>>>,
    /// The last cell; stale while there is none.
    tail: Cell<Option<NonNull<FiberCell>>>,
}

impl Queue {
    #[inline(always)]
    pub(super) fn push(&self, cell: &FiberCell) {
        let pointer = NonNull::from(cell);
        cell.next.set(None);
        if self.head.get().is_none() {
            self.head.set(Some(pointer));
        } else {
            // SAFETY: a queue that is not empty has a last cell, and `push` has written which.
            let last = unsafe { self.tail.get().unwrap_unchecked() };
            // SAFETY: cells outlive the queue.
            unsafe { last.as_ref() }.next.set(Some(pointer));
        }
        self.tail.set(Some(pointer));
    }

    #[inline(always)]
    pub(super) fn pop(&self) -> Option<NonNull<FiberCell>> {
        let cell = self.head.get()?;
        // SAFETY: as above.
        self.head.set(unsafe { cell.as_ref() }.next.get());
        Some(cell)
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.head.get().is_none()
    }
}
