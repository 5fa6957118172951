//! A fiber's beginning and end.

use super::Inner;
use super::cell::{Co, FiberCell, HANDLE, NAMED, Outcome, PanicBox, State, put, take};
use crate::cancel::Cancelled;
use crate::stack::FiberStack;
use corosensei::stack::Stack as _;
use std::borrow::Cow;
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

/// How many fibers there are and were.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) spawned: Cell<u64>,
    pub(super) ended: Cell<u64>,
    pub(super) live_max: Cell<usize>,
    pub(super) panics: Cell<u64>,
    /// How often a fiber was run, up to the end of the last turn.
    pub(super) switches: Cell<u64>,
}

impl Counts {
    /// Fibers that have not ended.
    #[inline]
    pub(super) fn live(&self) -> usize {
        (self.spawned.get() - self.ended.get()) as usize
    }

    #[inline]
    pub(super) fn add(&self) {
        self.spawned.set(self.spawned.get() + 1);
        if self.live() > self.live_max.get() {
            self.live_max.set(self.live());
        }
    }
}

impl Inner {
    /// Gives a new fiber its stack. `false` if it ended without having run.
    #[inline(never)]
    pub(super) fn prepare(&self, cell: &FiberCell) -> bool {
        self.hot.new.set(self.hot.new.get() - 1);
        let error = if cell.is_cancelled() {
            None
        } else {
            match self.stacks.take(cell.seat.class.get(), strand) {
                Ok(coroutine) => {
                    // SAFETY: only this, `resume` and `retire` touch the coroutine, one after the other.
                    unsafe { *cell.coroutine.get() = Some(coroutine) };
                    cell.state.set(State::Active);
                    return true;
                }
                Err(error) => Some(error),
            }
        };
        self.end_unborn(cell, error);
        false
    }

    /// Ends a fiber that never ran: without an error it was cancelled.
    #[cold]
    fn end_unborn(&self, cell: &FiberCell, error: Option<io::Error>) {
        Inner::set_running(None);
        let drop_closure = cell.job.get().drop_closure;
        // SAFETY: the fiber never ran, so the closure is in the payload. Its destructor's panic ends with it.
        let _ = catch_unwind(AssertUnwindSafe(|| unsafe { drop_closure(cell.payload.get()) }));
        cell.outcome.set(match error {
            Some(error) => {
                // SAFETY: the payload has been empty since the closure was dropped.
                unsafe { put::<io::Error>(cell.payload.get(), error) };
                Outcome::NoStack
            }
            None => Outcome::Cancelled,
        });
        self.finish(cell);
    }

    /// Takes the coroutine of a fiber that has ended.
    #[inline(never)]
    pub(super) fn retire(&self, cell: &FiberCell) {
        Inner::set_running(None);
        // SAFETY: as in `prepare`.
        let slot = unsafe { &mut *cell.coroutine.get() };
        if let Some(coroutine) = slot.take() {
            self.stacks.put(cell.seat.class.get(), coroutine);
        }
        self.finish(cell);
    }

    fn finish(&self, cell: &FiberCell) {
        self.counts.ended.set(self.counts.ended.get() + 1);
        cell.state.set(State::Done);
        if cell.has(HANDLE) {
            cell.joined.post();
        } else {
            cell.drop_outcome();
            self.release(cell);
        }
    }

    /// Takes the cell of a fiber that is done, whose outcome was taken, and that nobody will join.
    #[inline]
    pub(super) fn release(&self, cell: &FiberCell) {
        if cell.has(NAMED) {
            *cell.name.borrow_mut() = Cow::Borrowed("");
        }
        cell.generation.set(cell.generation.get().wrapping_add(1));
        cell.state.set(State::Free);
        self.cells.put(cell);
    }
}

/// A coroutine that runs one fiber after the other: whichever is the current one when it is resumed and has none to run.
/// So a pooled stack need not be set up again, and starting a fiber on it is a switch like any other.
fn strand(stack: FiberStack) -> Co {
    let limit = stack.limit().get();
    Co::with_stack(stack, move |yielder, ()| {
        loop {
            let cell = Inner::running().expect("a coroutine is resumed for a fiber");
            // SAFETY: the fiber runs.
            let inner = unsafe { Inner::of_fiber(cell) };
            cell.seat.limit.set(limit);
            cell.seat.yielder.set(yielder);
            run_job(inner, cell);
            cell.state.set(State::Ended);
            inner.ended.set(Some(NonNull::from(cell)));
            inner.hot.end_hosting();
            // Nothing with a destructor may live here: the pool ends coroutines without unwinding them.
            yielder.suspend(());
        }
    })
}

/// What runs on a fiber's stack. No panic leaves it.
fn run_job(inner: &Inner, cell: &FiberCell) {
    let run = cell.job.get().run;
    // SAFETY: the payload holds the closure that the job belongs to.
    let outcome = match catch_unwind(AssertUnwindSafe(|| unsafe { run(cell.payload.get()) })) {
        Ok(()) => Outcome::Value,
        Err(panic) => failed(inner, cell, panic),
    };
    cell.outcome.set(outcome);
    if !cell.locals.is_empty() {
        let _ = catch_unwind(AssertUnwindSafe(|| cell.locals.clear()));
    }
    if !cell.has(HANDLE) {
        let _ = catch_unwind(AssertUnwindSafe(|| cell.drop_outcome()));
    }
}

/// A fiber unwound to its end.
#[cold]
fn failed(inner: &Inner, cell: &FiberCell, panic: PanicBox) -> Outcome {
    // Cancellations that this unwinding held back.
    inner.deliver_delayed();
    if panic.is::<Cancelled>() {
        return Outcome::Cancelled;
    }
    inner.counts.panics.set(inner.counts.panics.get() + 1);
    // SAFETY: the closure was taken out of the payload, and no result was put in.
    unsafe { put::<PanicBox>(cell.payload.get(), panic) };
    Outcome::Panicked
}

impl FiberCell {
    /// Drops what the payload holds of a fiber that ended.
    pub(super) fn drop_outcome(&self) {
        let payload = self.payload.get();
        match self.outcome.replace(Outcome::None) {
            Outcome::None | Outcome::Cancelled => {}
            // SAFETY: the outcome says that the payload holds the result; it said so for the last time.
            Outcome::Value => unsafe { (self.job.get().drop_result)(payload) },
            // SAFETY: the same of a panic.
            Outcome::Panicked => drop(unsafe { take::<PanicBox>(payload) }),
            // SAFETY: the same of an error.
            Outcome::NoStack => drop(unsafe { take::<io::Error>(payload) }),
        }
    }
}
