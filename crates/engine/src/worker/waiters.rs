//! Wakers that wait for something of a connection.

use crate::limits::WAITERS_MAX;
use smallvec::SmallVec;
use std::task::{Context, Waker};
use warpline_frame::prefetch_line;

/// Tasks that wait for one kind of event. Most often one, which lies in place; all are woken together.
#[derive(Debug, Default)]
pub(crate) struct WakerSet(SmallVec<[Waker; 1]>);

impl WakerSet {
    /// Adds the task being polled, unless it is there. A waiter that gave up leaves its waker behind; when too many
    /// have gathered, all are moved to `wakes`, and those that still wait will come back.
    pub(crate) fn register(&mut self, cx: &Context<'_>, wakes: &mut Vec<Waker>) {
        if self.0.iter().any(|waker| waker.will_wake(cx.waker())) {
            return;
        }
        if self.0.len() >= WAITERS_MAX {
            self.drain(wakes);
        }
        self.0.push(cx.waker().clone());
    }

    /// Has what waking the first one touches brought into the caches.
    #[inline]
    pub(crate) fn prefetch_first(&self) {
        if let Some(waker) = self.0.first() {
            prefetch_line(waker.data());
        }
    }

    /// Moves all wakers to `wakes`.
    pub(crate) fn drain(&mut self, wakes: &mut Vec<Waker>) {
        wakes.extend(self.0.drain(..));
    }
}

/// Stores the waker of the task being polled and returns the one it replaces, to be dropped where no borrow is held.
#[inline]
pub(crate) fn register(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        _ => slot.replace(cx.waker().clone()),
    }
}
