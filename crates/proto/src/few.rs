//! A queue that most often has one element, or none.

use std::collections::VecDeque;

use warpline_frame::prefetch_line;

/// First in, first out. An element that is alone lies in place, so that no memory elsewhere is needed, or touched, for it.
#[derive(Debug)]
pub(crate) struct Few<T> {
    /// The only element; with more, or after more until all have gone, they are in `several`.
    one: Option<T>,
    several: VecDeque<T>,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { one: None, several: VecDeque::new() }
    }
}

impl<T> Few<T> {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.one.is_none() && self.several.is_empty()
    }

    #[inline]
    pub(crate) fn push_back(&mut self, value: T) {
        if self.one.is_some() {
            self.make_several();
        } else if self.several.is_empty() {
            self.one = Some(value);
            return;
        }
        self.several.push_back(value);
    }

    /// The only element is about to be one of several.
    #[cold]
    fn make_several(&mut self) {
        self.several.extend(self.one.take());
    }

    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        self.one.take().or_else(|| self.several.pop_front())
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<&T> {
        self.one.as_ref().or_else(|| self.several.front())
    }

    /// Whether there is memory for more than one element.
    #[inline]
    pub(crate) fn holds_ring(&self) -> bool {
        self.several.capacity() > 0
    }

    /// Gives back memory that is not needed now.
    pub(crate) fn shrink(&mut self) {
        self.several.shrink_to_fit();
    }

    /// Has the first of several elements brought into the caches.
    #[inline]
    pub(crate) fn prefetch(&self) {
        if let Some(first) = self.several.front() {
            prefetch_line(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_out_in_their_order() {
        let (mut few, mut expected) = (Few::default(), VecDeque::new());
        let mut rng = crate::rng::Rng::new([7; 32]);
        for number in 0..10_000 {
            if rng.below(3) == 0 || expected.len() > 5 {
                assert_eq!(few.pop_front(), expected.pop_front());
            } else {
                few.push_back(number);
                expected.push_back(number);
            }
            assert_eq!((few.front(), few.is_empty()), (expected.front(), expected.is_empty()));
        }
    }

    #[test]
    fn one_at_a_time_needs_no_memory() {
        let mut few = Few::default();
        for number in 0..10 {
            few.push_back(number);
            assert_eq!(few.front(), Some(&number));
            assert_eq!(few.pop_front(), Some(number));
        }
        assert_eq!(few.several.capacity(), 0);
    }
}
