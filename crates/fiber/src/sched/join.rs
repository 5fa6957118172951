//! Waiting for a fiber's end.

use super::Inner;
use super::cell::{CANCEL, FiberCell, HANDLE, Outcome, PanicBox, State, take};
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Context, Poll};

/// The result of a fiber to come. Dropping it lets the fiber go on by itself.
///
/// It is a future too, so a fiber can be awaited by any executor on its thread, as long as something drives the scheduler.
#[must_use = "call `detach` if the fiber's end does not matter"]
pub struct JoinHandle<T> {
    inner: Rc<Inner>,
    cell: NonNull<FiberCell>,
    taken: bool,
    result: PhantomData<T>,
}

impl<T> Unpin for JoinHandle<T> {}

impl<T: 'static> JoinHandle<T> {
    pub(super) fn new(inner: Rc<Inner>, cell: NonNull<FiberCell>) -> JoinHandle<T> {
        JoinHandle { inner, cell, taken: false, result: PhantomData }
    }

    /// Parks until the fiber ended and takes its result. Outside a fiber the thread's fibers run meanwhile. If the
    /// fiber that joins is cancelled, the other one goes on by itself.
    ///
    /// Fails if the fiber panicked, was cancelled or could not be given a stack.
    pub fn join(mut self) -> Result<T, JoinError> {
        if self.cell().state.get() != State::Done {
            self.cell().joined.wait();
        }
        self.take()
    }

    /// Asks the fiber to end: its next wait unwinds, or the one in which it is parked, and destructors on its stack run.
    /// A fiber that has not run yet is dropped. From then on every wait outside [`shield`](crate::shield) unwinds, so
    /// one that catches the unwinding and waits again is cancelled again. Waits in destructors that run because of an
    /// unwinding are not interrupted. A fiber that never waits is not ended: see
    /// [`check_cancelled`](crate::check_cancelled).
    pub fn cancel(&self) {
        self.inner.cancel(self.cell());
    }

    /// Whether the fiber ended.
    pub fn is_finished(&self) -> bool {
        self.cell().state.get() == State::Done
    }

    /// Lets the fiber go on by itself; its result is dropped, a panic only counted.
    pub fn detach(self) {}
}

impl<T> JoinHandle<T> {
    fn cell(&self) -> &FiberCell {
        // SAFETY: cells live as long as the scheduler's memory, of which the handle holds a count.
        unsafe { self.cell.as_ref() }
    }

    /// Takes the outcome of a fiber that is done, and gives its cell back.
    fn take(&mut self) -> Result<T, JoinError> {
        assert!(!self.taken, "a join handle was polled after it was ready");
        self.taken = true;
        let cell = self.cell();
        let result = match cell.outcome.get() {
            Outcome::Value => {
                cell.outcome.set(Outcome::None);
                // SAFETY: the outcome said that the payload holds the result, which is a `T`, for the last time.
                Ok(unsafe { take::<T>(cell.payload.get()) })
            }
            _ => Err(failure(cell)),
        };
        self.inner.release(cell);
        result
    }
}

impl<T: 'static> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.taken && self.cell().state.get() != State::Done && self.cell().joined.poll_wait(context).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(self.take())
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        self.cell().joined.reset();
        if self.cell().state.get() == State::Done {
            drop(self.take());
        } else {
            self.cell().clear(HANDLE);
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cell = self.cell();
        f.debug_struct("JoinHandle").field("name", &cell.name.borrow()).field("state", &cell.state.get()).finish()
    }
}

impl Inner {
    pub(super) fn cancel(&self, cell: &FiberCell) {
        if matches!(cell.state.get(), State::Free | State::Done) {
            return;
        }
        cell.set(CANCEL);
        // Where it is parked it looks at the flag, and parks again if it must not be interrupted there.
        self.wake_cell(cell, false);
    }
}

/// Takes the outcome of a fiber that has no result.
#[cold]
fn failure(cell: &FiberCell) -> JoinError {
    let payload = cell.payload.get();
    match cell.outcome.replace(Outcome::None) {
        // SAFETY: the outcome said so for the last time.
        Outcome::Panicked => JoinError::Panicked(unsafe { take::<PanicBox>(payload) }),
        // SAFETY: as above.
        Outcome::NoStack => JoinError::NoStack(unsafe { take::<io::Error>(payload) }),
        Outcome::Cancelled | Outcome::None | Outcome::Value => JoinError::Cancelled,
    }
}

/// Why a fiber has no result.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// It panicked; this is what the panic carried.
    #[error("the fiber panicked: {}", panic_text(.0))]
    Panicked(Box<dyn Any + Send>),
    /// It was cancelled, or its scheduler ended.
    #[error("the fiber was cancelled")]
    Cancelled,
    /// No stack could be mapped for it, so it never ran.
    #[error("no stack could be mapped for the fiber: {0}")]
    NoStack(#[source] io::Error),
}

fn panic_text(panic: &Box<dyn Any + Send>) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("with a value that is no text")
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
