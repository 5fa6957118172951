//! A scheduler as a guest of another executor.

use crate::limits;
use crate::reactor::ReactorConfig;
use crate::sched::{Config, Scheduler, SetupError};
use crate::time::Instant;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use warpline_ring::AtomicWaker;

/// A [`Scheduler`] that runs as one task of an executor: of a packet worker, of tokio's `LocalSet`, of whatever polls
/// futures on one thread. Its fibers wait for that executor's futures ([`Wait`](crate::Wait)), and its tasks wait for
/// fibers ([`JoinHandle`](crate::JoinHandle) is a future).
///
/// The future is ready once no fiber is left, so spawn the first one before it is polled. A poll runs up to
/// [`limits::GUEST_BUDGET`] fibers and asks to be polled again if more are ready: the executor's other tasks are not
/// starved. Dropping it ends the fibers as dropping the scheduler does.
///
/// Sleeping is the executor's, so is waiting for the kernel: a guest has no reactor. For fiber timers it is told how the
/// executor sleeps.
///
/// ```
/// use std::time::Duration;
/// use warpline_fiber::{Config, Guest, Wait};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let guest = Guest::new(Config::default(), tokio::time::sleep).unwrap();
/// let sum = guest.scheduler().spawn(|| {
///     warpline_fiber::time::sleep(Duration::from_millis(1));
///     async { 40 }.wait() + 2
/// });
/// guest.await;
/// assert_eq!(sum.await.unwrap(), 42);
/// # });
/// ```
pub struct Guest<F, S> {
    /// First, so that fibers end while the rest is there.
    scheduler: Scheduler,
    host: Arc<Host>,
    sleep: F,
    timer: Pin<Box<Option<S>>>,
    /// What the timer is set to.
    due: Option<Instant>,
    /// The doorbell was told that nobody looks.
    asleep: bool,
}

impl<F, S> Unpin for Guest<F, S> {}

/// Whom to wake in the executor.
#[derive(Default)]
struct Host(AtomicWaker);

impl<F, S> Guest<F, S>
where
    F: FnMut(Duration) -> S,
    S: Future,
{
    /// Makes the calling thread's scheduler. `sleep` makes a future of the executor that is ready after a while; being
    /// early is no harm.
    ///
    /// Fails as [`Scheduler::new`] does, and if the configuration asks for a reactor.
    pub fn new(mut config: Config, sleep: F) -> Result<Guest<F, S>, SetupError> {
        if !matches!(config.reactor, ReactorConfig::None) {
            return Err(SetupError::GuestReactor);
        }
        let host = Arc::new(Host::default());
        let (to_wake, also) = (Arc::clone(&host), config.notify.take());
        config.notify = Some(Box::new(move || {
            to_wake.0.wake();
            if let Some(also) = &also {
                also();
            }
        }));
        let scheduler = Scheduler::new(config)?;
        Ok(Guest { scheduler, host, sleep, timer: Box::pin(None), due: None, asleep: false })
    }

    /// The scheduler, for starting fibers and for its figures.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Sets the executor's timer to when the next fiber timer is due. Returns whether that is now.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> bool {
        let due = self.scheduler.next_deadline();
        if due != self.due {
            self.due = due;
            let sleep = due.map(|due| (self.sleep)(due.saturating_duration_since(self.scheduler.now())));
            self.timer.as_mut().set(sleep);
        }
        let over = match self.timer.as_mut().as_pin_mut() {
            Some(sleep) => sleep.poll(context).is_ready(),
            None => false,
        };
        if over {
            self.timer.as_mut().set(None);
            self.due = None;
        }
        over
    }
}

impl<F, S> Future for Guest<F, S>
where
    F: FnMut(Duration) -> S,
    S: Future,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.host.0.register(context.waker());
        this.scheduler.guest_begin(std::mem::take(&mut this.asleep));
        let turn = this.scheduler.turn(limits::GUEST_BUDGET);
        if turn.live == 0 {
            return Poll::Ready(());
        }
        let again = turn.ready || this.poll_timer(context);
        if again || !this.scheduler.guest_end(context.waker()) {
            context.waker().wake_by_ref();
        } else {
            this.asleep = true;
        }
        Poll::Pending
    }
}

impl<F, S> fmt::Debug for Guest<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("scheduler", &self.scheduler).finish_non_exhaustive()
    }
}
