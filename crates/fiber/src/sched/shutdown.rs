//! The end of a scheduler.

use super::cell::State;
use super::{CURRENT, Current, Inner, Scheduler};
use crate::limits;
use std::rc::Rc;

impl Drop for Scheduler {
    fn drop(&mut self) {
        let inner = &self.inner;
        inner.end_all();
        if inner.counts.live() > 0 {
            inner.leak();
        }
        let pointer = CURRENT.with(Current::clear);
        // SAFETY: `Scheduler::new` put this count there, and nothing uses the pointer any more.
        drop(unsafe { Rc::from_raw(pointer) });
    }
}

impl Inner {
    /// Cancels all fibers and runs them until they ended or nothing moves.
    fn end_all(&self) {
        for _ in 0..limits::SHUTDOWN_PASSES_MAX {
            for cell in (0..self.cells.len() as u32).filter_map(|index| self.cells.at(index)) {
                self.cancel(cell);
            }
            // Fibers may yield on their way out; a bound keeps one that does nothing else from holding up the end.
            for _ in 0..limits::SHUTDOWN_PASSES_MAX {
                if !self.turn(self.hot.ready_count()).ready {
                    break;
                }
            }
            if self.counts.live() == 0 {
                return;
            }
            // Operations that were asked to stop tell when they have.
            if let Some(reactor) = &self.reactor {
                reactor.sleep(Some(limits::SHUTDOWN_PATIENCE));
            }
        }
    }

    /// Keeps the memory of fibers that did not end: others may point into their stacks.
    fn leak(&self) {
        for cell in (0..self.cells.len() as u32).filter_map(|index| self.cells.at(index)) {
            if !matches!(cell.state.get(), State::Free | State::Done) {
                // Whatever it waits for may still be posted; it must not run any more.
                cell.state.set(State::Done);
                cell.next.set(std::ptr::null());
                tracing::warn!(fiber = %cell.name.borrow(), "a fiber holds back its cancellation and is leaked");
            }
        }
        std::mem::forget(Inner::counted());
    }
}
