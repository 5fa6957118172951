//! Starting fibers.

use super::cell::{FiberCell, HANDLE, JobOf, NAMED, State, put};
use super::join::JoinHandle;
use super::{Inner, Scheduler};
use crate::stack::StackClass;
use std::borrow::Cow;

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
    #[inline]
    pub fn spawn<T: 'static>(self, f: impl FnOnce() -> T + 'static) -> Result<JoinHandle<T>, SpawnError> {
        let inner = Inner::counted().ok_or(SpawnError::NoScheduler)?;
        let pointer = inner.cells.take().ok_or(SpawnError::TooMany)?;
        // SAFETY: cells live as long as the scheduler.
        let cell = unsafe { pointer.as_ref() };
        cell.fill(f, self.class);
        if !self.name.is_empty() {
            cell.set(NAMED);
            *cell.name.borrow_mut() = self.name;
        }
        inner.counts.add();
        inner.hot.new.set(inner.hot.new.get() + 1);
        inner.hot.end_hosting();
        inner.enqueue(cell, false);
        Ok(JoinHandle::new(inner, pointer))
    }
}

impl FiberCell {
    /// Makes a free cell that of a new fiber.
    #[inline(always)]
    fn fill<F: FnOnce() -> T + 'static, T: 'static>(&self, f: F, class: StackClass) {
        debug_assert_eq!(self.state.get(), State::Free, "a cell on the free list has no fiber");
        // SAFETY: a free cell's payload is empty, and nobody else looks at it.
        unsafe { put(self.payload.get(), f) };
        self.job.set(JobOf::<F, T>::JOB);
        self.flags.set(HANDLE);
        self.shields.set(0);
        self.seat.class.set(class);
        self.joined.reset();
        self.state.set(State::New);
    }
}

impl Scheduler {
    /// Starts a fiber as a [`Builder`] says.
    pub fn spawn_with<T: 'static>(
        &self,
        builder: Builder,
        f: impl FnOnce() -> T + 'static,
    ) -> Result<JoinHandle<T>, SpawnError> {
        builder.spawn(f)
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
