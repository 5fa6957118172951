//! What a transfer has done so far, for whoever watches.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Counters of a running transfer; read at any time from any thread.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of files in the share, as far as the list has come.
    pub bytes_total: Gauge,
    /// Files in the share, as far as the list has come.
    pub files_total: Gauge,
    /// Bytes that are in place: arrived, verified and written, or there before.
    pub bytes_done: Gauge,
    /// Files that are complete.
    pub files_done: Gauge,
    /// Bytes that were there before.
    pub bytes_reused: Gauge,
    /// Bytes that were taken from older versions of their files.
    pub bytes_copied: Gauge,
    /// Bytes of files that came over the network, repetitions included.
    pub bytes_received: Gauge,
    /// Bytes of lists of chunks that came over the network.
    pub bytes_listed: Gauge,
    /// Ranges that came wrong and were fetched again.
    pub refetched: Gauge,
    /// Nanoseconds that the writer has spent on writing and verifying.
    pub writing_nanos: Gauge,
    /// The list of files is complete.
    pub listed: Flag,
}

/// A number that one thread changes and others read.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes back what was counted and did not hold.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A fact that becomes true.
#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    /// Makes it true.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What keeps a transfer from being faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bottleneck {
    /// The receiver's disk and hashing.
    Disk,
    /// The network, or the host.
    Network,
}

impl Progress {
    /// What limited the transfer over a time `elapsed` in which the writer was busy for `busy`.
    pub fn bottleneck(busy: Duration, elapsed: Duration) -> Bottleneck {
        // A writer that waits for a quarter of the time could have written more.
        if busy * 4 > elapsed * 3 { Bottleneck::Disk } else { Bottleneck::Network }
    }
}
