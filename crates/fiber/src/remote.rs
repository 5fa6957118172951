//! What other threads may do: wake fibers and send closures.

use crate::limits;
use crate::sched::Inner;
use std::fmt;
use std::sync::Arc;
use std::task::Wake;
use std::thread::Thread;
use warpline_ring::mailbox::{self, SendError};
use warpline_ring::{Doorbell, Flag, Notify, WakeSet};

pub(crate) type Injected = Box<dyn FnOnce() + Send>;

/// How the thread of a scheduler is woken when it sleeps.
pub(crate) enum Notifier {
    /// It sleeps in `std::thread::park`.
    Thread(Thread),
    /// It sleeps in the reactor or in a loop of the program's own.
    Call(Box<dyn Fn() + Send + Sync>),
}

impl Notify for Notifier {
    fn notify(&self) {
        match self {
            Notifier::Thread(thread) => thread.unpark(),
            Notifier::Call(call) => call(),
        }
    }
}

/// The part of a scheduler that other threads see.
pub(crate) struct Shared {
    pub(crate) bell: Doorbell<Notifier>,
    /// The future of `block_on` was woken.
    pub(crate) root_woken: Flag,
    injected: mailbox::Sender<Injected>,
}

impl Shared {
    pub(crate) fn new(notifier: Notifier) -> (Arc<Shared>, mailbox::Receiver<Injected>) {
        let (injected, receiver) = mailbox::mailbox(limits::INJECTED_MAX);
        (Arc::new(Shared { bell: Doorbell::new(notifier), root_woken: Flag::new(false), injected }), receiver)
    }
}

/// Wakes the future of `block_on`.
impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.root_woken.raise();
        self.bell.ring();
    }
}

/// Wakes whichever fiber is in a cell: one for all fibers that the cell will have. A wake-up that comes too late finds
/// another fiber there, which looks again at what it waits for and parks: harmless.
pub(crate) struct FiberWaker {
    shared: Arc<Shared>,
    set: Arc<WakeSet>,
    index: u32,
}

impl FiberWaker {
    pub(crate) fn new(shared: Arc<Shared>, set: Arc<WakeSet>, index: u32) -> Arc<FiberWaker> {
        Arc::new(FiberWaker { shared, set, index })
    }
}

impl Wake for FiberWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let here = Inner::try_with(|inner| {
            let own = Arc::ptr_eq(inner.shared(), &self.shared);
            if own {
                inner.wake_index(self.index);
            }
            own
        });
        if here != Some(true) {
            self.set.insert(self.index as usize % WakeSet::CAPACITY);
            self.shared.bell.ring();
        }
    }
}

/// A handle with which any thread starts fibers on a scheduler. Cheap to clone.
#[derive(Clone)]
pub struct Remote {
    shared: Arc<Shared>,
}

impl Remote {
    pub(crate) fn new(shared: Arc<Shared>) -> Remote {
        Remote { shared }
    }

    /// Starts a fiber that runs `f`. Its result is lost; send it through a channel of the program's choice, whose
    /// receiving side any fiber can [`wait`](crate::Wait::wait) for if it is a future.
    ///
    /// Fails, dropping `f`, if [`limits::INJECTED_MAX`] closures have not been taken yet, or the scheduler is gone.
    pub fn spawn(&self, f: impl FnOnce() + Send + 'static) -> Result<(), RemoteError> {
        self.shared.injected.send(Box::new(f)).map_err(|error| match error {
            SendError::Full(_) => RemoteError::Full,
            SendError::Closed(_) => RemoteError::Gone,
        })?;
        self.shared.bell.ring();
        Ok(())
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

/// Why a fiber was not started from another thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// The scheduler is behind.
    #[error("{} closures wait for the fiber scheduler already", limits::INJECTED_MAX)]
    Full,
    /// The scheduler ended.
    #[error("the fiber scheduler is gone")]
    Gone,
}
