//! The way home: frames dropped by any thread, collected by the pool.
//!
//! A Treiber stack of frame indices. Any thread pushes; only the pool takes, and it takes everything at once, so the
//! ABA problem of a popping Treiber stack does not arise: a push whose compare-and-swap succeeds links to the index
//! that is the head at that moment, whatever happened in between.

use crate::sync::{AtomicU32, AtomicUsize, Ordering};

/// The end of a list.
pub(crate) const NIL: u32 = u32::MAX;
/// The head once the pool is gone; pushes are refused.
const CLOSED: u32 = u32::MAX - 1;
/// The largest number of frames in a pool: every index must differ from the two marks above.
pub(crate) const FRAMES_MAX: usize = (u32::MAX - 1) as usize;

/// The return stack and the count that decides who frees the region.
pub(crate) struct Returns {
    head: AtomicU32,
    /// What keeps the region alive: one per frame and one for the pool. It is only touched when the pool goes and by
    /// frames that come home after that, so it costs nothing per packet.
    remaining: AtomicUsize,
}

/// Whether the caller was the last to need the region and has to free it.
#[must_use]
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Last {
    Yes,
    No,
}

impl Returns {
    pub(crate) fn new(frames: usize) -> Returns {
        Returns { head: AtomicU32::new(NIL), remaining: AtomicUsize::new(frames + 1) }
    }

    /// Gives the frame `index` back; `next` is its link. Whoever gets [`Last::Yes`] frees the region; after
    /// [`Last::No`] the caller must not touch it any more.
    ///
    /// The release of a successful swap pairs with the acquire in [`take_all`](Self::take_all): the pool sees the link,
    /// and its next user sees all that was done with the frame before. The load may be relaxed, since the index read
    /// is only stored and compared.
    pub(crate) fn push(&self, index: u32, next: &AtomicU32) -> Last {
        let mut head = self.head.load(Ordering::Relaxed);
        while head != CLOSED {
            next.store(head, Ordering::Relaxed);
            match self.head.compare_exchange_weak(head, index, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Last::No,
                Err(now) => head = now,
            }
        }
        self.leave(1)
    }

    /// Takes the whole list: the head's index or [`NIL`]. Only the pool calls this.
    pub(crate) fn take_all(&self) -> u32 {
        // The load keeps the shared line unwritten while nothing has come back.
        if self.head.load(Ordering::Relaxed) == NIL {
            return NIL;
        }
        self.head.swap(NIL, Ordering::Acquire)
    }

    /// Takes the whole list and refuses pushes from now on. The pool calls this once, at its end.
    pub(crate) fn close(&self) -> u32 {
        self.head.swap(CLOSED, Ordering::Acquire)
    }

    /// Removes `n` of the references that keep the region alive. Acquire and release as the counts of one object:
    /// the last one to leave sees all that the others did with the region.
    pub(crate) fn leave(&self, n: usize) -> Last {
        if self.remaining.fetch_sub(n, Ordering::AcqRel) == n { Last::Yes } else { Last::No }
    }
}
