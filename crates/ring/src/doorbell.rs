//! Waking a worker that may be asleep, without a system call if it is not.

use crate::sync::{AtomicU8, Ordering};

/// The worker runs; nobody has rung since it last looked.
const AWAKE: u8 = 0;
/// The worker sleeps or is about to: the next ring has to notify.
const ASLEEP: u8 = 1;
/// Somebody rang and the worker has not looked yet.
const RUNG: u8 = 2;

/// How a sleeping worker is woken: an eventfd, a thread's unpark.
pub trait Notify: Send + Sync {
    /// Ends the sleep that runs or is about to begin. Called at most once per sleep; must not block.
    fn notify(&self);
}

impl<F: Fn() + Send + Sync> Notify for F {
    fn notify(&self) {
        self();
    }
}

/// A flag that says "look at your queues", and a [`Notify`] for when the worker sleeps.
///
/// Ringers put their message into a queue first and then [`ring`](Self::ring). The worker
/// [`take`](Self::take)s the flag each turn before it looks at its queues, and sleeps only after
/// [`prepare_sleep`](Self::prepare_sleep) said that it may, calling [`wake`](Self::wake) afterwards.
///
/// Why no ring is lost: every ring and every look is a read-modify-write of one word, so they have a total order. A
/// ring that comes before a look is seen by it, and with it, by acquire and release (a chain of read-modify-writes is
/// one release sequence), the message queued before the ring. A ring that comes after leaves `RUNG` behind for the next
/// look, and if the worker had said `ASLEEP` in between, exactly one ringer finds that and notifies.
#[derive(Debug)]
pub struct Doorbell<N> {
    state: AtomicU8,
    notify: N,
}

impl<N: Notify> Doorbell<N> {
    /// A doorbell that nobody has rung.
    pub fn new(notify: N) -> Doorbell<N> {
        Doorbell { state: AtomicU8::new(AWAKE), notify }
    }

    /// Any thread: tells the worker to look. Remembered until it does.
    pub fn ring(&self) {
        if self.state.swap(RUNG, Ordering::AcqRel) == ASLEEP {
            self.notify.notify();
        }
    }

    /// The worker: whether somebody rang since the last look. What was queued before those rings is visible after it.
    #[inline]
    pub fn take(&self) -> bool {
        // The load keeps the line shared in the usual case; a ring that it misses is found by the next look.
        self.state.load(Ordering::Relaxed) == RUNG && self.wake()
    }

    /// The worker: about to sleep. `false` means that somebody rang (and the flag is taken): look instead of sleeping.
    #[must_use]
    pub fn prepare_sleep(&self) -> bool {
        match self.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => true,
            Err(_) => {
                self.wake();
                false
            }
        }
    }

    /// The worker: sleeps no more, whatever the reason. Returns whether somebody rang.
    pub fn wake(&self) -> bool {
        self.state.swap(AWAKE, Ordering::AcqRel) == RUNG
    }

    /// The means of waking.
    pub fn notifier(&self) -> &N {
        &self.notify
    }
}
