//! The bridge between futures and fibers.

use crate::sched::{Inner, WOKEN};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

/// Waiting for any future inside a fiber.
pub trait Wait: Future + Sized {
    /// Polls the future on the fiber's stack and parks the fiber until it is ready. Wake-ups may come from any thread.
    ///
    /// If the fiber is cancelled meanwhile, this unwinds and the future is dropped. Outside a fiber the future is run
    /// as by [`Scheduler::block_on`](crate::Scheduler::block_on).
    ///
    /// ```
    /// use warpline_fiber::{Scheduler, Wait};
    /// let scheduler = Scheduler::new(Default::default()).unwrap();
    /// let fiber = scheduler.spawn(|| async { 3 }.wait());
    /// assert_eq!(scheduler.block_on(async { fiber.await.unwrap() + 4 }), 7);
    /// ```
    ///
    /// # Panics
    /// Without a scheduler on this thread.
    fn wait(self) -> Self::Output;
}

impl<F: Future> Wait for F {
    fn wait(self) -> F::Output {
        let mut future = pin!(self);
        Inner::with(|inner| {
            let Some(cell) = inner.current() else { return inner.block_on(future) };
            let mut context = Context::from_waker(inner.waker_of(cell));
            loop {
                cell.clear(WOKEN);
                if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                    // This wait may be inside the poll of another one, whose wake-up it may have taken.
                    cell.set(WOKEN);
                    return output;
                }
                if inner.cancel_due(cell) {
                    crate::cancel::unwind();
                }
                if cell.has(WOKEN) {
                    inner.requeue(cell);
                } else {
                    inner.park(cell);
                }
            }
        })
    }
}
