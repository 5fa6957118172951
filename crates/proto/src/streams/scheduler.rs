//! Which stream sends next: by priority, and in turns among equals.

use std::collections::VecDeque;

use super::limits::QUANTUM;

/// Streams that have something to send, by slab index.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    /// Highest priority first. There are few levels, usually one, and empty ones are kept: their queues' memory is reused.
    levels: Vec<(i32, VecDeque<u32>)>,
    queued: usize,
    /// Bytes that the stream at the front may still send in its turn.
    turn_left: i64,
}

impl Scheduler {
    /// Adds a stream that is not queued.
    #[inline]
    pub(super) fn push(&mut self, index: u32, priority: i32) {
        self.queued += 1;
        if let Some((level, queue)) = self.levels.first_mut()
            && *level == priority
        {
            queue.push_back(index);
            return;
        }
        let at = self.levels.partition_point(|(level, _)| *level > priority);
        match self.levels.get_mut(at) {
            Some((level, queue)) if *level == priority => queue.push_back(index),
            _ => {
                self.levels.retain(|(_, queue)| !queue.is_empty());
                let at = self.levels.partition_point(|(level, _)| *level > priority);
                self.levels.insert(at, (priority, VecDeque::from([index])));
            }
        }
    }

    /// Gives back what empty levels hold.
    pub(super) fn shrink(&mut self) {
        self.levels.retain(|(_, queue)| !queue.is_empty());
        self.levels.shrink_to_fit();
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// The stream whose turn it is.
    #[inline]
    pub(super) fn front(&self) -> Option<u32> {
        if self.queued == 0 {
            return None;
        }
        self.levels.iter().find_map(|(_, queue)| queue.front().copied())
    }

    fn front_queue(&mut self) -> Option<&mut VecDeque<u32>> {
        self.levels.iter_mut().map(|(_, queue)| queue).find(|queue| !queue.is_empty())
    }

    /// The stream at the front has nothing more to send.
    #[inline]
    pub(super) fn pop(&mut self) {
        if self.front_queue().and_then(VecDeque::pop_front).is_some() {
            self.queued -= 1;
        }
        self.turn_left = QUANTUM;
    }

    /// The stream at the front sent `bytes` and has more: its turn may be over.
    #[inline]
    pub(super) fn spend(&mut self, bytes: usize) {
        self.turn_left -= bytes as i64;
        if self.turn_left <= 0 {
            self.turn_left = QUANTUM;
            if let Some(queue) = self.front_queue() {
                queue.rotate_left(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_take_turns_and_the_urgent_go_first() {
        let mut s = Scheduler::default();
        s.push(1, 0);
        s.push(2, 0);
        s.push(3, 5);
        assert_eq!(s.front(), Some(3));
        s.pop();
        s.turn_left = QUANTUM;
        assert_eq!(s.front(), Some(1));
        s.spend(1000);
        assert_eq!(s.front(), Some(1), "keeps its turn for a quantum");
        s.spend(QUANTUM as usize);
        assert_eq!(s.front(), Some(2));
        s.pop();
        s.pop();
        assert!(s.is_empty() && s.front().is_none());
    }
}
