//! Files that were asked for and are not yet in place, and what could not be kept.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::partial::Partial;
use crate::limits::LARGE_FILES_MAX;
use crate::manifest::Entry;
use crate::progress::Progress;

/// Files that may be asked for and not complete at once: it bounds memory, and keeps the host's disk and the network busy for
/// hundreds of round trips' worth of small files.
const OUTSTANDING_MAX: usize = 8192;
/// Things not kept that are reported one by one; the rest is counted.
const NOT_KEPT_MAX: usize = 1000;

/// A file that was asked for.
pub(super) struct Wanted {
    pub(super) entry: Entry,
    pub(super) size: u64,
    /// What of it is on disk already, for a file of several parts.
    pub(super) partial: Option<Partial>,
    /// Requests for it that are not served yet.
    pub(super) open_wants: u32,
    /// Bytes that these will bring, holes included.
    pub(super) owed: u64,
}

/// What the planning and the writing thread share.
pub(super) struct Pending {
    files: Mutex<HashMap<u64, Wanted>>,
    changed: Condvar,
    outstanding: AtomicU64,
    /// Those of them that keep files open.
    large: AtomicU64,
    over: Notify,
    stopped: AtomicBool,
    planned: AtomicBool,
    not_kept: Mutex<(Vec<(Vec<u8>, String)>, u64)>,
    pub(super) progress: Arc<Progress>,
}

impl Pending {
    pub(super) fn new(progress: Arc<Progress>) -> Self {
        Self {
            files: Mutex::new(HashMap::new()),
            changed: Condvar::new(),
            outstanding: AtomicU64::new(0),
            large: AtomicU64::new(0),
            over: Notify::new(),
            stopped: AtomicBool::new(false),
            planned: AtomicBool::new(false),
            not_kept: Mutex::new((Vec::new(), 0)),
            progress,
        }
    }

    fn files(&self) -> MutexGuard<'_, HashMap<u64, Wanted>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a file, once there is room for it; false when the transfer has stopped.
    pub(super) fn add(&self, id: u64, wanted: Wanted) -> bool {
        let mut files = self.files();
        let is_large = wanted.partial.is_some();
        let is_full = || {
            self.outstanding.load(Ordering::Relaxed) >= OUTSTANDING_MAX as u64
                || is_large && self.large.load(Ordering::Relaxed) >= LARGE_FILES_MAX as u64
        };
        while is_full() && !self.is_stopped() {
            files = self.changed.wait(files).unwrap_or_else(PoisonError::into_inner);
        }
        if self.is_stopped() {
            return false;
        }
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        self.large.fetch_add(is_large.into(), Ordering::Relaxed);
        files.insert(id, wanted);
        true
    }

    /// Hands a file over to the writing thread.
    pub(super) fn take(&self, id: u64) -> Option<Wanted> {
        self.files().remove(&id)
    }

    /// A file is in place, or was given up.
    pub(super) fn complete(&self, file: &Wanted) {
        self.large.fetch_sub(file.partial.is_some().into(), Ordering::AcqRel);
        self.outstanding.fetch_sub(1, Ordering::AcqRel);
        // The lock orders this with a waiter's check.
        drop(self.files());
        self.changed.notify_one();
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

    pub(super) fn take_not_kept(&self) -> (Vec<(Vec<u8>, String)>, u64) {
        std::mem::take(&mut *self.not_kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
