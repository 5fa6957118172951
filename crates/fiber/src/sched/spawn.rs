//! Starting fibers.

use super::cell::{HANDLE, JobOf, State, put};
use super::join::JoinHandle;
use super::{Inner, Scheduler};
use crate::stack::StackClass;
use std::borrow::Cow;
use std::rc::Rc;

/// Starts a fiber on this thread's scheduler.
///
/// # Panics
/// Without a scheduler on this thread, or beyond [`Config::fibers_max`](crate::Config::fibers_max).
pub fn spawn<T: 'static>(f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    Builder::new().spawn(f).expect("a fiber was spawned without a scheduler or beyond its limit")
}

/// A fiber to be: its name and its stack.
///
/// ```
/// use warpline_fiber::{Builder, Scheduler, StackClass};
/// let scheduler = Scheduler::new(Default::default()).unwrap();
/// let parser = Builder::new().name("parser").stack(StackClass::Large).spawn(|| 6 * 7).unwrap();
/// assert_eq!(parser.join().unwrap(), 42);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    name: Cow<'static, str>,
    class: StackClass,
}

impl Builder {
    /// A fiber without a name, on a [`Medium`](StackClass::Medium) stack.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// The name that reports show. A literal allocates nothing.
    #[must_use]
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Builder {
        self.name = name.into();
        self
    }

    /// The size of the stack.
    #[must_use]
    pub fn stack(mut self, class: StackClass) -> Builder {
        self.class = class;
        self
    }

    /// Starts the fiber on this thread's scheduler. It runs when its turn comes; the stack is taken then.
    pub fn spawn<T: 'static>(self, f: impl FnOnce() -> T + 'static) -> Result<JoinHandle<T>, SpawnError> {
        let inner = Inner::counted().ok_or(SpawnError::NoScheduler)?;
        self.spawn_on(&inner, f)
    }

    /// Starts the fiber on a scheduler of this thread.
    #[inline]
    pub(crate) fn spawn_on<F, T>(self, inner: &Rc<Inner>, f: F) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let pointer = inner.cells.take(|_| {}).ok_or(SpawnError::TooMany)?;
        // SAFETY: cells live as long as the scheduler.
        let cell = unsafe { pointer.as_ref() };
        debug_assert_eq!(cell.state.get(), State::Free, "a cell on the free list has no fiber");
        // SAFETY: a free cell's payload is empty, and nobody else looks at it.
        unsafe { put(cell.payload.get(), f) };
        cell.job.set(JobOf::<F, T>::JOB);
        cell.flags.set(HANDLE);
        cell.shields.set(0);
        cell.seat.class.set(self.class);
        cell.joined.reset();
        *cell.name.borrow_mut() = self.name;
        cell.state.set(State::New);
        let counts = &inner.counts;
        counts.spawned.set(counts.spawned.get() + 1);
        counts.live.set(counts.live.get() + 1);
        counts.live_max.set(counts.live_max.get().max(counts.live.get()));
        inner.enqueue(cell, false);
        Ok(JoinHandle::new(inner.clone(), pointer))
    }
}

impl Scheduler {
    /// Starts a fiber as a [`Builder`] says.
    pub fn spawn_with<T: 'static>(
        &self,
        builder: Builder,
        f: impl FnOnce() -> T + 'static,
    ) -> Result<JoinHandle<T>, SpawnError> {
        builder.spawn_on(&self.inner, f)
    }
}

/// Why a fiber was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The thread has no scheduler.
    #[error("this thread has no fiber scheduler")]
    NoScheduler,
    /// There are as many fibers as the configuration allows.
    #[error("there are as many fibers as the configuration allows")]
    TooMany,
}
