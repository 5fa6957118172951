//! Permits.

use super::list::{List, Node};
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A number of permits for fibers of one thread. Whoever asked first gets the next one; nobody overtakes.
pub struct Semaphore {
    permits: Cell<usize>,
    waiting: List,
}

impl Semaphore {
    /// A semaphore with so many permits.
    pub fn new(permits: usize) -> Semaphore {
        Semaphore { permits: Cell::new(permits), waiting: List::default() }
    }

    /// Takes a permit, waiting for it if need be. Dropped before it is ready, it gives up its place.
    pub fn acquire(&self) -> Acquire<'_> {
        Acquire { semaphore: self, node: Node::new(), taken: false }
    }

    /// Takes a permit if one is free.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.take().then_some(Permit { semaphore: self })
    }

    /// Permits that are free now.
    pub fn available(&self) -> usize {
        self.permits.get()
    }

    /// Adds a permit.
    pub fn release(&self) {
        // The permit goes to the first who waits without being free in between.
        if !self.waiting.post_first() {
            self.permits.set(self.permits.get() + 1);
        }
    }

    pub(super) fn take(&self) -> bool {
        let free = self.permits.get();
        if free > 0 {
            self.permits.set(free - 1);
        }
        free > 0
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available", &self.available()).finish_non_exhaustive()
    }
}

/// A permit on its way.
#[must_use = "nothing happens until it is waited for"]
pub struct Acquire<'a> {
    semaphore: &'a Semaphore,
    node: Node,
    taken: bool,
}

impl Acquire<'_> {
    /// Ready once a permit is this waiter's.
    pub(super) fn poll_take(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // SAFETY: the node is not moved out of, only `taken` is written to.
        let this = unsafe { self.get_unchecked_mut() };
        if !this.node.is_queued() && !this.node.baton.try_wait() {
            if !this.semaphore.take() {
                // SAFETY: the node is a field of a pinned future.
                this.semaphore.waiting.push(unsafe { Pin::new_unchecked(&this.node) });
                return this.node.baton.poll_wait(context);
            }
        } else if this.node.is_queued() {
            return this.node.baton.poll_wait(context);
        }
        this.taken = true;
        Poll::Ready(())
    }
}

impl<'a> Future for Acquire<'a> {
    type Output = Permit<'a>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit<'a>> {
        let semaphore = self.semaphore;
        self.poll_take(context).map(|()| Permit { semaphore })
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        if !self.semaphore.waiting.remove(&self.node) && !self.taken && self.node.baton.try_wait() {
            self.semaphore.release();
        }
    }
}

impl fmt::Debug for Acquire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").field("queued", &self.node.is_queued()).finish_non_exhaustive()
    }
}

/// A permit; goes back when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the permit back"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
}

impl Permit<'_> {
    /// Keeps the permit out of circulation.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.release();
    }
}
