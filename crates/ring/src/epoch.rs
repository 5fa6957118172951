//! A table that changes rarely and is read all the time.

use std::fmt;
use std::sync::Arc as Table;

use crate::lock::Lock;
use crate::pad::CachePadded;
use crate::sync::{Arc, AtomicU64, Ordering};

/// The current version of a table. Each reader keeps the version that it last saw and checks with one load whether
/// there is a newer one; only then, once per publication and reader, it takes a lock.
///
/// Why it works: the epoch is stored with release after the table is in place, both under the lock. A reader that loads
/// the new epoch and then takes the lock finds that table or a newer one, never an older one, and notes the epoch that
/// belongs to what it found. A reader that still loads the old epoch uses the old table, which lives as long as it is
/// held: publication is not a barrier, and what must be one (moving a slot) says so itself.
pub struct EpochCell<T> {
    /// Alone on its lines: all workers read it for every batch.
    epoch: CachePadded<AtomicU64>,
    current: Lock<Table<T>>,
}

impl<T> EpochCell<T> {
    /// The first version, at epoch 0.
    pub fn new(table: Table<T>) -> EpochCell<T> {
        EpochCell { epoch: CachePadded(AtomicU64::new(0)), current: Lock::new(table) }
    }

    /// Replaces the table; returns its epoch.
    pub fn publish(&self, table: Table<T>) -> u64 {
        let mut current = self.current.lock();
        let old = std::mem::replace(&mut *current, table);
        let epoch = self.epoch.load(Ordering::Relaxed) + 1;
        self.epoch.store(epoch, Ordering::Release);
        drop(current);
        // The last reference may be this one: the old table is not freed under the lock.
        drop(old);
        epoch
    }

    /// The epoch of the current table.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The current table with its epoch. Takes the lock.
    pub fn load(&self) -> (u64, Table<T>) {
        let current = self.current.lock();
        (self.epoch.load(Ordering::Relaxed), current.clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for EpochCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (epoch, table) = self.load();
        f.debug_struct("EpochCell").field("epoch", &epoch).field("table", &table).finish()
    }
}

/// One reader's view of an [`EpochCell`].
pub struct EpochReader<T> {
    cell: Arc<EpochCell<T>>,
    seen: u64,
    table: Table<T>,
}

impl<T> EpochReader<T> {
    /// A reader that has seen the current version.
    pub fn new(cell: Arc<EpochCell<T>>) -> EpochReader<T> {
        let (seen, table) = cell.load();
        EpochReader { cell, seen, table }
    }

    /// Looks whether there is a newer version and switches to it; returns whether there was. One load if not.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        if self.cell.epoch() == self.seen {
            return false;
        }
        (self.seen, self.table) = self.cell.load();
        true
    }

    /// The version of the last refresh.
    #[inline]
    pub fn table(&self) -> &Table<T> {
        &self.table
    }

    /// The epoch of that version.
    pub fn epoch(&self) -> u64 {
        self.seen
    }
}

impl<T: fmt::Debug> fmt::Debug for EpochReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochReader").field("seen", &self.seen).field("table", &self.table).finish()
    }
}
