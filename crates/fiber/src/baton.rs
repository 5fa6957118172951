//! The baton: the one primitive that everything else is built on.

use crate::sched::{FiberCell, FiberKey, Inner};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

/// A hand-over between one that waits and one that posts, on one thread.
///
/// [`post`](Self::post) leaves a mark, [`wait`](Self::wait) takes it, parking until it is there. Posts do not add up: two
/// before a wait are one. One may wait at a time; several who wait have a baton each (see how
/// [`Semaphore`](crate::sync::Semaphore) does it). No reactor is needed and nothing is allocated.
///
/// ```
/// use std::rc::Rc;
/// use warpline_fiber::{Baton, Scheduler};
///
/// let scheduler = Scheduler::new(Default::default()).unwrap();
/// let (ping, pong) = (Rc::new(Baton::new()), Rc::new(Baton::new()));
/// let echo = { let (ping, pong) = (ping.clone(), pong.clone()); scheduler.spawn(move || { ping.wait(); pong.post(); }) };
/// scheduler.spawn(move || { ping.post(); pong.wait(); }).join().unwrap();
/// echo.join().unwrap();
/// ```
pub struct Baton {
    state: Cell<Slot>,
    /// Meaningful with [`Slot::Task`] only.
    task: Cell<Option<Waker>>,
    /// Neither the baton nor a reference to it leaves its thread.
    local: PhantomData<*const ()>,
}

/// Small and without a destructor: it is written at every hand-over.
#[derive(Clone, Copy)]
enum Slot {
    Empty,
    Posted,
    /// A fiber of the thread's scheduler is parked in a wait. It empties the slot before it goes on, and its cell outlives it.
    Parked(NonNull<FiberCell>),
    /// A fiber polled. Nobody empties the slot when it ends, so it is named only.
    Fiber(FiberKey),
    /// The thread itself waits, running its fibers meanwhile.
    Thread,
    /// A future was polled elsewhere.
    Task,
}

impl Default for Baton {
    fn default() -> Baton {
        Baton::new()
    }
}

impl Baton {
    /// A baton without a mark.
    pub const fn new() -> Baton {
        Baton { state: Cell::new(Slot::Empty), task: Cell::new(None), local: PhantomData }
    }

    /// Leaves the mark and wakes whoever waits for it.
    #[inline]
    pub fn post(&self) {
        self.post_with(false);
    }

    /// The same for a completion of I/O, or of something as urgent: the fiber runs before those that are ready for other
    /// reasons, which still get one turn in nine.
    #[inline]
    pub fn post_urgent(&self) {
        self.post_with(true);
    }

    #[inline]
    fn post_with(&self, urgent: bool) {
        match self.state.replace(Slot::Posted) {
            Slot::Empty | Slot::Posted | Slot::Thread => {}
            Slot::Parked(cell) => {
                // SAFETY: the slot names the cell only while its fiber is parked, so its scheduler's memory is there.
                let cell = unsafe { cell.as_ref() };
                Inner::try_with(|inner| inner.wake_cell(cell, urgent)).unwrap_or(());
            }
            Slot::Fiber(key) => Inner::try_with(|inner| inner.wake(key, urgent)).unwrap_or(()),
            Slot::Task => {
                if let Some(waker) = self.task.take() {
                    waker.wake();
                }
            }
        }
    }

    /// Takes the mark if it is there.
    #[inline]
    pub fn try_wait(&self) -> bool {
        let posted = matches!(self.state.get(), Slot::Posted);
        if posted {
            self.state.set(Slot::Empty);
        }
        posted
    }

    /// Takes the mark, parking the fiber until it is there. Outside a fiber the thread's other fibers run meanwhile.
    ///
    /// If the fiber is cancelled while it waits, this unwinds (see [`JoinHandle::cancel`](crate::JoinHandle::cancel)) and
    /// the baton is as if nobody had waited. A mark that came first wins.
    ///
    /// # Panics
    /// If another one waits already, or there is no scheduler on this thread.
    // The usual case is inlined, switch and all: a call that is left by a switch is a return that the processor predicts
    // wrongly, which costs as much as five switches.
    #[inline(always)]
    pub fn wait(&self) {
        if self.try_wait() {
            return;
        }
        if matches!(self.state.get(), Slot::Empty)
            && let Some((inner, cell)) = Inner::running()
            && !cell.is_cancelled()
        {
            self.state.set(Slot::Parked(NonNull::from(cell)));
            inner.park(cell);
            if self.try_wait() {
                return;
            }
        }
        self.wait_slow();
    }

    #[inline(never)]
    fn wait_slow(&self) {
        Inner::with(|inner| {
            let Some(cell) = inner.current() else {
                self.claim(None);
                inner.drive(|| self.try_wait());
                return;
            };
            loop {
                if inner.cancel_due(cell) {
                    self.forget_waiter();
                    crate::cancel::unwind();
                }
                self.claim(Some(cell));
                inner.park(cell);
                if self.try_wait() {
                    return;
                }
            }
        });
    }

    /// Takes the mark, whatever happens: a cancellation calls `asked` once and the wait goes on. Returns whether it did.
    #[cfg(target_os = "linux")]
    pub(crate) fn wait_to_the_end(&self, asked: impl FnOnce()) -> bool {
        let mut asked = Some(asked);
        Inner::with(|inner| {
            let Some(cell) = inner.current() else {
                self.wait_slow();
                return;
            };
            while !self.try_wait() {
                if let Some(call) = asked.take_if(|_| inner.cancel_due(cell)) {
                    call();
                }
                self.claim(Some(cell));
                inner.park(cell);
            }
        });
        asked.is_none()
    }

    /// Takes the mark or leaves word whom to wake: the building block of futures. Only the last waker counts.
    pub fn poll_wait(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.try_wait() {
            return Poll::Ready(());
        }
        let own = Inner::try_with(|inner| inner.owner_of(context.waker())).flatten();
        self.state.set(match own {
            // The fiber's own waker: no need for its count.
            Some(key) => Slot::Fiber(key),
            None => {
                self.task.set(Some(context.waker().clone()));
                Slot::Task
            }
        });
        Poll::Pending
    }

    /// Forgets whoever waits. Returns whether a mark is there; it stays.
    pub(crate) fn forget_waiter(&self) -> bool {
        let posted = matches!(self.state.get(), Slot::Posted);
        if !posted {
            self.reset();
        }
        posted
    }

    /// As new.
    pub(crate) fn reset(&self) {
        if matches!(self.state.replace(Slot::Empty), Slot::Task) {
            self.task.set(None);
        }
    }

    /// Says that a fiber, or the thread itself, waits from now on.
    fn claim(&self, fiber: Option<&FiberCell>) {
        let free = match (self.state.get(), fiber) {
            (Slot::Empty, _) | (Slot::Thread, None) => true,
            (Slot::Parked(one), Some(cell)) => one == NonNull::from(cell),
            (Slot::Fiber(one), Some(cell)) => one == cell.key(),
            _ => false,
        };
        assert!(free, "another one waits for this baton already");
        self.state.set(fiber.map_or(Slot::Thread, |cell| Slot::Parked(NonNull::from(cell))));
    }
}

impl fmt::Debug for Baton {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state.get() {
            Slot::Empty => "empty",
            Slot::Posted => "posted",
            Slot::Parked(_) | Slot::Fiber(_) | Slot::Thread | Slot::Task => "waited for",
        };
        f.debug_tuple("Baton").field(&state).finish()
    }
}
