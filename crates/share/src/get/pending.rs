//! Files that were asked for and are not yet in place, and what could not be kept.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::delta::Deltas;
use super::partial::Partial;
use crate::limits::{FILE_OVERHEAD, LARGE_FILES_MAX, OUTSTANDING_LEN_MAX};
use crate::manifest::Entry;
use crate::progress::Progress;

/// Files that may be asked for and not complete at once: it bounds memory, and keeps the host's disk and the network busy for
/// hundreds of round trips' worth of small files.
const OUTSTANDING_MAX: u64 = 8192;
/// Things not kept that are reported one by one; the rest is counted.
const NOT_KEPT_MAX: usize = 1000;

/// A file that was asked for.
pub(super) struct Wanted {
    pub(super) entry: Entry,
    pub(super) size: u64,
    /// What of it is on disk already, for a file of several parts.
    pub(super) partial: Option<Partial>,
    /// Requests for it that are not served yet; the comparison with an older version counts as one.
    pub(super) open_wants: u32,
    /// Bytes that these will bring, holes included.
    pub(super) owed: u64,
    /// Bytes that an earlier run left; the host's hash must show that they belong to the same version.
    pub(super) reused: u64,
}

impl Wanted {
    /// What it takes of [`OUTSTANDING_LEN_MAX`].
    fn weight(&self) -> u64 {
        let attributes: usize = self.entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        (self.entry.path.len() + attributes) as u64 + FILE_OVERHEAD
    }
}

/// Paths and reasons, and how many more there are.
type NotKept = (Vec<(Vec<u8>, String)>, u64);

/// What the planning and the writing thread share.
pub(super) struct Pending {
    files: Mutex<HashMap<u64, Wanted>>,
    changed: Condvar,
    outstanding: AtomicU64,
    /// What they weigh.
    weight: AtomicU64,
    /// Those of them that keep files open.
    large: AtomicU64,
    /// The planning thread waits for room.
    waiting: AtomicBool,
    over: Notify,
    stopped: AtomicBool,
    planned: AtomicBool,
    not_kept: Mutex<NotKept>,
    /// Files with an older version.
    pub(super) deltas: Deltas,
    pub(super) progress: Arc<Progress>,
}

impl Pending {
    pub(super) fn new(progress: Arc<Progress>) -> Self {
        Self {
            files: Mutex::new(HashMap::new()),
            changed: Condvar::new(),
            outstanding: AtomicU64::new(0),
            weight: AtomicU64::new(0),
            large: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            over: Notify::new(),
            stopped: AtomicBool::new(false),
            planned: AtomicBool::new(false),
            not_kept: Mutex::new((Vec::new(), 0)),
            deltas: Deltas::default(),
            progress,
        }
    }

    fn files(&self) -> MutexGuard<'_, HashMap<u64, Wanted>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a file, once there is room for it; false when the transfer has stopped.
    pub(super) fn add(&self, id: u64, wanted: Wanted) -> bool {
        let mut files = self.files();
        if self.is_full(&wanted) {
            // Waits for a good deal of room, so that it is not woken for every single file.
            self.waiting.store(true, Ordering::SeqCst);
            while !self.has_ample_room() && !self.is_stopped() {
                files = self.changed.wait(files).unwrap_or_else(PoisonError::into_inner);
            }
            self.waiting.store(false, Ordering::SeqCst);
        }
        if self.is_stopped() {
            return false;
        }
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        self.weight.fetch_add(wanted.weight(), Ordering::Relaxed);
        self.large.fetch_add(wanted.partial.is_some().into(), Ordering::Relaxed);
        files.insert(id, wanted);
        true
    }

    /// Hands a file over to the writing thread.
    pub(super) fn take(&self, id: u64) -> Option<Wanted> {
        self.files().remove(&id)
    }

