//! A value for one thread at a time, for threads that do not wait for each other.

use std::fmt;

use crate::sync::{AtomicU8, Ordering, UnsafeCell};

/// Nobody has the value.
const FREE: u8 = 0;
/// Somebody has it.
const TAKEN: u8 = 1;
/// Somebody has it, and others were turned away meanwhile.
const MISSED: u8 = 2;

/// A value that whoever comes first uses, and others do not wait for: they are turned away, and whoever has the value
/// learns of it when it lets go, to tell them.
///
/// Why nobody is forgotten: taking, turning away and letting go are read-modify-writes of one word. One who is turned away
/// leaves `MISSED` there, which only letting go removes, and that finds it. What the one turned away did before
/// (entering itself in a list of those who wait) is seen by whoever lets go, by release and acquire. Letting go is also what
/// hands the value over: a release that the next one's acquire reads.
pub struct Claim<T> {
    state: AtomicU8,
    value: UnsafeCell<T>,
}

// SAFETY: the state gives the value to one thread at a time, so it only moves between threads.
unsafe impl<T: Send> Sync for Claim<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Claim<T> {}

impl<T> Claim<T> {
    /// A value that nobody has.
    pub fn new(value: T) -> Claim<T> {
        Claim { state: AtomicU8::new(FREE), value: UnsafeCell::new(value) }
    }

    /// Calls `f` with the value; `None`, at once and without calling it, if another thread has it (or `f` itself asks again).
    /// Whoever is turned away has been or will be told of by `turned_away`, which the thread with the value calls after it
    /// has let go: they may try again then.
    pub fn try_with<R>(&self, f: impl FnOnce(&mut T) -> R, turned_away: impl FnOnce()) -> Option<R> {
        let free = self.state.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok();
        // Free by now: it is this thread's all the same, and tells somebody who is not there when it lets go.
        if !free && self.state.swap(MISSED, Ordering::AcqRel) != FREE {
            return None;
        }
        let hold = Hold { state: &self.state, turned_away: Some(turned_away) };
        // SAFETY: the state was `FREE` and is not, so the value is this thread's until `hold` is dropped.
        let result = self.value.with_mut(|value| f(unsafe { &mut *value }));
        drop(hold);
        Some(result)
    }
}

/// Lets go when it is dropped, also if the one with the value panics.
struct Hold<'a, F: FnOnce()> {
    state: &'a AtomicU8,
    turned_away: Option<F>,
}

impl<F: FnOnce()> Drop for Hold<'_, F> {
    fn drop(&mut self) {
        if self.state.swap(FREE, Ordering::AcqRel) == MISSED
            && let Some(turned_away) = self.turned_away.take()
        {
            turned_away();
        }
    }
}

impl<T> fmt::Debug for Claim<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn who_comes_meanwhile_is_turned_away_and_told_of() {
        let (claim, told) = (Claim::new(1), Cell::new(0));
        let tell = || told.set(told.get() + 1);
        assert_eq!(claim.try_with(|value| *value += 1, tell), Some(()));
        assert_eq!(told.get(), 0, "nobody came");
        let inner = claim.try_with(|_| claim.try_with(|_| (), || panic!("it has nothing to let go of")), tell);
        assert_eq!((inner, told.get()), (Some(None), 1));
        assert_eq!(claim.try_with(|value| *value, tell), Some(2));
    }

    #[test]
    fn a_panic_lets_go() {
        let claim = Claim::new(0);
        let panicking = std::panic::AssertUnwindSafe(|| claim.try_with(|_| panic!("as it is meant to"), || ()));
        assert!(std::panic::catch_unwind(panicking).is_err());
        assert!(claim.try_with(|_| (), || ()).is_some());
    }
}
