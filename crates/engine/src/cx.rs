//! The context of a worker's thread, through which handles reach the worker.
//!
//! Handles are keys, not pointers: what they name is looked up here, in the worker whose thread this is. So handles
//! hold nothing alive, and a connection and its tasks could be served by another worker without their noticing.

use crate::engine::WorkerHandle;
use crate::error::EngineError;
use crate::exec::Executor;
use crate::worker::{Core, Order};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Everything of a worker that its handles and its loop share.
pub(crate) struct WorkerCx {
    pub(crate) handle: WorkerHandle,
    /// How many workers there are now.
    pub(crate) workers: Cell<usize>,
    pub(crate) exec: Rc<Executor>,
    pub(crate) core: RefCell<Core>,
    /// What the loop is to do.
    pub(crate) orders: RefCell<Vec<Order>>,
    /// A task has begun a handshake: what it wants to send leaves before other tasks are polled.
    pub(crate) in_hurry: Cell<bool>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<WorkerCx>>> = const { RefCell::new(None) };
}

/// Makes the calling thread a worker's until the guard is dropped.
pub(crate) fn enter(cx: Rc<WorkerCx>) -> Entered {
    CURRENT.with(|current| *current.borrow_mut() = Some(cx));
    Entered(())
}

/// See [`enter`].
pub(crate) struct Entered(());

impl Drop for Entered {
    fn drop(&mut self) {
        let cx = CURRENT.with(|current| current.borrow_mut().take());
        drop(cx);
    }
}

/// Calls `f` with the worker of the calling thread.
#[inline]
pub(crate) fn with<R>(f: impl FnOnce(&WorkerCx) -> R) -> Result<R, EngineError> {
    CURRENT.try_with(|current| current.borrow().as_ref().map(|cx| f(cx))).ok().flatten().ok_or(EngineError::OffWorker)
}

/// Calls `f` with the state of the calling thread's worker. `f` must not run code of the program: it may use handles.
#[inline]
pub(crate) fn with_core<R>(f: impl FnOnce(&mut Core) -> R) -> Result<R, EngineError> {
    with(|cx| cx.with_core(f))
}

impl WorkerCx {
    /// Calls `f` with the worker's state, then wakes whom it left to be woken.
    #[inline]
    pub(crate) fn with_core<R>(&self, f: impl FnOnce(&mut Core) -> R) -> R {
        let mut core = self.core.borrow_mut();
        let result = f(&mut core);
        if !core.wakes.is_empty() {
            let wakes = std::mem::take(&mut core.wakes);
            drop(core);
            self.wake(wakes);
        }
        result
    }

    /// Wakes with nothing borrowed, and gives the list's memory back for the next time.
    fn wake(&self, mut wakes: Vec<std::task::Waker>) {
        for waker in wakes.drain(..) {
            waker.wake();
        }
        let mut core = self.core.borrow_mut();
        if core.wakes.is_empty() {
            core.wakes = wakes;
        }
    }
}
