//! Memory beside the pools, for when they have no frame left: frames on the heap, within a bound.

use std::fmt;
use std::sync::Arc;

use crate::frame::Frame;
use crate::hold::Hold;
use crate::sync::{AtomicUsize, Ordering};

/// What a frame on the heap costs besides its bytes: its header, and what the allocator adds.
const OVERHEAD: usize = 128;

/// Heap memory for frames that no pool has room for: each exactly as long as what is in it, all together within a bound.
///
/// A pool's frames are few and of one size; data that is held for long, because a program reads slowly or a peer
/// acknowledges late, would keep new data out. Copied here it costs what it is long, and an allocation. Cloning shares the
/// account.
#[derive(Clone)]
pub struct Spill(Arc<Account>);

/// Who owes what.
pub(crate) struct Account {
    used: AtomicUsize,
    bound: usize,
}

impl Account {
    /// Frees what a frame of that many bytes has taken.
    pub(crate) fn settle(&self, len: usize) {
        self.used.fetch_sub(len + OVERHEAD, Ordering::Relaxed);
    }
}

impl Spill {
    /// With room for `bound` bytes, headers counted.
    #[must_use]
    pub fn new(bound: usize) -> Spill {
        Spill(Arc::new(Account { used: AtomicUsize::new(0), bound }))
    }

    /// A frame with a copy of `data`; `None` if the bound does not allow it, or if there is nothing to copy. The room is free
    /// again once the last [`Frame`] or [`Chunk`](crate::Chunk) of it is gone, on whatever thread.
    ///
    /// # Panics
    /// If `data` is longer than 4 GiB.
    #[must_use]
    pub fn copy(&self, data: &[u8]) -> Option<Frame> {
        let cost = data.len() + OVERHEAD;
        if data.is_empty() || cost > self.0.bound {
            return None;
        }
        // Several may take at once, so it is taken first and looked at then: the sum never exceeds the bound.
        let before = self.0.used.fetch_add(cost, Ordering::Relaxed);
        if before > self.0.bound - cost {
            self.0.used.fetch_sub(cost, Ordering::Relaxed);
            return None;
        }
        let (base, hold) = Hold::counted(data.to_vec(), Arc::clone(&self.0));
        // SAFETY: the bytes are the vector's, initialized, which `hold` keeps alive and nothing else refers to.
        Some(unsafe { Frame::from_parts(base, data.len(), hold) })
    }

    /// Bytes in use, headers counted.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes that may be in use.
    #[must_use]
    pub fn bound(&self) -> usize {
        self.0.bound
    }
}

impl fmt::Debug for Spill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spill").field("used", &self.used()).field("bound", &self.bound()).finish()
    }
}
