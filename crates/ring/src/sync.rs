//! What the structures are made of: the standard atomics, or loom's when the models run.

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    sync::{Arc, Mutex, MutexGuard},
};

/// A place for the waker of one task, which any thread wakes: a registration and a wake-up that meet do not lose each
/// other, and each sees what was done before the other one if that came first.
#[cfg(not(loom))]
pub use futures_util::task::AtomicWaker;
#[cfg(not(loom))]
#[expect(clippy::disallowed_types, reason = "what `Lock` is made of")]
pub(crate) use std::sync::Mutex;
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

/// The standard cell with loom's interface, which brackets every access so that the model can check it.
#[cfg(not(loom))]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> UnsafeCell<T> {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    #[inline]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// What the models have for the waker's place: nothing but its promise, that registrations and wake-ups have one order and
/// see what was done before those that came first.
#[cfg(loom)]
#[derive(Default)]
pub struct AtomicWaker(Mutex<Option<std::task::Waker>>);

#[cfg(loom)]
impl AtomicWaker {
    /// A place without a waker.
    pub fn new() -> AtomicWaker {
        AtomicWaker::default()
    }

    /// Has the task woken from now on, instead of the one before.
    pub fn register(&self, waker: &std::task::Waker) {
        *self.0.lock().unwrap() = Some(waker.clone());
    }

    /// Wakes the task that is registered, and forgets it.
    pub fn wake(&self) {
        let waker = self.0.lock().unwrap().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
