//! The mutex for everything that is not on the packet path.
#![cfg_attr(not(loom), expect(clippy::disallowed_types, reason = "what `Lock` is made of"))]

use std::sync::PoisonError;

#[cfg(loom)]
use crate::sync::MutexGuard;
#[cfg(not(loom))]
use std::sync::MutexGuard;

/// A mutex that counts, in builds with feature `count-locks`, how often each thread takes one.
///
/// The packet path takes none. That this stays so is a test's business: the crates below the public API use no other
/// mutex (their `clippy.toml` forbids it), so a worker whose count does not move has taken no lock. What a thread left
/// behind that panicked is taken as it is: nothing here is kept in a state that needs repair.
#[derive(Debug, Default)]
pub struct Lock<T>(crate::sync::Mutex<T>);

impl<T> Lock<T> {
    /// A mutex around `value`.
    pub fn new(value: T) -> Lock<T> {
        Lock(crate::sync::Mutex::new(value))
    }

    /// Waits until the value is free, and takes it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        count();
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(feature = "count-locks")]
thread_local! {
    static TAKEN: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// How often the calling thread has taken a [`Lock`].
#[cfg(feature = "count-locks")]
pub fn locks_taken() -> u64 {
    TAKEN.get()
}

#[cfg(feature = "count-locks")]
fn count() {
    TAKEN.set(TAKEN.get() + 1);
}

#[cfg(not(feature = "count-locks"))]
#[inline]
fn count() {}
