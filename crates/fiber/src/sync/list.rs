//! The list of those who wait.

use crate::baton::Baton;
use std::cell::Cell;
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::ptr::NonNull;

/// A waiter, inside the future that waits.
pub(super) struct Node {
    pub(super) baton: Baton,
    prev: Cell<Option<NonNull<Node>>>,
    next: Cell<Option<NonNull<Node>>>,
    queued: Cell<bool>,
    /// Others point to it while it is queued.
    _pinned: PhantomPinned,
}

impl Node {
    pub(super) const fn new() -> Node {
        Node {
            baton: Baton::new(),
            prev: Cell::new(None),
            next: Cell::new(None),
            queued: Cell::new(false),
            _pinned: PhantomPinned,
        }
    }

    pub(super) fn is_queued(&self) -> bool {
        self.queued.get()
    }
}

/// Whoever came first is first. The owner of a node takes it out before the node is dropped.
#[derive(Default)]
pub(super) struct List {
    head: Cell<Option<NonNull<Node>>>,
    tail: Cell<Option<NonNull<Node>>>,
}

impl List {
    /// Adds a node at the end. Pinned, it stays where it is until it is dropped, and its owner's `Drop` removes it.
    pub(super) fn push(&self, node: Pin<&Node>) {
        debug_assert!(!node.is_queued(), "a node is in a list once");
        let pointer = NonNull::from(node.get_ref());
        node.queued.set(true);
        node.next.set(None);
        node.prev.set(self.tail.replace(Some(pointer)));
        match node.prev.get() {
            // SAFETY: queued nodes are alive: their owners take them out when they are dropped.
            Some(last) => unsafe { last.as_ref() }.next.set(Some(pointer)),
            None => self.head.set(Some(pointer)),
        }
    }

    /// Takes a node out. `false` if it is not in the list.
    pub(super) fn remove(&self, node: &Node) -> bool {
        if !node.queued.replace(false) {
            return false;
        }
        let (prev, next) = (node.prev.take(), node.next.take());
        match prev {
            // SAFETY: as above.
            Some(prev) => unsafe { prev.as_ref() }.next.set(next),
            None => self.head.set(next),
        }
        match next {
            // SAFETY: as above.
            Some(next) => unsafe { next.as_ref() }.prev.set(prev),
            None => self.tail.set(prev),
        }
        true
    }

    /// Takes the first node out and posts its baton. `false` if nobody waits.
    pub(super) fn post_first(&self) -> bool {
        let Some(first) = self.head.get() else { return false };
        // SAFETY: as above.
        let node = unsafe { first.as_ref() };
        self.remove(node);
        node.baton.post();
        true
    }
}
