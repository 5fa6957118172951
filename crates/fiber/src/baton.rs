//! The baton: the one primitive that everything else is built on.

use crate::sched::{FiberKey, Inner};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
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
#[derive(Default)]
pub struct Baton {
    slot: Cell<Slot>,
    /// Neither the baton nor a reference to it leaves its thread.
    local: PhantomData<*const ()>,
}

#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    Posted,
    /// A fiber of the thread's scheduler is parked.
    Fiber(FiberKey),
    /// The thread itself waits, running its fibers meanwhile.
    Thread,
    /// A future was polled.
    Task(Waker),
}

impl Baton {
    /// A baton without a mark.
    pub const fn new() -> Baton {
        Baton { slot: Cell::new(Slot::Empty), local: PhantomData }
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
        match self.slot.replace(Slot::Posted) {
            Slot::Fiber(key) => Inner::try_with(|inner| inner.wake(key, urgent)).unwrap_or(()),
            Slot::Task(waker) => waker.wake(),
            Slot::Empty | Slot::Posted | Slot::Thread => {}
        }
    }

    /// Takes the mark if it is there.
    #[inline]
    pub fn try_wait(&self) -> bool {
        match self.slot.replace(Slot::Empty) {
            Slot::Posted => true,
            other => {
                self.slot.set(other);
                false
            }
        }
    }

    /// Takes the mark, parking the fiber until it is there. Outside a fiber the thread's other fibers run meanwhile.
    ///
    /// If the fiber is cancelled while it waits, this unwinds (see [`JoinHandle::cancel`](crate::JoinHandle::cancel)) and
    /// the baton is as if nobody had waited. A mark that came first wins.
    ///
    /// # Panics
    /// If another one waits already, or there is no scheduler on this thread.
    #[inline]
    pub fn wait(&self) {
        if !self.try_wait() {
            self.wait_slow();
        }
    }

    fn wait_slow(&self) {
        Inner::with(|inner| {
            let Some(cell) = inner.current() else {
                self.claim(Slot::Thread);
                inner.drive(|| self.try_wait());
                return;
            };
            loop {
                if inner.cancel_due(cell) {
                    self.forget_waiter();
                    crate::cancel::unwind();
                }
                self.claim(Slot::Fiber(cell.key()));
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
                self.claim(Slot::Fiber(cell.key()));
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
        self.slot.set(match own {
            // The fiber's own waker: no need for its count.
            Some(key) => Slot::Fiber(key),
            None => Slot::Task(context.waker().clone()),
        });
        Poll::Pending
    }

    /// Forgets whoever waits. Returns whether a mark is there; it stays.
    pub(crate) fn forget_waiter(&self) -> bool {
        match self.slot.replace(Slot::Empty) {
            Slot::Posted => {
                self.slot.set(Slot::Posted);
                true
            }
            _ => false,
        }
    }

    /// As new.
    pub(crate) fn reset(&self) {
        self.slot.set(Slot::Empty);
    }

    fn claim(&self, new: Slot) {
        let old = self.slot.replace(Slot::Empty);
        let free = match (&old, &new) {
            (Slot::Empty, _) | (Slot::Thread, Slot::Thread) => true,
            (Slot::Fiber(one), Slot::Fiber(other)) => one == other,
            _ => false,
        };
        if !free {
            self.slot.set(old);
            panic!("another one waits for this baton already");
        }
        self.slot.set(new);
    }
}

impl fmt::Debug for Baton {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = self.slot.replace(Slot::Empty);
        let state = match &slot {
            Slot::Empty => "empty",
            Slot::Posted => "posted",
            Slot::Fiber(_) | Slot::Thread | Slot::Task(_) => "waited for",
        };
        self.slot.set(slot);
        f.debug_tuple("Baton").field(&state).finish()
    }
}
