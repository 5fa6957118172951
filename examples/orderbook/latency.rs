//! Latencies by the million: a histogram with a precision of a sixteenth.

/// Buckets per power of two.
const PARTS: u32 = 4;

/// Nanoseconds, counted by size.
#[derive(Debug)]
pub struct Latencies {
    counts: Vec<u64>,
    max: u64,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies { counts: vec![0; 64 << PARTS], max: 0 }
    }
}

impl Latencies {
    /// Counts one.
    pub fn add(&mut self, nanos: u64) {
        self.counts[bucket(nanos)] += 1;
        self.max = self.max.max(nanos);
    }

    /// The longest one in microseconds.
    pub fn max(&self) -> f64 {
        self.max as f64 / 1e3
    }

    /// What `share` of all do not exceed, in microseconds; 0 if there are none.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (self.counts.iter().sum::<u64>() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank.max(1)
        });
        found.map_or(0.0, |bucket| (upper(bucket).min(self.max)) as f64 / 1e3)
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < 1 << PARTS {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - PARTS;
    (((shift + 1) as usize) << PARTS) + (nanos >> shift) as usize - (1 << PARTS)
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    if bucket < 1 << PARTS {
        return bucket as u64;
    }
    let shift = (bucket >> PARTS) - 1;
    let base = ((1 << PARTS) + bucket % (1 << PARTS)) as u64;
    (base << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_are_narrow() {
        for nanos in (0..100_000).chain([1 << 40, u64::MAX]) {
            let bucket = bucket(nanos);
            assert!(upper(bucket) >= nanos && upper(bucket) - nanos <= nanos / 16, "{nanos}");
            assert!(bucket == 0 || upper(bucket - 1) < nanos, "{nanos}");
        }
    }

    #[test]
    fn quantiles() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), 0.0);
        (1..=1000).for_each(|micros| latencies.add(micros * 1000));
        for (share, micros) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = latencies.quantile(share);
            assert!(found >= micros && found <= micros * 1.07, "{share}: {found}");
        }
    }
}
