//! Something that has happened, or not yet.

use super::list::{List, Node};
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A flag that any number of fibers wait for.
#[derive(Default)]
pub struct Event {
    set: Cell<bool>,
    waiting: List,
}

impl Event {
    /// It has not happened.
    pub fn new() -> Event {
        Event::default()
    }

    /// It has happened: everybody who waits goes on, and nobody waits until [`reset`](Self::reset).
    pub fn set(&self) {
        self.set.set(true);
        while self.waiting.post_first() {}
    }

    /// It has not happened again. Those who were released stay released.
    pub fn reset(&self) {
        self.set.set(false);
    }

    /// Whether it has happened.
    pub fn is_set(&self) -> bool {
        self.set.get()
    }

    /// Waits until it has happened.
    pub fn waiting(&self) -> Waiting<'_> {
        Waiting { event: self, node: Node::new() }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("set", &self.is_set()).finish_non_exhaustive()
    }
}

/// Somebody who waits for an [`Event`].
#[must_use = "nothing happens until it is waited for"]
pub struct Waiting<'a> {
    event: &'a Event,
    node: Node,
}

impl Future for Waiting<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.node.is_queued() {
            if self.event.is_set() || self.node.baton.try_wait() {
                return Poll::Ready(());
            }
            // SAFETY: the node is a field of a pinned future, which does not move it.
            self.event.waiting.push(unsafe { self.as_ref().map_unchecked(|this| &this.node) });
        }
        self.node.baton.poll_wait(context)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.event.waiting.remove(&self.node);
    }
}

impl fmt::Debug for Waiting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("queued", &self.node.is_queued()).finish_non_exhaustive()
    }
}
