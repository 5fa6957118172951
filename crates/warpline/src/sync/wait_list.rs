//! Tasks of several threads that wait for one condition.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::{Context, Poll, Waker};
use warpline_ring::Lock;

/// Wakers of tasks that wait for a condition, which is kept elsewhere.
///
/// [`notify`](Self::notify) never blocks: if the list is in use it leaves a flag, and whoever uses the list looks at the
/// flag after letting go of it. The fences make that work: either the notifier sees the list free, or the user sees the
/// flag.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    waiters: Lock<Vec<Waker>>,
    notified: AtomicBool,
}

impl WaitList {
    /// Ready with what `attempt` gives. Until it gives something, the task is woken by every notification.
    pub(crate) fn poll<R>(&self, cx: &Context<'_>, mut attempt: impl FnMut() -> Option<R>) -> Poll<R> {
        if let Some(result) = attempt() {
            return Poll::Ready(result);
        }
        {
            let mut waiters = self.waiters.lock();
            if !waiters.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiters.push(cx.waker().clone());
            }
        }
        self.settle();
        // What changed before the registration was notified to nobody.
        match attempt() {
            Some(result) => Poll::Ready(result),
            None => Poll::Pending,
        }
    }

    /// Wakes all that wait. To be called after the condition changed. Never blocks.
    pub(crate) fn notify(&self) {
        self.notified.store(true, Ordering::SeqCst);
        self.settle();
    }

    /// Answers a notification that is still open, unless somebody else is at the list, who will.
    fn settle(&self) {
        loop {
            fence(Ordering::SeqCst);
            if !self.notified.load(Ordering::SeqCst) {
                return;
            }
            let Some(mut waiters) = self.waiters.try_lock() else { return };
            self.notified.store(false, Ordering::SeqCst);
            let woken = std::mem::take(&mut *waiters);
            drop(waiters);
            woken.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn no_notification_is_lost_between_threads() {
        const ROUNDS: usize = 5_000;
        let list = Arc::new((WaitList::default(), AtomicUsize::new(0)));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let list = Arc::clone(&list);
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a plain runtime");
                    for round in 1..=ROUNDS {
                        runtime.block_on(poll_fn(|cx| {
                            list.0.poll(cx, || (list.1.load(Ordering::Relaxed) >= round).then_some(()))
                        }));
                    }
                })
            })
            .collect();
        for _ in 0..ROUNDS {
            list.1.fetch_add(1, Ordering::Relaxed);
            list.0.notify();
        }
        for waiter in waiters {
            waiter.join().expect("every waiter sees every round");
        }
    }
}
