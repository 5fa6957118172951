//! A set of numbers as sorted, disjoint ranges.

use core::ops::Range;

use smallvec::SmallVec;

/// Sorted, disjoint, non-adjacent half-open ranges. Appending at the end costs O(1), anything else a binary search
/// and a shift in a short vector: callers bound the number of ranges. A single one, which is all there is where nothing is
/// lost or reordered, lies in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeSet(SmallVec<[Range<u64>; 1]>);

/// Ranges that a list which has just been made has room for: 64 bytes.
const FEW: usize = 4;

impl RangeSet {
    /// Adds `range`; returns how many of its numbers were new.
    pub(crate) fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        if let Some(last) = self.0.last_mut() {
            if range.start == last.end {
                last.end = range.end;
                return range.end - range.start;
            }
            if range.start > last.end {
                self.0.push(range.clone());
                return range.end - range.start;
            }
        } else {
            self.0.push(range.clone());
            return range.end - range.start;
        }
        // All ranges that touch the new one melt into it.
        let first = self.0.partition_point(|r| r.end < range.start);
        let after = self.0.partition_point(|r| r.start <= range.end);
        let mut merged = range.clone();
        let mut known = 0;
        for old in &self.0[first..after] {
            known += old.end.min(range.end).saturating_sub(old.start.max(range.start));
            merged.start = merged.start.min(old.start);
            merged.end = merged.end.max(old.end);
        }
        if first == after {
            self.0.insert(first, merged);
        } else {
            self.0[first] = merged;
            self.0.drain(first + 1..after);
        }
        range.end - range.start - known
    }

    /// Removes every number below `bound`.
    pub(crate) fn remove_below(&mut self, bound: u64) {
        let gone = self.0.partition_point(|r| r.end <= bound);
        self.0.drain(..gone);
        if let Some(first) = self.0.first_mut() {
            first.start = first.start.max(bound);
        }
    }

    /// Forgets everything from `bound` on.
    pub(crate) fn remove_above(&mut self, bound: u64) {
        while let Some(last) = self.0.last_mut() {
            if last.start < bound {
                last.end = last.end.min(bound);
                break;
            }
            self.0.pop();
        }
    }

    #[inline]
    pub(crate) fn contains(&self, number: u64) -> bool {
        match self.0.last() {
            None => false,
            Some(last) if number >= last.end => false,
            Some(last) if number >= last.start => true,
            Some(_) => {
                let at = self.0.partition_point(|r| r.end <= number);
                self.0.get(at).is_some_and(|r| r.contains(&number))
            }
        }
    }

    pub(crate) fn pop_first(&mut self) -> Option<Range<u64>> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    /// Whether there is memory for more than a few ranges.
    #[inline]
    pub(crate) fn holds_long_list(&self) -> bool {
        self.0.capacity() > FEW
    }

    /// Gives back memory that is not needed now.
    pub(crate) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    pub(crate) fn first(&self) -> Option<&Range<u64>> {
        self.0.first()
    }

    #[inline]
    pub(crate) fn last(&self) -> Option<&Range<u64>> {
        self.0.last()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Range<u64>> + ExactSizeIterator + Clone {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(ops in prop::collection::vec((0u64..60, 0u64..12, any::<bool>()), 1..40)) {
            let mut ranges = RangeSet::default();
            let mut model = BTreeSet::new();
            for (start, len, remove) in ops {
                if remove {
                    ranges.remove_below(start);
                    model.retain(|n| *n >= start);
                } else {
                    let new = (start..start + len).filter(|n| model.insert(*n)).count() as u64;
                    prop_assert_eq!(ranges.insert(start..start + len), new);
                }
                let flat: Vec<u64> = ranges.iter().cloned().flatten().collect();
                prop_assert_eq!(&flat, &model.iter().copied().collect::<Vec<_>>());
                prop_assert!(ranges.iter().zip(ranges.iter().skip(1)).all(|(a, b)| a.end < b.start));
                for n in 0..75 {
                    prop_assert_eq!(ranges.contains(n), model.contains(&n));
                }
            }
        }
    }
}
