//! Time: a clock, sleeps, callbacks and timeouts.
//!
//! Two kinds of timers. The many live in a hierarchical timing wheel ([`sleep`], [`timeout`], [`once`], [`every`]): setting
//! and cancelling are a few instructions whatever their number, and they fire up to a tick of 131 µs
//! ([`limits::TICK_BITS`](crate::limits::TICK_BITS)) after their time, never before. The few that must be precise
//! ([`sleep_precise`]) live in a heap whose earliest deadline is handed to the kernel in nanoseconds whenever the thread
//! sleeps: with `io_uring` as the timeout of the wait itself, otherwise through `epoll`'s timerfd.

mod clock;
mod timers;
mod wheel;

pub use clock::{Clock, Instant, ManualClock};
pub(crate) use timers::Timers;
pub use timers::{TimerHandle, every, once};

use crate::future::Wait;
use crate::sched::Inner;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use timers::{Precision, TimerKey};

/// The time of this thread's scheduler.
///
/// # Panics
/// Without a scheduler on this thread.
pub fn now() -> Instant {
    Inner::with(Inner::now)
}

/// A future that is ready at a time. Made by [`Sleep::until`]; dropping it takes the timer out.
#[derive(Debug)]
pub struct Sleep {
    at: Instant,
    precision: Precision,
    timer: Option<TimerKey>,
}

impl Sleep {
    /// Ready at `at`, by the wheel.
    pub fn until(at: Instant) -> Sleep {
        Sleep { at, precision: Precision::Wheel, timer: None }
    }

    /// Ready at `at`, as precisely as the kernel wakes the thread.
    pub fn until_precise(at: Instant) -> Sleep {
        Sleep { at, precision: Precision::Kernel, timer: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Inner::with(|inner| {
            let timers = inner.timers();
            let key = *match self.timer {
                Some(ref key) => key,
                None if self.at <= inner.now() => return Poll::Ready(()),
                None => {
                    let key = timers.set(self.at, self.precision);
                    self.timer.insert(key)
                }
            };
            let fired = timers.poll(key, context);
            if fired.is_ready() {
                timers.remove(key);
                self.timer = None;
                self.at = Instant::default();
            }
            fired
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer {
            Inner::try_with(|inner| inner.timers().remove(key));
        }
    }
}

/// Parks the fiber for at least `duration`. Outside a fiber the thread's fibers run meanwhile.
pub fn sleep(duration: Duration) {
    Sleep::until(now() + duration).wait();
}

/// The same, as precisely as the kernel wakes the thread.
pub fn sleep_precise(duration: Duration) {
    Sleep::until_precise(now() + duration).wait();
}

/// The future did not get ready in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time is over")]
pub struct Elapsed;

/// Waits for a future for at most `duration`, then drops it. Fails with [`Elapsed`]. A future that is ready at once never
/// sets a timer.
///
/// ```
/// use std::time::Duration;
/// use warpline_fiber::{Scheduler, time::timeout};
/// let scheduler = Scheduler::new(Default::default()).unwrap();
/// let fiber = scheduler.spawn(|| timeout(Duration::from_millis(2), std::future::pending::<()>()));
/// assert!(fiber.join().unwrap().is_err());
/// ```
pub fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = std::pin::pin!(future);
    let mut sleep = std::pin::pin!(Sleep::until(now() + duration));
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        sleep.as_mut().poll(context).map(|()| Err(Elapsed))
    })
    .wait()
}

/// Ticks at a steady rate for the fiber that has it.
#[derive(Debug)]
pub struct Interval {
    next: Instant,
    period: Duration,
}

impl Interval {
    /// The first tick is after one period.
    ///
    /// # Panics
    /// If the period is zero.
    pub fn new(period: Duration) -> Interval {
        assert!(!period.is_zero(), "an interval has a length");
        Interval { next: now() + period, period }
    }

    /// Parks until the next tick and returns when it was due. Ticks that passed while nobody waited are skipped.
    pub fn tick(&mut self) -> Instant {
        Sleep::until(self.next).wait();
        let due = self.next;
        self.next = timers::next_period(due, self.period, now());
        due
    }
}
