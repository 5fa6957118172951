//! Wake-ups: the thread-local queue of ready tasks, and the way in from other threads.

use crate::mailbox::Mailbox;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Wake;
use warpline_ring::Flag;

/// Names a task of one worker. Never reused while a waker for it can still act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// Where the tasks of one worker are woken: the identity that its thread carries, and its mailbox.
#[derive(Debug)]
pub(crate) struct Home {
    id: u64,
    mailbox: Mailbox,
}

impl Home {
    /// A home with an identity that no other home of this process has.
    pub(crate) fn new(mailbox: Mailbox) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), mailbox })
    }

    /// Whether the calling thread is this home's worker.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        QUEUE.try_with(|queue| queue.home.get() == self.id).unwrap_or(false)
    }

    /// The way in from other threads.
    pub(crate) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }
}

struct Queue {
    home: Cell<u64>,
    ready: RefCell<VecDeque<TaskKey>>,
}

thread_local! {
    static QUEUE: Queue = const { Queue { home: Cell::new(0), ready: RefCell::new(VecDeque::new()) } };
}

pub(super) fn set_current(home: &Home) {
    QUEUE.with(|queue| {
        queue.home.set(home.id);
        queue.ready.borrow_mut().clear();
    });
}

pub(super) fn clear_current(home: &Home) {
    // During the thread's own teardown the queue may be gone; then nothing is left to clear.
    let _ = QUEUE.try_with(|queue| {
        if queue.home.get() == home.id {
            queue.home.set(0);
            queue.ready.borrow_mut().clear();
        }
    });
}

#[inline]
pub(super) fn push_local(key: TaskKey) {
    QUEUE.with(|queue| queue.ready.borrow_mut().push_back(key));
}

#[inline]
pub(super) fn pop_local() -> Option<TaskKey> {
    QUEUE.with(|queue| queue.ready.borrow_mut().pop_front())
}

/// The task that is polled after as many others as `after` says.
#[inline]
pub(super) fn peek_local(after: usize) -> Option<TaskKey> {
    QUEUE.with(|queue| queue.ready.borrow().get(after).copied())
}

#[inline]
pub(super) fn has_local() -> bool {
    QUEUE.with(|queue| !queue.ready.borrow().is_empty())
}

/// The part of a task that its wakers share.
#[derive(Debug)]
pub(super) struct TaskHeader {
    key: TaskKey,
    /// Set from the first wake-up until the poll that answers it begins.
    queued: Flag,
    home: Arc<Home>,
}

impl TaskHeader {
    /// The header of a task that is queued for its first poll.
    pub(super) fn new(key: TaskKey, home: Arc<Home>) -> Self {
        Self { key, queued: Flag::new(true), home }
    }

    /// Makes the header of a task that has ended that of another one.
    pub(super) fn begin(&mut self, key: TaskKey) {
        self.key = key;
        self.queued.reset(true);
    }

    /// Wake-ups from here on ask for another poll. This one sees everything that a waker wrote before it found the flag
    /// already set.
    #[inline]
    pub(super) fn begin_poll(&self) {
        self.queued.take();
    }
}

impl Wake for TaskHeader {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    #[inline]
    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.raise() {
            return;
        }
        if self.home.is_current() {
            push_local(self.key);
        } else {
            self.home.mailbox.wake_task(self.key);
        }
    }
}
