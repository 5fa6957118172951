//! The queues of fibers that are ready, and what else every switch touches.

use super::cell::FiberCell;
use std::cell::Cell;
use std::ptr::NonNull;

/// What a switch needs of its scheduler: one cache line.
#[repr(C, align(64))]
#[derive(Default)]
pub(crate) struct Hot {
    pub(super) ready: Queue,
    /// How many of `budget` a parked fiber may run: all or none.
    hosted: Cell<u32>,
    /// Fibers that the turn may still run, without those in `hosted`.
    pub(super) budget: Cell<u32>,
    pub(super) ready_io: Queue,
    /// Fibers in the queue that have not begun.
    pub(super) new: Cell<u32>,
    /// An executor of which this is a guest sleeps.
    pub(super) host_sleeps: Cell<bool>,
}

impl Hot {
    /// Fibers that are ready. Looks at all of them.
    pub(super) fn ready_count(&self) -> usize {
        self.ready.len() + self.ready_io.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.ready_io.is_empty()
    }

    /// Lets parked fibers run others, if there are only plain ones: those that are ready for I/O have a share of their own,
    /// and those that begin need a stack. Both is the business of the scheduler's own loop.
    #[inline(always)]
    pub(super) fn allow_hosting(&self) {
        if self.ready_io.is_empty() && self.new.get() == 0 {
            self.hosted.set(self.budget.replace(0));
        }
    }

    /// Has the next fiber that waits give the thread back to the scheduler's own loop.
    #[inline(always)]
    pub(super) fn end_hosting(&self) {
        self.budget.set(self.budget.get() + self.hosted.replace(0));
    }

    /// The next fiber, if a parked fiber may run it: only then are order, budget and the share of completions those of the
    /// scheduler's own loop.
    #[inline(always)]
    pub(super) fn next_hosted(&self, own: &FiberCell) -> Hosted<'_> {
        let left = self.hosted.get();
        if left == 0 {
            seldom();
            return Hosted::Nothing;
        }
        let Some(head) = self.ready.head.get() else {
            seldom();
            return Hosted::Nothing;
        };
        if std::ptr::eq(head.as_ptr(), own) {
            self.take_hosted(own, left);
            return Hosted::Own;
        }
        // SAFETY: it is the first of the queue, and cells outlive the queue.
        let next = unsafe { &*head.as_ptr() };
        self.take_hosted(next, left);
        Hosted::Other(next)
    }

    #[inline(always)]
    fn take_hosted(&self, head: &FiberCell, left: u32) {
        self.hosted.set(left - 1);
        // What the cell says need not be waited for if it says nothing: mostly it is the only one.
        let only = self.ready.tail.get().is_some_and(|tail| std::ptr::eq(tail.as_ptr(), head));
        let rest = if only {
            None
        } else {
            seldom();
            NonNull::new(head.next.get().cast_mut())
        };
        self.ready.head.set(rest);
    }
}

/// Where this is called the compiler keeps the way clear for the other case: what is done at every hand-over then lies in
/// one piece, which is worth more than any of its instructions.
#[cold]
#[inline]
pub(crate) const fn seldom() {}

/// What a parked fiber may run.
pub(super) enum Hosted<'a> {
    /// Nothing: it gives the thread back.
    Nothing,
    /// It is its own turn.
    Own,
    Other(&'a FiberCell),
}

/// A first-in, first-out queue through the cells themselves. A cell is in at most one.
#[derive(Default)]
pub(crate) struct Queue {
    head: Cell<Option<NonNull<FiberCell>>>,
    /// The last cell; stale while there is none.
    tail: Cell<Option<NonNull<FiberCell>>>,
}

impl Queue {
    #[inline(always)]
    pub(super) fn push(&self, cell: &FiberCell) {
        let pointer = NonNull::from(cell);
        cell.next.set(std::ptr::null());
        if self.head.get().is_none() {
            self.head.set(Some(pointer));
        } else {
            // SAFETY: a queue that is not empty has a last cell, and `push` has written which.
            let last = unsafe { self.tail.get().unwrap_unchecked() };
            // SAFETY: cells outlive the queue.
            unsafe { last.as_ref() }.next.set(pointer.as_ptr());
        }
        self.tail.set(Some(pointer));
    }

    #[inline(always)]
    pub(super) fn pop(&self) -> Option<NonNull<FiberCell>> {
        let cell = self.head.get()?;
        // SAFETY: as above.
        self.head.set(NonNull::new(unsafe { cell.as_ref() }.next.get().cast_mut()));
        Some(cell)
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.head.get().is_none()
    }

    fn len(&self) -> usize {
        let mut len = 0;
        let mut next = self.head.get();
        while let Some(cell) = next {
            len += 1;
            // SAFETY: as above.
            next = NonNull::new(unsafe { cell.as_ref() }.next.get().cast_mut());
        }
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices<'a>(next: impl FnMut() -> Option<&'a FiberCell>) -> Vec<u32> {
        std::iter::from_fn(next).map(|cell| cell.index).collect()
    }

    #[test]
    fn queues_are_first_in_first_out_whatever_was_in_them_before() {
        let cells: Vec<_> = (0..4).map(FiberCell::new).collect();
        let (queue, other) = (Queue::default(), Queue::default());
        // SAFETY: the cells live to the end.
        let pop = |queue: &Queue| queue.pop().map(|cell| unsafe { &*cell.as_ptr() });
        for round in 0..3 {
            for cell in &cells[round..] {
                queue.push(cell);
            }
            assert_eq!(queue.len(), 4 - round);
            let first = pop(&queue).expect("it has some");
            other.push(first);
            queue.push(&cells[0]);
            if round == 0 {
                assert_eq!(indices(|| pop(&queue)), [1, 2, 3, 0]);
            } else {
                assert_eq!(indices(|| pop(&queue)).len(), 4 - round);
            }
            assert_eq!(indices(|| pop(&other)), [round as u32]);
            assert!(queue.is_empty() && other.is_empty());
        }
    }

    #[test]
    fn a_parked_fiber_runs_the_others_in_order_and_within_the_budget() {
        let cells: Vec<_> = (0..4).map(FiberCell::new).collect();
        let hot = Hot::default();
        let hosted = |own| match hot.next_hosted(own) {
            Hosted::Nothing => None,
            Hosted::Own => Some((true, own.index)),
            Hosted::Other(other) => Some((false, other.index)),
        };
        cells[1..].iter().for_each(|cell| hot.ready.push(cell));
        hot.budget.set(3);
        assert_eq!(hosted(&cells[0]), None, "not before it is allowed");
        hot.allow_hosting();
        assert_eq!(hosted(&cells[0]), Some((false, 1)));
        hot.ready.push(&cells[0]);
        assert_eq!(hosted(&cells[0]), Some((false, 2)));
        assert_eq!(hosted(&cells[0]), Some((false, 3)));
        assert_eq!(hosted(&cells[0]), None, "the budget is used up");
        hot.end_hosting();
        assert_eq!(hot.budget.get(), 0);
        hot.budget.set(5);
        hot.allow_hosting();
        assert_eq!(hosted(&cells[0]), Some((true, 0)));
        assert_eq!(hosted(&cells[0]), None, "nobody is left");
        hot.end_hosting();
        assert_eq!(hot.budget.get(), 4);
        hot.ready_io.push(&cells[2]);
        hot.ready.push(&cells[1]);
        hot.allow_hosting();
        assert_eq!(hosted(&cells[0]), None, "completions are the loop's business");
        assert_eq!((hot.ready_count(), hot.is_idle()), (2, false));
    }
}
