//! A set of small numbers that any thread adds to and one thread empties: "these tasks were woken".
//!
//! Two levels of bits: a word for 64 members and a summary with one bit per word. A wake-up is two read-modify-writes
//! and no loop; adding a member twice leaves it in once, so the set never grows and never refuses. That is what a
//! queue of wake-ups cannot give: a bounded queue may be full exactly when a wake-up must not be lost.
//!
//! Why none is lost: the adder writes the word first and the summary second, the emptier reads them in the same order,
//! and all four are read-modify-writes. If the adder's summary bit comes before the emptier's swap in the order of that
//! word, the swap (acquire) sees the adder's release and so the word's bit. If it comes after, the bit stays for the
//! next time. The adder sets the summary bit even if it found the word not empty: whoever made it so may not have come
//! to the summary yet.

use crate::pad::CachePadded;
use crate::sync::{AtomicU64, Ordering};

/// How many words a [`WakeSet`] has at most.
const WORDS_MAX: usize = 64;

/// A set of the numbers below [`WakeSet::CAPACITY`].
#[derive(Debug)]
pub struct WakeSet {
    summary: CachePadded<AtomicU64>,
    words: Box<[AtomicU64]>,
}

impl WakeSet {
    /// How many members a set can have: 64 words of 64 bits.
    pub const CAPACITY: usize = WORDS_MAX * 64;

    /// An empty set with room for `capacity` members, at most [`CAPACITY`](Self::CAPACITY).
    ///
    /// # Panics
    /// If `capacity` is 0 or larger.
    pub fn new(capacity: usize) -> WakeSet {
        assert!((1..=Self::CAPACITY).contains(&capacity), "a wake set holds 1 to 4096 members");
        let words = (0..capacity.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        WakeSet { summary: CachePadded(AtomicU64::new(0)), words }
    }

    /// Any thread: adds a member. What the caller wrote before is visible to whoever finds it in the set. Ring the
    /// owner's doorbell afterwards.
    ///
    /// # Panics
    /// If `member` is not below the capacity.
    pub fn insert(&self, member: usize) {
        let word = member / 64;
        self.words[word].fetch_or(1 << (member % 64), Ordering::AcqRel);
        self.summary.fetch_or(1 << word, Ordering::AcqRel);
    }

    /// The owner: takes all members out and hands each to `found`, in ascending order.
    pub fn drain(&self, mut found: impl FnMut(usize)) {
        // The load keeps the line shared in the usual case; an insertion that it misses rings the doorbell later.
        if self.summary.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut summary = self.summary.swap(0, Ordering::AcqRel);
        while summary != 0 {
            let word = summary.trailing_zeros() as usize;
            summary &= summary - 1;
            let mut bits = self.words[word].swap(0, Ordering::AcqRel);
            while bits != 0 {
                found(word * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn members_come_out_once_and_in_order() {
        let set = WakeSet::new(WakeSet::CAPACITY);
        for member in [4095, 0, 64, 63, 64, 1] {
            set.insert(member);
        }
        let mut found = Vec::new();
        set.drain(|member| found.push(member));
        assert_eq!(found, [0, 1, 63, 64, 4095]);
        set.drain(|member| panic!("{member} was left in the set"));
    }
}
