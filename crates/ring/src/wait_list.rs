//! Tasks of any threads that wait for one condition: registered and woken without a lock.
//!
//! A stack of wakers. Whoever waits pushes; whoever changes the condition takes the whole stack at once, so the ABA
//! problem of a popping stack does not arise.
//!
//! Why no wake-up is lost: both sides do a read-modify-write on the head. If the push comes before the swap, the swap
//! takes the waker. If it comes after, it reads what the swap (or a later push) wrote, and so sees everything that was
//! done before the notification: the second attempt, which follows each push, finds the condition changed.

use std::collections::HashSet;
use std::fmt;
use std::ptr;
use std::task::{Poll, Waker};

use crate::sync::{AtomicPtr, AtomicUsize, Ordering};

/// Registrations that may pile up before all tasks are woken to see which still wait. Tasks that are polled again and again
/// for another reason, or that gave up, leave some behind.
const SWEEP_MIN: usize = 64;

struct Node {
    waker: Waker,
    next: *mut Node,
}

/// Wakers of tasks that wait for a condition, which is kept elsewhere.
pub struct WaitList {
    head: AtomicPtr<Node>,
    /// How many nodes there are, or are about to be.
    len: AtomicUsize,
    /// At how many the list is swept: twice as many as there were tasks the last time.
    sweep_at: AtomicUsize,
}

// SAFETY: nodes are reached by whoever took them out alone, and `Waker` is `Send` and `Sync`.
unsafe impl Send for WaitList {}
// SAFETY: as above; all access through `&self` is by atomics.
unsafe impl Sync for WaitList {}

impl Default for WaitList {
    fn default() -> WaitList {
        WaitList::new(SWEEP_MIN)
    }
}

impl WaitList {
    /// An empty list that is swept when this many registrations, at least one, have piled up; later at twice the number of
    /// tasks that there were.
    #[must_use]
    pub fn new(sweep_at: usize) -> WaitList {
        WaitList {
            head: AtomicPtr::new(ptr::null_mut()),
            len: AtomicUsize::new(0),
            sweep_at: AtomicUsize::new(sweep_at.max(1)),
        }
    }

    /// Ready with what `attempt` gives. Until it gives something, the task is woken by every notification.
    pub fn poll<R>(&self, waker: &Waker, mut attempt: impl FnMut() -> Option<R>) -> Poll<R> {
        if let Some(result) = attempt() {
            return Poll::Ready(result);
        }
        self.push(waker.clone());
        // What changed before the registration was notified to nobody.
        match attempt() {
            Some(result) => Poll::Ready(result),
            None => Poll::Pending,
        }
    }

    /// Wakes all that wait. To be called after the condition changed. It never waits for anybody.
    pub fn notify(&self) {
        self.take(|waker| waker.wake());
    }

    fn push(&self, waker: Waker) {
        // Counted first: who takes the node out cannot subtract it before it was added.
        let len = self.len.fetch_add(1, Ordering::Relaxed) + 1;
        let node = Box::into_raw(Box::new(Node { waker, next: ptr::null_mut() }));
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: the node is this thread's alone until the exchange succeeds.
            unsafe { (*node).next = head };
            // Acquire: what was done before the notification that is read here is seen by the attempt that follows. Release:
            // who takes the node sees what is in it.
            match self.head.compare_exchange_weak(head, node, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        if len >= self.sweep_at.load(Ordering::Relaxed) {
            self.sweep();
        }
    }

    /// Wakes all tasks, those that still wait register again.
    #[cold]
    fn sweep(&self) {
        let mut tasks = HashSet::new();
        self.take(|waker| {
            if tasks.insert((waker.data() as usize, ptr::from_ref(waker.vtable()) as usize)) {
                waker.wake();
            }
        });
        // Otherwise as many tasks as this would wake each other for ever.
        self.sweep_at.fetch_max(2 * tasks.len(), Ordering::Relaxed);
    }

    fn take(&self, mut each: impl FnMut(Waker)) {
        // Always an exchange, also if nobody seems to wait: it is what a later registration synchronizes with.
        let mut node = self.head.swap(ptr::null_mut(), Ordering::AcqRel);
        let mut taken = 0;
        while !node.is_null() {
            // SAFETY: the node came from a box, and the exchange made it this thread's alone.
            let Node { waker, next } = *unsafe { Box::from_raw(node) };
            taken += 1;
            node = next;
            each(waker);
        }
        if taken > 0 {
            self.len.fetch_sub(taken, Ordering::Relaxed);
        }
    }
}

impl Drop for WaitList {
    fn drop(&mut self) {
        self.take(drop);
    }
}

impl fmt::Debug for WaitList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitList").field("len", &self.len.load(Ordering::Relaxed)).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize as Count, Ordering::SeqCst};
    use std::task::Wake;

    struct Task(Count);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn task() -> (Arc<Task>, Waker) {
        let task = Arc::new(Task(Count::new(0)));
        (task.clone(), task.into())
    }

    #[test]
    fn those_that_wait_are_woken_once_and_then_forgotten() {
        let list = WaitList::default();
        let ((first, one), (second, two)) = (task(), task());
        assert_eq!(list.poll(&one, || None::<()>), Poll::Pending);
        assert_eq!(list.poll(&two, || None::<()>), Poll::Pending);
        assert_eq!(list.poll(&two, || Some(7)), Poll::Ready(7));
        list.notify();
        list.notify();
        assert_eq!((first.0.load(SeqCst), second.0.load(SeqCst)), (1, 1));
        assert_eq!(list.poll(&one, || None::<()>), Poll::Pending);
        drop((list, one));
        assert_eq!(Arc::strong_count(&first), 1, "the list let go of it");
    }

    #[test]
    fn registrations_that_pile_up_are_swept_and_many_tasks_may_wait() {
        let list = WaitList::default();
        let (restless, waker) = task();
        for _ in 0..10 * SWEEP_MIN {
            assert_eq!(list.poll(&waker, || None::<()>), Poll::Pending);
            assert!(list.len.load(SeqCst) < SWEEP_MIN);
        }
        assert_eq!(restless.0.load(SeqCst), 10, "one task, woken once for each sweep");
        // A thousand tasks that wait at a time settle: each registers again when it is woken.
        let tasks: Vec<_> = (0..1_000).map(|_| task()).collect();
        let mut seen = vec![0; tasks.len()];
        for round in 0.. {
            let mut registered = 0;
            for ((task, waker), seen) in tasks.iter().zip(&mut seen) {
                let woken = task.0.load(SeqCst);
                if round == 0 || woken > *seen {
                    *seen = woken;
                    registered += 1;
                    assert_eq!(list.poll(waker, || None::<()>), Poll::Pending);
                }
            }
            if registered == 0 {
                break;
            }
            assert!(round < 20, "they do not wake each other for ever");
        }
        let before: usize = tasks.iter().map(|(task, _)| task.0.load(SeqCst)).sum();
        list.notify();
        let after: usize = tasks.iter().map(|(task, _)| task.0.load(SeqCst)).sum();
        assert!(after - before >= tasks.len(), "all of them wait");
    }
}
