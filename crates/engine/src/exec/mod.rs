//! The executor of one worker: futures that need not be `Send`, polled on the worker's thread only.
//!
//! Tasks live in a slab and are named by a key (index and generation), so a waker that outlives its task is
//! harmless. A wake-up on the worker's own thread is a push to a thread-local queue; a wake-up from any other
//! thread goes through the worker's [`Mailbox`](crate::mailbox::Mailbox) and rings its doorbell. A task is queued
//! at most once at a time, so neither queue can hold more entries than there are tasks.
//!
//! Polling allocates nothing. Spawning allocates the future, and its waker unless one is left over.

mod join;
mod queue;
mod slab;
#[cfg(test)]
mod tests;

pub use join::{JoinError, JoinHandle};
pub(crate) use queue::{Home, TaskKey};

use crate::exec::join::Completer;
use crate::exec::queue::TaskHeader;
pub(crate) use crate::exec::slab::RoamingFuture;
use crate::exec::slab::{Put, Task, TaskSlab, Work};
use crate::limits::{SPARE_HEADERS, TASKS_AHEAD};
use futures_util::FutureExt as _;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

/// Runs the tasks of one worker.
#[derive(Debug)]
pub(crate) struct Executor {
    home: Arc<Home>,
    tasks: RefCell<TaskSlab>,
    /// Headers of tasks that have ended, which no waker has any more.
    spare: RefCell<Vec<Arc<TaskHeader>>>,
    panics: Rc<Cell<u64>>,
}

/// How often [`Executor::abort_all`] starts over because destructors spawned new tasks meanwhile.
const ABORT_PASSES_MAX: usize = 16;

impl Executor {
    /// Makes the calling thread the home of `home` and returns its executor.
    pub(crate) fn enter(home: Arc<Home>) -> Rc<Self> {
        queue::set_current(&home);
        Rc::new(Self { home, tasks: RefCell::default(), spare: RefCell::default(), panics: Rc::default() })
    }

    /// Starts a task; it is polled for the first time in the next [`Executor::run`].
    pub(crate) fn spawn<F>(self: &Rc<Self>, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let (completer, cell) = Completer::new(Rc::clone(&self.panics));
        let key = self.insert(Work::Pinned(Box::pin(async move {
            completer.complete(AssertUnwindSafe(future).catch_unwind().await);
        })));
        JoinHandle::new(cell, key, Rc::downgrade(self))
    }

    /// Starts a task whose result nobody waits for: cheaper than [`spawn`](Self::spawn) by an allocation.
    pub(crate) fn spawn_detached(&self, future: impl Future<Output = ()> + 'static) {
        self.insert(Work::Pinned(Box::pin(future)));
    }

    /// Starts a task that belongs to the connection with this ID and goes where it goes. One that has come from another
    /// worker is polled once whatever it waits for: its wakers led there.
    pub(crate) fn spawn_roaming(&self, connection: u64, future: RoamingFuture) {
        self.insert(Work::Roaming(connection, future));
    }

    /// Takes out the tasks of all connections that `leaves` names, each with its connection's ID. None of them may be
    /// running.
    pub(crate) fn take_roaming(&self, leaves: impl FnMut(u64) -> bool) -> Vec<(u64, RoamingFuture)> {
        self.tasks.borrow_mut().take_roaming(leaves)
    }

    fn insert(&self, work: Work) -> TaskKey {
        let key = self.tasks.borrow_mut().insert(|key| {
            let header = self.header(key);
            Task { work, waker: Waker::from(Arc::clone(&header)), header }
        });
        queue::push_local(key);
        key
    }

    /// The header of a new task: one that is left over, or another.
    fn header(&self, key: TaskKey) -> Arc<TaskHeader> {
        let mut spare = self.spare.borrow_mut().pop();
        match spare.as_mut().and_then(Arc::get_mut) {
            Some(header) => header.begin(key),
            None => spare = None,
        }
        spare.unwrap_or_else(|| Arc::new(TaskHeader::new(key, Arc::clone(&self.home))))
    }