    /// A file is in place, or was given up.
    pub(super) fn complete(&self, file: &Wanted) {
        self.large.fetch_sub(file.partial.is_some().into(), Ordering::SeqCst);
        self.weight.fetch_sub(file.weight(), Ordering::SeqCst);
        self.outstanding.fetch_sub(1, Ordering::SeqCst);
        // A waiter that is not seen here sees this in its check; the lock makes it wait before it is notified.
        if self.waiting.load(Ordering::SeqCst) && self.has_ample_room() {
            drop(self.files());
            self.changed.notify_one();
        }
    }

    /// Whether adding this file would wait. Only the planning thread adds, so to it a "no" stays true.
    pub(super) fn is_full(&self, wanted: &Wanted) -> bool {
        self.outstanding.load(Ordering::SeqCst) >= OUTSTANDING_MAX
            || self.weight.load(Ordering::SeqCst) + wanted.weight() > OUTSTANDING_LEN_MAX
            || wanted.partial.is_some() && self.large.load(Ordering::SeqCst) >= LARGE_FILES_MAX as u64
    }

    fn has_ample_room(&self) -> bool {
        self.outstanding.load(Ordering::SeqCst) <= OUTSTANDING_MAX / 4 * 3
            && self.weight.load(Ordering::SeqCst) <= OUTSTANDING_LEN_MAX / 4 * 3
            && self.large.load(Ordering::SeqCst) <= LARGE_FILES_MAX as u64 / 4 * 3
    }

    /// Every file of the share has been looked at.
    pub(super) fn set_planned(&self) {
        self.planned.store(true, Ordering::Release);
    }

    /// Nothing more will be asked for and nothing is missing.
    pub(super) fn is_done(&self) -> bool {
        self.planned.load(Ordering::Acquire) && self.outstanding.load(Ordering::Acquire) == 0
    }

    /// The transfer ends here: nobody waits any more.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        drop(self.files());
        self.changed.notify_all();
        self.deltas.stop();
        self.end();
    }

    /// Nothing that may still come from the host matters any more.
    pub(super) fn end(&self) {
        self.over.notify_one();
    }

    /// Waits for [`end`](Self::end); for one waiter.
    pub(super) async fn over(&self) {
        self.over.notified().await;
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Notes something that could not be fetched or kept.
    pub(super) fn not_kept(&self, path: &[u8], why: impl Into<String>) {
        let mut list = self.not_kept.lock().unwrap_or_else(PoisonError::into_inner);
        if list.0.len() < NOT_KEPT_MAX { list.0.push((path.to_vec(), why.into())) } else { list.1 += 1 }
    }

    pub(super) fn take_not_kept(&self) -> NotKept {
        std::mem::take(&mut *self.not_kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::XATTRS_LEN_MAX;
    use crate::manifest::{Kind, Mtime};

    fn wanted(attributes: usize) -> Wanted {
        let xattrs = vec![(b"user.x".to_vec(), vec![0; attributes])];
        let (kind, mtime) = (Kind::File { size: 1 }, Mtime::default());
        let entry = Entry { path: b"file".to_vec(), kind, mode: 0o600, mtime, xattrs };
        Wanted { entry, size: 1, partial: None, open_wants: 1, owed: 1, reused: 0 }
    }

    /// How many such files may be asked for at once.
    fn room_for(attributes: usize) -> u64 {
        let pending = Pending::new(Arc::default());
        let count = (0..).find(|id| pending.is_full(&wanted(attributes)) || !pending.add(*id, wanted(attributes)));
        // What is complete makes room again.
        for id in 0..count.unwrap_or_default() {
            pending.complete(&pending.take(id).unwrap());
        }
        assert!(!pending.is_full(&wanted(attributes)));
        assert_eq!(pending.weight.load(Ordering::SeqCst), 0);
        count.unwrap_or_default()
    }

    #[test]
    fn files_with_much_to_remember_are_asked_for_by_fewer() {
        assert_eq!(room_for(0), OUTSTANDING_MAX);
        let few = room_for(XATTRS_LEN_MAX - 100);
        assert!((1..OUTSTANDING_LEN_MAX / XATTRS_LEN_MAX as u64 + 1).contains(&few), "{few}");
    }
}
