//! A table that changes rarely and is read all the time.
//!
//! Versions are a chain: each knows the next one, once that is published. A reader holds the version that it last saw and
//! looks whether there is a next one; going on to it takes no lock.
//!
//! Why it works: a version is linked with release once it is complete, and found with acquire. The link is set once and lets
//! go only with its version, so as long as a reader holds a version the next one is there to be held. Those that no reader
//! holds any more are freed. A reader that does not look yet uses the old table: publication is not a barrier, and what must
//! be one (moving a slot) says so itself.

use std::fmt;
use std::ptr;
use std::sync::Arc as Table;

use crate::lock::Lock;
use crate::sync::{Arc, AtomicPtr, Ordering};

struct Version<T> {
    epoch: u64,
    table: Table<T>,
    /// A counted reference, from [`Arc::into_raw`], or null.
    next: AtomicPtr<Version<T>>,
}

// SAFETY: `next` is a reference to a version as an `Arc` would be.
unsafe impl<T: Send + Sync> Send for Version<T> {}
// SAFETY: as above; it is read and set by atomics.
unsafe impl<T: Send + Sync> Sync for Version<T> {}

impl<T> Version<T> {
    fn new(epoch: u64, table: Table<T>) -> Arc<Version<T>> {
        Arc::new(Version { epoch, table, next: AtomicPtr::new(ptr::null_mut()) })
    }

    #[inline]
    fn next(&self) -> Option<Arc<Version<T>>> {
        let next = self.next.load(Ordering::Acquire).cast_const();
        if next.is_null() {
            return None;
        }
        // SAFETY: it came from `into_raw`, and the reference that this version has keeps it while this version is here.
        unsafe { Arc::increment_strong_count(next) };
        // SAFETY: as above, and the count was raised for this one.
        Some(unsafe { Arc::from_raw(next) })
    }

    /// The reference to the next version, taken out.
    fn take_next(&mut self) -> Option<Arc<Version<T>>> {
        let next = self.next.load(Ordering::Acquire).cast_const();
        self.next = AtomicPtr::new(ptr::null_mut());
        // SAFETY: it came from `into_raw` and is nowhere else any more.
        (!next.is_null()).then(|| unsafe { Arc::from_raw(next) })
    }
}

impl<T> Drop for Version<T> {
    fn drop(&mut self) {
        // One after the other: a chain that nobody went along may be long.
        let mut next = self.take_next();
        while let Some(version) = next {
            next = Arc::try_unwrap(version).ok().and_then(|mut version| version.take_next());
        }
    }
}

/// The current version of a table.
pub struct EpochCell<T>(Lock<Arc<Version<T>>>);

impl<T> EpochCell<T> {
    /// The first version, at epoch 0.
    pub fn new(table: Table<T>) -> EpochCell<T> {
        EpochCell(Lock::new(Version::new(0, table)))
    }

    /// Replaces the table; returns its epoch. Takes the lock, with other publishers and those who begin to read.
    pub fn publish(&self, table: Table<T>) -> u64 {
        let mut current = self.0.lock();
        let epoch = current.epoch + 1;
        let version = Version::new(epoch, table);
        current.next.store(Arc::into_raw(version.clone()).cast_mut(), Ordering::Release);
        let old = std::mem::replace(&mut *current, version);
        drop(current);
        // The last reference may be this one: the old table is not freed under the lock.
        drop(old);
        epoch
    }
}

impl<T: fmt::Debug> fmt::Debug for EpochCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.0.lock().clone();
        f.debug_struct("EpochCell").field("epoch", &version.epoch).field("table", &version.table).finish()
    }
}

/// One reader's view of an [`EpochCell`].
pub struct EpochReader<T>(Arc<Version<T>>);

impl<T> EpochReader<T> {
    /// A reader that has seen the current version. Takes the cell's lock, once.
    pub fn new(cell: &EpochCell<T>) -> EpochReader<T> {
        EpochReader(cell.0.lock().clone())
    }

    /// Looks whether there is a newer version and switches to the newest; returns whether there was. One load if not, and
    /// never a lock.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        let mut news = false;
        while let Some(next) = self.0.next() {
            self.0 = next;
            news = true;
        }
        news
    }

    /// The version of the last refresh.
    #[inline]
    pub fn table(&self) -> &Table<T> {
        &self.0.table
    }

    /// The epoch of that version.
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }
}

impl<T: fmt::Debug> fmt::Debug for EpochReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochReader").field("seen", &self.0.epoch).field("table", &self.0.table).finish()
    }
}
