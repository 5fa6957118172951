//! When which connection must be woken.
//!
//! A connection moves its deadline with nearly every packet, mostly to later. So the queue is lazy: an entry is only
//! added when a deadline comes to lie before the one that is queued, and an entry that comes up early is put back at the
//! true time. In bulk transfer that is no work per packet at all, and there is about one entry per connection.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::slots::{ConnectionHandle, Slots};
use crate::time::Instant;

/// The queue of deadlines.
#[derive(Default)]
pub(super) struct Deadlines(BinaryHeap<Reverse<(Instant, ConnectionHandle)>>);

impl Deadlines {
    /// The connection's earliest deadline is `at` now.
    pub(super) fn schedule(&mut self, handle: ConnectionHandle, at: Instant, slots: &mut Slots) {
        let Some(scheduled) = slots.scheduled_mut(handle) else { return };
        if scheduled.is_none_or(|queued| at < queued) {
            *scheduled = Some(at);
            self.0.push(Reverse((at, handle)));
        }
    }

    /// The next connection whose deadline has passed.
    pub(super) fn pop_due(&mut self, now: Instant, slots: &mut Slots) -> Option<ConnectionHandle> {
        while let Some(Reverse((at, handle))) = self.0.peek().copied() {
            if at > now {
                return None;
            }
            self.0.pop();
            // Entries of connections that are gone, and those that an earlier one has replaced, mean nothing.
            let Some(scheduled) = slots.scheduled_mut(handle).filter(|s| **s == Some(at)) else { continue };
            *scheduled = None;
            match slots.find_mut(handle).and_then(|c| c.next_timeout()) {
                Some(due) if due <= now => return Some(handle),
                Some(later) => self.schedule(handle, later, slots),
                None => {}
            }
        }
        None
    }

    /// The earliest entry.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }
}
