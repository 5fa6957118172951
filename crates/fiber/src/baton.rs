//! The baton: the one primitive that everything else is built on.

use crate::sched::{FiberCell, FiberKey, Inner, seldom};
use crate::stack::Place;
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
pub struct Baton {
    state: Cell<Slot>,
    /// Of the fiber that last parked in a wait without having been cancelled.
    place: Cell<Place>,
    /// Meaningful with [`Slot::FIBER`] only.
    key: Cell<FiberKey>,
    /// Meaningful with [`Slot::TASK`] only.
    task: Cell<Option<Waker>>,
    /// Neither the baton nor a reference to it leaves its thread.
    local: PhantomData<*const ()>,
}

/// One word, since it is written at every hand-over: one of the constants, which are no addresses, or else the address of
/// the cell whose fiber is parked in a wait. That fiber empties the slot before it goes on, and its cell outlives it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot(*const FiberCell);

impl Slot {
    const EMPTY: Slot = Slot(std::ptr::null());
    const POSTED: Slot = Slot(std::ptr::without_provenance(1));
    /// The thread itself waits, running its fibers meanwhile.
    const THREAD: Slot = Slot(std::ptr::without_provenance(2));
    /// A fiber polled. Nobody empties the slot when it ends, so it is named only.
    const FIBER: Slot = Slot(std::ptr::without_provenance(3));
    /// A future was polled elsewhere.
    const TASK: Slot = Slot(std::ptr::without_provenance(4));

    fn parked(cell: &FiberCell) -> Slot {
        Slot(std::ptr::from_ref(cell))
    }

    /// The cell of a fiber that is parked.
    #[inline(always)]
    fn cell<'a>(self) -> Option<&'a FiberCell> {
        // SAFETY: what is no constant is the address of a cell, and names it only while its fiber is parked, so its
        // scheduler's memory is there.
        (self.0.addr() > Slot::TASK.0.addr()).then(|| unsafe { &*self.0 })
    }
}

impl Default for Baton {
    fn default() -> Baton {
        Baton::new()
    }
}

impl Baton {
    /// A baton without a mark.
    pub const fn new() -> Baton {
        Baton {
            state: Cell::new(Slot::EMPTY),
            place: Cell::new(Place::UNKNOWN),
            key: Cell::new(FiberKey { index: 0, generation: 0 }),
            task: Cell::new(None),
            local: PhantomData,
        }
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

    #[inline(always)]
    fn post_with(&self, urgent: bool) {
        let before = self.state.replace(Slot::POSTED);
        match before.cell() {
            Some(cell) => {
                // Before the cell is looked at, which may be as far away.
                self.place.get().prefetch();
                // It may have been woken for another reason.
                if cell.is_parked() {
                    // SAFETY: the fiber is parked.
                    unsafe { Inner::of_fiber(cell) }.enqueue(cell, urgent);
                } else {
                    seldom();
                }
            }
            None if before.0.addr() >= Slot::FIBER.0.addr() => self.wake_polled(before, urgent),
            None => {}
        }
    }

    /// Wakes whoever polled.
    #[inline(never)]
    fn wake_polled(&self, before: Slot, urgent: bool) {
        if before == Slot::FIBER {
            Inner::try_with(|inner| inner.wake(self.key.get(), urgent)).unwrap_or(());
        } else if let Some(waker) = self.task.take() {
            waker.wake();
        }
    }

    /// Takes the mark if it is there.
    #[inline(always)]
    pub fn try_wait(&self) -> bool {
        let posted = self.state.get() == Slot::POSTED;
        if posted {
            self.state.set(Slot::EMPTY);
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
        if self.state.get() == Slot::EMPTY
            && let Some(cell) = Inner::running()
            && !cell.is_cancelled()
        {
            self.state.set(Slot::parked(cell));
            self.place.set(Place::here());
            // SAFETY: the fiber runs.
            unsafe { Inner::of_fiber(cell) }.park(cell);
            if self.try_wait() {
                return;
            }
        }
        seldom();
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
            Some(key) => {
                self.key.set(key);
                Slot::FIBER
            }
            None => {
                self.task.set(Some(context.waker().clone()));
                Slot::TASK
            }
        });
        Poll::Pending
    }

    /// Forgets whoever waits. Returns whether a mark is there; it stays.
    pub(crate) fn forget_waiter(&self) -> bool {
        let posted = self.state.get() == Slot::POSTED;
        if !posted {
            self.reset();
        }
        posted
    }

    /// As new.
    pub(crate) fn reset(&self) {
        if self.state.replace(Slot::EMPTY) == Slot::TASK {
            self.task.set(None);
        }
    }

    /// Says that a fiber, or the thread itself, waits from now on.
    fn claim(&self, fiber: Option<&FiberCell>) {
        let state = self.state.get();
        let free = match fiber {
            _ if state == Slot::EMPTY => true,
            None => state == Slot::THREAD,
            Some(cell) if state == Slot::FIBER => self.key.get() == cell.key(),
            Some(cell) => state == Slot::parked(cell),
        };
        assert!(free, "another one waits for this baton already");
        self.state.set(fiber.map_or(Slot::THREAD, Slot::parked));
    }
}

impl fmt::Debug for Baton {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state.get() {
            Slot::EMPTY => "empty",
            Slot::POSTED => "posted",
            _ => "waited for",
        };
        f.debug_tuple("Baton").field(&state).finish()
    }
}
