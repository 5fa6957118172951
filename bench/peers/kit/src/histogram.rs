//! Latencies, counted into buckets that are exact to 0.8 %.

use std::sync::atomic::{AtomicU64, Ordering};

/// Sub-buckets of a power of two, as bits.
const SUB_BITS: u32 = 7;
/// Longest latency that is told apart, as a power of two of nanoseconds: 73 minutes.
const MAX_BITS: u32 = 42;
const BUCKETS: usize = ((MAX_BITS - SUB_BITS + 1) << SUB_BITS) as usize;

/// A histogram of nanoseconds. Recording is one relaxed addition, so that any thread of a stack may do it.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Histogram {
    /// Counts one latency in nanoseconds.
    pub fn record(&self, nanos: u64) {
        self.buckets[index(nanos)].fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets everything, as at the end of the warm-up.
    pub fn reset(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Ordering::Relaxed);
        }
    }

    /// Number of recorded latencies.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// The latency in nanoseconds that the share `q` (0 to 1) of all does not exceed; `None` if nothing was recorded.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((count as f64 * q).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Ordering::Relaxed);
            if seen >= rank {
                return Some(upper_bound(index));
            }
        }
        None
    }
}

fn index(nanos: u64) -> usize {
    let nanos = nanos.min((1 << MAX_BITS) - 1);
    let bits = u64::BITS - nanos.leading_zeros();
    let shift = bits.saturating_sub(SUB_BITS + 1);
    // With shift > 0 the top SUB_BITS + 1 bits are 1xxxxxxx, so that each power of two takes 128 places.
    ((shift as usize) << SUB_BITS) + (nanos >> shift) as usize
}

fn upper_bound(index: usize) -> u64 {
    let shift = (index >> SUB_BITS).saturating_sub(1);
    let top = index - (shift << SUB_BITS);
    ((top as u64 + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_within_its_bucket() {
        let mut last = 0;
        for value in (0..5_000).chain((12..42).map(|bit| (1 << bit) + 12_345)) {
            let bucket = index(value);
            assert!(bucket >= last && bucket < BUCKETS);
            last = bucket;
            let upper = upper_bound(bucket);
            assert!(upper >= value && (upper - value) as f64 <= value as f64 / 128.0, "{value} {upper}");
        }
        assert!(index(u64::MAX) < BUCKETS);
    }

    #[test]
    fn quantiles_of_a_ramp() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=100).for_each(|value| histogram.record(value));
        assert_eq!(histogram.quantile(0.5), Some(50));
        assert_eq!(histogram.quantile(0.99), Some(99));
        assert_eq!(histogram.quantile(1.0), Some(100));
        histogram.reset();
        assert_eq!(histogram.count(), 0);
    }
}
