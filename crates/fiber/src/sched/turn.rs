//! The scheduler's own loop.

use super::cell::{FiberCell, State};
use super::{Builder, Inner, Turn};
use crate::limits;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;
use warpline_ring::WakeSet;

impl Inner {
    pub(crate) fn turn(&self, budget: usize) -> Turn {
        assert!(self.current().is_none(), "a fiber cannot run a turn of its scheduler: wait instead");
        assert!(!self.modes.in_turn.replace(true), "a callback cannot run a turn of its scheduler");
        struct Reset<'a>(&'a Cell<bool>);
        impl Drop for Reset<'_> {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        let reset = Reset(&self.modes.in_turn);
        if self.shared.bell.take() {
            self.take_remote();
        }
        if !self.timers.is_empty() {
            self.timers.fire(self.clock.now());
        }
        if let Some(reactor) = &self.reactor {
            reactor.poll();
        }
        let ran = self.run_ready(budget);
        if let Some(watch) = &self.watch {
            watch.idle();
        }
        self.counts.switches.set(self.counts.switches.get() + ran as u64);
        self.deliver_delayed();
        drop(reset);
        Turn { ran, ready: !self.hot.is_idle(), live: self.counts.live() }
    }

    /// Runs up to `budget` ready fibers and says how many.
    fn run_ready(&self, budget: usize) -> usize {
        let hot = &self.hot;
        let budget = budget.min(i32::MAX as usize) as u32;
        hot.budget.set(budget);
        let mut io_in_a_row = 0;
        while hot.budget.get() != 0 {
            let io = !hot.ready_io.is_empty() && (io_in_a_row < limits::IO_SHARE || hot.ready.is_empty());
            io_in_a_row = if io { io_in_a_row + 1 } else { 0 };
            let queue = if io { &hot.ready_io } else { &hot.ready };
            let Some(cell) = queue.pop() else { break };
            hot.budget.set(hot.budget.get() - 1);
            // SAFETY: cells live as long as the scheduler.
            self.run_fiber(unsafe { cell.as_ref() });
        }
        Inner::set_running(None);
        (budget - hot.budget.replace(0)) as usize
    }

    #[inline(always)]
    fn run_fiber(&self, cell: &FiberCell) {
        if cell.state.get() == State::New && !self.prepare(cell) {
            return;
        }
        if let Some(watch) = &self.watch {
            watch.enter(cell);
        }
        self.hot.allow_hosting();
        self.resume(cell);
        self.hot.end_hosting();
        if let Some(ended) = self.ended.take() {
            // SAFETY: cells live as long as the scheduler.
            self.retire(unsafe { NonNull::as_ref(&ended) });
        }
    }

    /// Takes what other threads sent.
    pub(super) fn take_remote(&self) {
        for set in 0..self.wake_sets.borrow().len() {
            let wakes = self.wake_sets.borrow()[set].clone();
            wakes.drain(|member| self.wake_index((set * WakeSet::CAPACITY + member) as u32));
        }
        let mut injected = self.injected.borrow_mut();
        for closure in injected.drain() {
            if Builder::new().spawn(closure).is_err() {
                tracing::warn!("a closure from another thread was dropped: there are too many fibers");
            }
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.hot.is_idle()
    }

    /// Sleeps until something rings or the next timer is due, at most for `at_most`.
    pub(super) fn sleep(&self, at_most: Option<Duration>) {
        let timer = self.next_timer().filter(|_| !self.clock.is_manual());
        let at_most = at_most.into_iter().chain(timer).min();
        if at_most == Some(Duration::ZERO) {
            return;
        }
        if self.shared.bell.prepare_sleep() {
            match (&self.reactor, at_most) {
                (Some(reactor), at_most) => reactor.sleep(at_most),
                (None, Some(duration)) => thread::park_timeout(duration),
                (None, None) => thread::park(),
            }
            if !self.shared.bell.wake() {
                return;
            }
        }
        self.take_remote();
    }

    /// Runs fibers on the thread's own stack until `done`.
    pub(crate) fn drive(&self, mut done: impl FnMut() -> bool) {
        while !done() {
            self.turn(limits::TURN_BUDGET);
            if done() {
                return;
            }
            if self.is_idle() {
                self.sleep(None);
            }
        }
    }

    /// How long until the next timer is due.
    fn next_timer(&self) -> Option<Duration> {
        let due = self.timers.next_due()?;
        Some(due.saturating_duration_since(self.clock.now()))
    }

    pub(crate) fn block_on<F: Future>(&self, mut future: Pin<&mut F>) -> F::Output {
        assert!(self.current().is_none(), "block_on inside a fiber: use Wait::wait");
        let waker = Waker::from(self.shared.clone());
        let mut context = Context::from_waker(&waker);
        let mut output = None;
        self.shared.root_woken.raise();
        self.drive(|| {
            if self.shared.root_woken.take_if_seen()
                && let Poll::Ready(value) = future.as_mut().poll(&mut context)
            {
                output = Some(value);
            }
            output.is_some()
        });
        output.expect("the loop ends with an output")
    }
}
