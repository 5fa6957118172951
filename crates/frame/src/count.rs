//! The reference count of a frame.

use crate::sync::{AtomicU32, Ordering, fence};

/// More references than this abort the process, as `Arc` does: only leaking in a loop gets there, and going on would
/// wrap the count and free memory that is in use. Half the range leaves room for every thread to be in between.
const REFS_MAX: u32 = u32::MAX / 2;

/// How many [`Frame`](crate::Frame)s and [`Chunk`](crate::Chunk)s refer to a frame. Starts at one.
pub(crate) struct RefCount(AtomicU32);

impl RefCount {
    pub(crate) fn new() -> RefCount {
        RefCount(AtomicU32::new(1))
    }

    /// One more reference. Relaxed: the caller holds one already, so the count cannot reach zero meanwhile, and the
    /// new reference reaches other threads only by means that synchronize themselves.
    #[inline]
    pub(crate) fn retain(&self) {
        if self.0.fetch_add(1, Ordering::Relaxed) > REFS_MAX {
            std::process::abort();
        }
    }

    /// Whether the caller's reference is the only one; if so, it sees all that earlier holders did.
    #[inline]
    pub(crate) fn is_one(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }

    /// One reference less; true if it was the last one, and then the caller owns the frame.
    ///
    /// A count of one can only be the caller's own, and nobody else is there to raise it, so the usual case (one
    /// owner) needs no atomic read-modify-write: the acquire load sees everything that earlier holders did before
    /// their release decrement. Otherwise the decrement is the same as `Arc`'s. After a `true` the count is
    /// unspecified (0 or 1) until [`reset`](Self::reset).
    #[inline]
    pub(crate) fn release(&self) -> bool {
        if self.0.load(Ordering::Acquire) == 1 {
            return true;
        }
        if self.0.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            return true;
        }
        false
    }

    /// Back to one, by the thread that owns the frame alone.
    #[inline]
    pub(crate) fn reset(&self) {
        self.0.store(1, Ordering::Relaxed);
    }
}
