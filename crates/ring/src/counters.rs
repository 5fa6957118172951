//! Statistics: written by one worker without synchronization, summed by whoever asks.

use std::fmt;

use crate::sync::{AtomicU64, Ordering};

/// A counter with one writer.
///
/// Adding is a load and a store, both relaxed, and no read-modify-write: about the price of a plain variable. Two
/// threads adding at the same time lose counts (nothing worse), so give each worker its own. Readers see some recent
/// value of each counter; there is no order between counters.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    pub fn new() -> Counter {
        Counter::default()
    }

    /// Adds `n`. For the one writer.
    #[inline]
    pub fn add(&self, n: u64) {
        self.set(self.value().wrapping_add(n));
    }

    /// Sets the value (a gauge). For the one writer.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value, from any thread.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value().fmt(f)
    }
}

/// The counters of one worker, on cache lines that no other worker writes.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters<const N: usize>([Counter; N]);

impl<const N: usize> Counters<N> {
    /// All at zero.
    pub fn new() -> Counters<N> {
        Counters(std::array::from_fn(|_| Counter::new()))
    }

    /// Adds `n` to the counter at `index`. For the one writer.
    ///
    /// # Panics
    /// If `index` is not below `N`.
    #[inline]
    pub fn add(&self, index: usize, n: u64) {
        self.0[index].add(n);
    }

    /// The values now.
    pub fn snapshot(&self) -> [u64; N] {
        std::array::from_fn(|index| self.0[index].value())
    }

    /// The sums over several workers.
    pub fn sum<'a>(workers: impl IntoIterator<Item = &'a Counters<N>>) -> [u64; N] {
        workers.into_iter().fold([0; N], |mut sums, worker| {
            for (sum, value) in sums.iter_mut().zip(worker.snapshot()) {
                *sum = sum.wrapping_add(value);
            }
            sums
        })
    }
}

impl<const N: usize> Default for Counters<N> {
    fn default() -> Counters<N> {
        Counters::new()
    }
}
