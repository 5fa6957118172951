//! How far a process is in handing over, and who waits for it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};
use warpline_ring::Lock;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It serves.
    Serving = 0,
    /// Another process accepts connections now; this one finishes its own.
    HandedOver = 1,
    /// It has none left.
    Finished = 2,
    /// The engine has ended.
    Ended = 3,
}

/// The stage, for any thread to wait for.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    stage: AtomicU8,
    waiters: Lock<Vec<Waker>>,
}

impl Gate {
    pub(crate) fn set(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::SeqCst);
        let waiters = std::mem::take(&mut *self.waiters.lock());
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Ready, with whether it is reached, when `stage` is or the engine has ended.
    pub(crate) fn poll(&self, stage: Stage, cx: &Context<'_>) -> Poll<bool> {
        let look = || {
            let now = self.stage.load(Ordering::SeqCst);
            (now >= stage as u8).then_some(now < Stage::Ended as u8)
        };
        if let Some(reached) = look() {
            return Poll::Ready(reached);
        }
        let mut waiters = self.waiters.lock();
        // Whoever sets the stage takes the list afterwards, so one of both sees the other.
        if let Some(reached) = look() {
            return Poll::Ready(reached);
        }
        if !waiters.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiters.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
