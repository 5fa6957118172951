//! One value from one thread to another.

use futures_util::task::AtomicWaker;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

/// The place of a value. The lock is never contended: `done` says whose turn it is.
struct Slot<T> {
    value: Mutex<Option<T>>,
    done: AtomicBool,
    waker: AtomicWaker,
}

/// The side that answers. Dropped without an answer, the other side learns that none will come.
pub(crate) struct Reply<T>(Arc<Slot<T>>);

/// The side that waits; resolves to `None` if no answer will come.
pub(crate) struct Answer<T>(Arc<Slot<T>>);

pub(crate) fn oneshot<T: Send>() -> (Reply<T>, Answer<T>) {
    let slot = Arc::new(Slot { value: Mutex::new(None), done: AtomicBool::new(false), waker: AtomicWaker::new() });
    (Reply(Arc::clone(&slot)), Answer(slot))
}

impl<T> Reply<T> {
    /// Answers.
    pub(crate) fn send(self, value: T) {
        *self.0.value.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        // Dropping `self` tells.
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Release);
        self.0.waker.wake();
    }
}

impl<T> Answer<T> {
    fn take(&self) -> Option<Option<T>> {
        self.0.done.load(Ordering::Acquire).then(|| self.0.value.lock().unwrap_or_else(PoisonError::into_inner).take())
    }
}

impl<T> Future for Answer<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(value) = self.take() {
            return Poll::Ready(value);
        }
        self.0.waker.register(cx.waker());
        match self.take() {
            Some(value) => Poll::Ready(value),
            None => Poll::Pending,
        }
    }
}
