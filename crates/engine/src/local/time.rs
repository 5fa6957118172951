//! Sleeping.

use crate::cx;
use crate::error::EngineError;
use crate::timers::TimerKey;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use warpline_proto::Instant;

/// The time of the worker's current turn: it stands still while tasks run.
///
/// # Errors
/// [`EngineError::OffWorker`] on a thread that is no worker.
pub fn now() -> Result<Instant, EngineError> {
    cx::with_core(|core| core.now)
}

/// Waits for a duration. Times are kept to the worker's turn: never early, late by at most one turn.
pub fn sleep(duration: Duration) -> Sleep {
    // Off a worker there is no time; the poll will say so.
    let deadline = now().map_or(Instant::FAR_FUTURE, |now| now + duration);
    sleep_until(deadline)
}

/// Waits until a moment.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, timer: None }
}

/// See [`sleep`]. Resolves to an error only on a thread that is no worker.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is polled"]
pub struct Sleep {
    deadline: Instant,
    timer: Option<TimerKey>,
}

impl Future for Sleep {
    type Output = Result<(), EngineError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let (poll, old) = cx::with_core(|core| {
            if core.now >= this.deadline {
                let old = this.timer.take().and_then(|key| core.timers.cancel(key));
                return (Poll::Ready(Ok(())), old);
            }
            let old = this.timer.and_then(|key| core.timers.update(key, cx.waker()));
            if old.is_none() {
                this.timer = Some(core.timers.start(this.deadline, cx.waker().clone()));
            }
            (Poll::Pending, old.flatten())
        })?;
        drop(old);
        poll
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer.take() {
            // Off the worker there is no timer left to stop.
            let waker = cx::with_core(|core| core.timers.cancel(key));
            drop(waker);
        }
    }
}

/// A future took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time is up")]
pub struct Elapsed;

/// Gives a future a limited time; then it is dropped.
///
/// # Errors
/// [`Elapsed`] if the time was up first.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut sleep = pin!(sleep(duration));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match sleep.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(Err(Elapsed)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
