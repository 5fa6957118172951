//! Waiting for a task of the same worker.

use crate::exec::Executor;
use crate::exec::queue::TaskKey;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// Why a task gave no result.
#[derive(thiserror::Error)]
pub enum JoinError {
    /// The task panicked; this is what it panicked with.
    #[error("the task panicked: {}", panic_text(.0.as_ref()))]
    Panicked(Box<dyn Any + Send>),
    /// The task was aborted, or its worker ended before it did.
    #[error("the task was cancelled")]
    Cancelled,
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(payload) => f.debug_tuple("Panicked").field(&panic_text(payload.as_ref())).finish(),
            Self::Cancelled => f.write_str("Cancelled"),
        }
    }
}

pub(super) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is not text")
}

enum State<T> {
    Running(Option<Waker>),
    Detached,
    Done(Result<T, JoinError>),
    Taken,
}

/// Where a task leaves its result for its [`JoinHandle`].
pub(super) struct JoinCell<T>(RefCell<State<T>>);

impl<T> JoinCell<T> {
    fn complete(&self, result: Result<T, JoinError>) {
        let before = std::mem::replace(&mut *self.0.borrow_mut(), State::Taken);
        match before {
            State::Running(waker) => {
                *self.0.borrow_mut() = State::Done(result);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            State::Detached => report(&result),
            State::Done(_) | State::Taken => {}
        }
    }
}

/// A panic that nobody waits for is not lost: it goes to the log.
fn report<T>(result: &Result<T, JoinError>) {
    if let Err(error @ JoinError::Panicked(_)) = result {
        tracing::error!(%error, "a detached task ended");
    }
}

/// The task's side of its result. Dropped without a result, it reports the task as cancelled.
pub(super) struct Completer<T> {
    cell: Option<Rc<JoinCell<T>>>,
    panics: Rc<Cell<u64>>,
}

impl<T> Completer<T> {
    pub(super) fn new(panics: Rc<Cell<u64>>) -> (Self, Rc<JoinCell<T>>) {
        let cell = Rc::new(JoinCell(RefCell::new(State::Running(None))));
        (Self { cell: Some(Rc::clone(&cell)), panics }, cell)
    }

    pub(super) fn complete(mut self, result: std::thread::Result<T>) {
        if result.is_err() {
            self.panics.set(self.panics.get() + 1);
        }
        if let Some(cell) = self.cell.take() {
            cell.complete(result.map_err(JoinError::Panicked));
        }
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        if let Some(cell) = self.cell.take() {
            cell.complete(Err(JoinError::Cancelled));
        }
    }
}

/// Waits for a task, and can abort it. Dropping the handle detaches the task: it goes on, and its result is lost.
#[must_use = "dropping the handle detaches the task; say so with `drop` or `detach()`"]
pub struct JoinHandle<T> {
    cell: Rc<JoinCell<T>>,
    key: TaskKey,
    executor: Weak<Executor>,
}

impl<T> JoinHandle<T> {
    pub(super) fn new(cell: Rc<JoinCell<T>>, key: TaskKey, executor: Weak<Executor>) -> Self {
        Self { cell, key, executor }
    }

    /// Ends the task without polling it again; its future is dropped. Does nothing to a task that has ended.
    pub fn abort(&self) {
        if let Some(executor) = self.executor.upgrade() {
            executor.abort(self.key);
        }
    }

    /// Whether the task has ended: its result is there, or it was cancelled.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(*self.cell.0.borrow(), State::Done(_) | State::Taken)
    }

    /// Lets the task go on alone.
    pub fn detach(self) {}
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let mut state = self.cell.0.borrow_mut();
        let before = match &*state {
            State::Running(_) => std::mem::replace(&mut *state, State::Detached),
            State::Done(_) => std::mem::replace(&mut *state, State::Taken),
            State::Detached | State::Taken => return,
        };
        drop(state);
        if let State::Done(result) = &before {
            report(result);
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.cell.0.borrow_mut();
        match &mut *state {
            State::Running(waker) => {
                let old = waker.replace(cx.waker().clone());
                drop(state);
                drop(old);
                Poll::Pending
            }
            State::Done(_) => match std::mem::replace(&mut *state, State::Taken) {
                State::Done(result) => Poll::Ready(result),
                State::Running(_) | State::Detached | State::Taken => Poll::Ready(Err(JoinError::Cancelled)),
            },
            State::Detached | State::Taken => Poll::Ready(Err(JoinError::Cancelled)),
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}
