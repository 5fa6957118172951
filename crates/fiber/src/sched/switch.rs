//! Waking fibers, and switching between them.

use super::cell::{DELAYED, FiberCell, FiberKey, PARKED, State, WOKEN};
use super::queue::{Hosted, seldom};
use super::{CURRENT, Inner, yield_now};
use crate::limits;
use std::thread;

impl Inner {
    /// Makes a fiber ready if it is parked.
    #[inline]
    pub(crate) fn wake(&self, key: FiberKey, io: bool) {
        match self.cells.at(key.index) {
            Some(cell) if cell.generation.get() == key.generation => self.wake_cell(cell, io),
            _ => {}
        }
    }

    /// Makes whatever fiber is in a cell ready if it is parked.
    pub(crate) fn wake_index(&self, index: u32) {
        if let Some(cell) = self.cells.at(index) {
            self.wake_cell(cell, false);
        }
    }

    #[inline]
    pub(crate) fn wake_cell(&self, cell: &FiberCell, io: bool) {
        cell.set(WOKEN);
        if cell.is_parked() {
            self.enqueue(cell, io);
        }
    }

    /// Puts a fiber that is ready and in no queue into one.
    #[inline(always)]
    pub(crate) fn enqueue(&self, cell: &FiberCell, io: bool) {
        let hot = &self.hot;
        if io {
            hot.ready_io.push(cell);
            hot.end_hosting();
        } else {
            hot.ready.push(cell);
        }
        if hot.host_sleeps.get() {
            seldom();
            self.wake_host();
        }
    }

    #[cold]
    pub(super) fn wake_host(&self) {
        self.hot.host_sleeps.set(false);
        if let Some(waker) = self.host.take() {
            waker.wake();
        }
    }

    /// Switches away from the running fiber until somebody wakes it. It may be woken without reason.
    #[inline(always)]
    pub(crate) fn park(&self, cell: &FiberCell) {
        cell.next.set(PARKED);
        self.leave(cell);
    }

    /// Switches away from the running fiber and leaves it ready.
    #[inline(always)]
    pub(crate) fn requeue(&self, cell: &FiberCell) {
        self.enqueue(cell, false);
        self.leave(cell);
    }

    /// Lets others run until it is the running fiber's turn again.
    #[inline(always)]
    fn leave(&self, cell: &FiberCell) {
        if CURRENT.with(|current| current.nested.get()) || !self.host(cell) {
            self.switch(cell);
        }
    }

    /// Runs others from the parked fiber's own stack, in their order, until it is its turn again. `false` if it has to
    /// switch away instead.
    ///
    /// This saves two fibers that hand something to and fro every other switch, and it is no deeper than one level: those
    /// that run here switch back to here. What else the scheduler does (starting and ending fibers, timers, the kernel,
    /// other threads) is left to its own loop: none of that runs on a fiber's stack.
    // Inlined: the registers that a call would save are saved by the switch anyway.
    #[inline(always)]
    fn host(&self, cell: &FiberCell) -> bool {
        CURRENT.with(|current| current.nested.set(true));
        let own_turn = loop {
            match self.hot.next_hosted(cell) {
                Hosted::Nothing => break false,
                Hosted::Own => break true,
                Hosted::Other(next) => self.resume(next),
            }
        };
        Inner::set_running(Some(cell));
        CURRENT.with(|current| current.nested.set(false));
        own_turn
    }

    /// Switches to a fiber until it switches away.
    #[inline(always)]
    pub(super) fn resume(&self, cell: &FiberCell) {
        debug_assert_eq!(cell.state.get(), State::Active, "only a fiber that is ready and has a stack is switched to");
        Inner::set_running(Some(cell));
        // SAFETY: a coroutine is touched here, when it is put into its cell and when it is taken out. A fiber that runs or
        // runs others is not in the queues, so it is not switched to a second time.
        let slot = unsafe { &mut *cell.coroutine.get() };
        // SAFETY: `prepare` gave the fiber its coroutine before it made it active, and `retire` takes it after its end.
        let coroutine = unsafe { slot.as_mut().unwrap_unchecked() };
        // SAFETY: a strand does not return.
        unsafe { std::hint::assert_unchecked(!coroutine.done()) };
        let _ = coroutine.resume(());
    }

    /// Switches from the running fiber to whoever resumed it.
    #[inline(always)]
    fn switch(&self, cell: &FiberCell) {
        debug_assert!(
            self.current().is_some_and(|running| std::ptr::eq(running, cell)),
            "only the running fiber switches away"
        );
        // SAFETY: the yielder lies at the base of the running fiber's stack, for as long as the fiber.
        let yielder = unsafe { &*cell.seat.yielder.get() };
        yielder.suspend(());
    }

    /// Whether the running fiber is to unwind at this wait. Not while it unwinds already: an unwinding out of a
    /// destructor would end the process.
    #[inline]
    pub(crate) fn cancel_due(&self, cell: &FiberCell) -> bool {
        if !cell.is_cancelled() {
            return false;
        }
        let unwinding = thread::panicking();
        if unwinding {
            cell.set(DELAYED);
            self.modes.delayed.set(true);
        }
        !unwinding
    }

    /// Before I/O that may be done at once: a point of cancellation, and the end of a fiber's turn if it did a lot already.
    pub(crate) fn pace(&self) {
        let Some(cell) = self.current() else { return };
        let (index, count) = self.streak.get();
        let count = if index == cell.index { count + 1 } else { 0 };
        self.streak.set((cell.index, count));
        if count >= limits::AT_ONCE_MAX {
            self.streak.set((cell.index, 0));
            yield_now();
        } else if self.cancel_due(cell) {
            crate::cancel::unwind();
        }
    }

    /// Wakes the fibers whose cancellation was held back, if the thread does not unwind any more.
    #[inline]
    pub(super) fn deliver_delayed(&self) {
        if self.modes.delayed.get() && !thread::panicking() {
            self.wake_delayed();
        }
    }

    #[cold]
    fn wake_delayed(&self) {
        self.modes.delayed.set(false);
        for cell in (0..self.cells.len() as u32).filter_map(|index| self.cells.at(index)) {
            if cell.has(DELAYED) {
                cell.clear(DELAYED);
                self.wake_cell(cell, false);
            }
        }
    }
}