    /// Polls up to `budget` ready tasks, or until one has said that it is `in_hurry`, and says how many it polled. More may
    /// be ready when it returns.
    pub(crate) fn run(&self, budget: usize, in_hurry: &Cell<bool>) -> usize {
        let mut polled = 0;
        in_hurry.set(false);
        self.look_at_first();
        while polled < budget && !in_hurry.get() {
            let Some(key) = queue::pop_local() else { break };
            self.look_ahead();
            polled += usize::from(self.poll(key));
        }
        polled
    }

    /// Has what the first polls touch brought into the caches, step by step, each for several tasks: where there are many tasks, each
    /// waits in none.
    #[inline]
    fn look_at_first(&self) {
        let tasks = self.tasks.borrow();
        let first = |count| (0..count).map_while(queue::peek_local);
        first(TASKS_AHEAD + 1).for_each(|key| tasks.prefetch_slot(key));
        first(TASKS_AHEAD).for_each(|key| tasks.prefetch_task(key));
    }

    /// Has what the polls after the next ones touch brought into the caches.
    #[inline]
    fn look_ahead(&self) {
        let tasks = self.tasks.borrow();
        if let Some(next) = queue::peek_local(TASKS_AHEAD - 1) {
            tasks.prefetch_task(next);
        }
        if let Some(later) = queue::peek_local(TASKS_AHEAD) {
            tasks.prefetch_slot(later);
        }
    }

    /// Queues a task whose wake-up came through the mailbox.
    pub(crate) fn woken(&self, key: TaskKey) {
        queue::push_local(key);
    }

    /// Queues every task: wake-ups from other threads were more than the mailbox holds, so it is not known whose.
    pub(crate) fn wake_all(&self) {
        self.tasks.borrow().keys().for_each(queue::push_local);
    }

    /// Whether a task waits to be polled.
    pub(crate) fn has_ready(&self) -> bool {
        queue::has_local()
    }

    /// Number of tasks that have not ended.
    pub(crate) fn len(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// Number of tasks that ended by a panic.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.get()
    }

    fn poll(&self, key: TaskKey) -> bool {
        let Some(mut task) = self.tasks.borrow_mut().take(key) else { return false };
        task.header.begin_poll();
        let mut cx = Context::from_waker(&task.waker);
        // Tasks that can be joined catch the panics of their future themselves. What arrives here comes from a detached
        // one or from a destructor; it ends the task as well, and never the worker.
        let done = match std::panic::catch_unwind(AssertUnwindSafe(|| task.work.poll(&mut cx))) {
            Ok(poll) => poll.is_ready(),
            Err(payload) => {
                self.panics.set(self.panics.get() + 1);
                tracing::error!(panic = join::panic_text(payload.as_ref()), "a detached task ended");
                true
            }
        };
        let leftover = if done {
            self.tasks.borrow_mut().remove(key);
            Some(task)
        } else {
            match self.tasks.borrow_mut().put_back(key, task) {
                Put::Kept => None,
                Put::Aborted(task) => Some(task),
            }
        };
        self.discard(leftover);
        true
    }

    /// Ends a task without polling it again. Its future is dropped before this returns, unless it is the one that
    /// runs right now: then it is dropped when its poll returns.
    pub(crate) fn abort(&self, key: TaskKey) {
        let task = self.tasks.borrow_mut().abort(key);
        self.discard(task);
    }

    /// Ends all tasks.
    pub(crate) fn abort_all(&self) {
        for _ in 0..ABORT_PASSES_MAX {
            let slots = self.tasks.borrow().slots();
            for index in 0..slots {
                let task = self.tasks.borrow_mut().abort_at(index);
                self.discard(task);
            }
            if self.len() == 0 {
                break;
            }
        }
    }

    /// Drops a task with no borrow held: its future's destructors may spawn, wake or abort.
    fn discard(&self, task: Option<Task>) {
        let Some(Task { work, waker, mut header }) = task else { return };
        if std::panic::catch_unwind(AssertUnwindSafe(|| drop(work))).is_err() {
            self.panics.set(self.panics.get() + 1);
        }
        drop(waker);
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_HEADERS && Arc::get_mut(&mut header).is_some() {
            spare.push(header);
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.abort_all();
        queue::clear_current(&self.home);
    }
}
