//! Ending an engine: who asked for it, how far it has come, who waits for it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use warpline_ring::Lock;

/// Shared by an engine and its workers.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    requested: AtomicBool,
    /// What connections are closed with; set before `requested`.
    farewell: OnceLock<(u64, Vec<u8>)>,
    /// Threads that run: workers and the coordinator.
    running: AtomicUsize,
    waiters: Lock<Vec<Waker>>,
}

impl Stop {
    /// One thread more runs.
    pub(crate) fn worker_starts(&self) {
        self.running.fetch_add(1, Ordering::AcqRel);
    }

    /// Asks all workers to end. The first request decides what the peers are told.
    pub(crate) fn request(&self, code: u64, reason: &[u8]) {
        let _ = self.farewell.set((code, reason.to_vec()));
        self.requested.store(true, Ordering::Release);
    }

    /// What to close connections with, once the end was asked for.
    #[inline]
    pub(crate) fn farewell(&self) -> Option<(u64, &[u8])> {
        if !self.requested.load(Ordering::Acquire) {
            return None;
        }
        self.farewell.get().map(|(code, reason)| (*code, reason.as_slice()))
    }

    /// One thread has ended, and lets go of the port.
    pub(crate) fn worker_ended(&self) {
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            let waiters = std::mem::take(&mut *self.waiters.lock());
            waiters.into_iter().for_each(Waker::wake);
        }
    }

    /// Ready once no thread runs any more.
    pub(crate) fn poll_ended(&self, cx: &Context<'_>) -> Poll<()> {
        if self.running.load(Ordering::Acquire) == 0 {
            return Poll::Ready(());
        }
        let mut waiters = self.waiters.lock();
        // The last worker takes the list after it has counted itself out, so one of both sees the other.
        if self.running.load(Ordering::Acquire) == 0 {
            return Poll::Ready(());
        }
        if !waiters.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiters.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
