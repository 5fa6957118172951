//! What a client counts while it works.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Histogram;

/// Running totals. Relaxed atomics: stacks deliver on whatever thread they like.
#[derive(Debug, Default)]
pub struct Counters {
    bytes: AtomicU64,
    ops: AtomicU64,
    fallbacks: AtomicU64,
    /// Time that each operation took, where that means something.
    pub latency: Histogram,
}

/// The totals at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Application bytes carried.
    pub bytes: u64,
    /// Operations done: requests, messages, handshakes or datagrams, as the scenario has it.
    pub ops: u64,
    /// Operations that came about in another way than the scenario asks for, such as a full handshake where a resumed
    /// one was wanted.
    pub fallbacks: u64,
}

impl Counters {
    /// Counts application bytes.
    pub fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts one operation that carried `bytes`.
    pub fn add_op(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.ops.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts `count` operations at once that carried `bytes` each: where an operation takes tens of nanoseconds, counting each by
    /// itself is a good part of it.
    pub fn add_ops(&self, count: u64, bytes: u64) {
        self.bytes.fetch_add(count * bytes, Ordering::Relaxed);
        self.ops.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts an operation that fell back to something else.
    pub fn add_fallback(&self) {
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
    }

    /// The totals now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            bytes: self.bytes.load(Ordering::Relaxed),
            ops: self.ops.load(Ordering::Relaxed),
            fallbacks: self.fallbacks.load(Ordering::Relaxed),
        }
    }
}

impl std::ops::Sub for Snapshot {
    type Output = Snapshot;

    fn sub(self, earlier: Snapshot) -> Snapshot {
        Snapshot {
            bytes: self.bytes.saturating_sub(earlier.bytes),
            ops: self.ops.saturating_sub(earlier.ops),
            fallbacks: self.fallbacks.saturating_sub(earlier.fallbacks),
        }
    }
}
