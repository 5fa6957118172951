//! How far each member of a group has come in something that all go through together.

use std::fmt;

use crate::pad::CachePadded;
use crate::sync::{AtomicU64, Ordering};

/// One number per member, each on cache lines of its own, written by that member alone; it only grows.
///
/// Raising is a release store, asking an acquire load: whoever sees that a member has reached a point sees everything
/// that the member did before it raised its number, what it pushed into rings included. There is no read-modify-write:
/// nobody waits for anybody to write.
pub struct Progress(Box<[CachePadded<AtomicU64>]>);

impl Progress {
    /// All members at 0.
    pub fn new(members: usize) -> Progress {
        Progress((0..members).map(|_| CachePadded(AtomicU64::new(0))).collect())
    }

    /// For the member alone: it has reached `point`, which is not below what it said before.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn raise(&self, member: usize, point: u64) {
        debug_assert!(self.0[member].load(Ordering::Relaxed) <= point, "progress does not go back");
        self.0[member].store(point, Ordering::Release);
    }

    /// For the coordinator, while nobody is that member and nobody asks: a new one will begin.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn reset(&self, member: usize) {
        self.0[member].store(0, Ordering::Release);
    }

    /// How far the member has come.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn of(&self, member: usize) -> u64 {
        self.0[member].load(Ordering::Acquire)
    }

    /// Whether all of `members` have reached `point`.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn all_reached(&self, members: impl IntoIterator<Item = usize>, point: u64) -> bool {
        members.into_iter().all(|member| self.of(member) >= point)
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..self.0.len()).map(|member| self.of(member))).finish()
    }
}
