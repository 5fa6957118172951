//! A lock that is held across waits.

use super::semaphore::{Acquire, Semaphore};
use std::cell::UnsafeCell;
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A value that one fiber of the thread uses at a time, across its waits. What is used between two waits needs only a
/// `RefCell`. Not poisoned by panics: whoever needs that marks it in the value.
pub struct Mutex<T> {
    lock: Semaphore,
    value: UnsafeCell<T>,
}

impl<T> Mutex<T> {
    /// Nobody has it.
    pub fn new(value: T) -> Mutex<T> {
        Mutex { lock: Semaphore::new(1), value: UnsafeCell::new(value) }
    }

    /// Waits for its turn, in the order of asking.
    pub fn lock(&self) -> Lock<'_, T> {
        Lock { mutex: self, acquire: self.lock.acquire() }
    }

    /// The value, if nobody has it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.lock.take().then_some(MutexGuard { mutex: self })
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(value) => f.debug_tuple("Mutex").field(&*value).finish(),
            None => f.write_str("Mutex(locked)"),
        }
    }
}

/// A turn on its way.
#[must_use = "nothing happens until it is waited for"]
#[derive(Debug)]
pub struct Lock<'a, T> {
    mutex: &'a Mutex<T>,
    acquire: Acquire<'a>,
}

impl<'a, T> Future for Lock<'a, T> {
    type Output = MutexGuard<'a, T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<MutexGuard<'a, T>> {
        let mutex = self.mutex;
        // SAFETY: `acquire` is pinned with the future, and nothing moves it.
        let acquire = unsafe { self.map_unchecked_mut(|this| &mut this.acquire) };
        acquire.poll_take(context).map(|()| MutexGuard { mutex })
    }
}

/// The value, until this is dropped.
#[must_use = "dropping it unlocks"]
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock's only permit is this guard's.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.mutex.lock.release();
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MutexGuard").field(&**self).finish()
    }
}
