//! A hierarchical timing wheel over entries that are linked by their numbers.
//!
//! Six levels of 64 slots; a slot of level `n` spans 64^n ticks. An entry lies on the level of the highest digit (base 64)
//! in which its tick differs from the current one, so it moves down a level each time the wheel reaches its slot: at
//! most five times in its life. A word of bits per level says which slots have entries, so empty ones cost nothing. See
//! Varghese and Lauck, "Hashed and hierarchical timing wheels" (1987), scheme 7.

const LEVELS: usize = 6;
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
/// Ticks that the wheel spans: at 131 µs each, 104 days. What is further off waits in the last slots and is sorted again.
const SPAN: u64 = 1 << (BITS * LEVELS as u32);

/// The end of a list.
pub(super) const NIL: u32 = u32::MAX;

/// Where an entry is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) prev: u32,
    pub(super) next: u32,
    /// The list's number: level and slot, or [`DUE`].
    pub(super) list: u16,
}

/// The list of entries that are due.
pub(super) const DUE: u16 = (LEVELS * SLOTS) as u16;

/// The entries, as the wheel sees them.
pub(super) trait Entries {
    fn link(&mut self, entry: u32) -> &mut Link;
    fn tick(&self, entry: u32) -> u64;
}

#[derive(Debug)]
pub(super) struct Wheel {
    /// The tick up to which entries were found due.
    elapsed: u64,
    occupied: [u64; LEVELS],
    heads: [u32; LEVELS * SLOTS + 1],
    /// The last entry that is due: they fire in the order in which they came up.
    due_tail: u32,
}

impl Default for Wheel {
    fn default() -> Wheel {
        Wheel { elapsed: 0, occupied: [0; LEVELS], heads: [NIL; LEVELS * SLOTS + 1], due_tail: NIL }
    }
}

impl Wheel {
    /// Puts an entry where its tick says.
    pub(super) fn insert(&mut self, entries: &mut impl Entries, entry: u32) {
        let tick = entries.tick(entry);
        if tick <= self.elapsed {
            self.append_due(entries, entry);
            return;
        }
        // An entry beyond the span lies in the last slot that the wheel will come to: the one before the current.
        let tick = tick.min(self.elapsed + SPAN - SPAN / SLOTS as u64);
        let differing = (self.elapsed ^ tick) | (SLOTS as u64 - 1);
        let level = (((63 - differing.leading_zeros()) / BITS) as usize).min(LEVELS - 1);
        let slot = (tick >> (BITS * level as u32)) as usize % SLOTS;
        let list = level * SLOTS + slot;
        let head = self.heads[list];
        *entries.link(entry) = Link { prev: NIL, next: head, list: list as u16 };
        if head != NIL {
            entries.link(head).prev = entry;
        }
        self.heads[list] = entry;
        self.occupied[level] |= 1 << slot;
    }

    fn append_due(&mut self, entries: &mut impl Entries, entry: u32) {
        *entries.link(entry) = Link { prev: self.due_tail, next: NIL, list: DUE };
        match self.due_tail {
            NIL => self.heads[DUE as usize] = entry,
            tail => entries.link(tail).next = entry,
        }
        self.due_tail = entry;
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, entries: &mut impl Entries, entry: u32) {
        let Link { prev, next, list } = *entries.link(entry);
        match prev {
            NIL => self.heads[list as usize] = next,
            prev => entries.link(prev).next = next,
        }
        match next {
            NIL if list == DUE => self.due_tail = prev,
            NIL => {}
            next => entries.link(next).prev = prev,
        }
        if list != DUE && self.heads[list as usize] == NIL {
            self.occupied[list as usize / SLOTS] &= !(1 << (list as usize % SLOTS));
        }
    }

    /// Finds what is due at `tick`; [`pop_due`](Self::pop_due) hands it out.
    pub(super) fn advance(&mut self, entries: &mut impl Entries, tick: u64) {
        while let Some((list, at)) = self.next_slot() {
            if at > tick {
                break;
            }
            self.elapsed = at;
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
            let mut entry = std::mem::replace(&mut self.heads[list], NIL);
            while entry != NIL {
                let next = entries.link(entry).next;
                self.insert(entries, entry);
                entry = next;
            }
        }
        self.elapsed = self.elapsed.max(tick);
    }

    pub(super) fn pop_due(&mut self, entries: &mut impl Entries) -> Option<u32> {
        let entry = self.heads[DUE as usize];
        if entry == NIL {
            return None;
        }
        self.remove(entries, entry);
        Some(entry)
    }

    /// The tick at which something is due or has to be sorted again.
    pub(super) fn next_tick(&self) -> Option<u64> {
        if self.heads[DUE as usize] != NIL {
            return Some(self.elapsed);
        }
        self.next_slot().map(|(_, at)| at)
    }

    /// The next list with entries, and the tick at which the wheel comes to it. The lowest level that has any has the
    /// first: its slots all come before the current slot of the next level is over.
    fn next_slot(&self) -> Option<(usize, u64)> {
        (0..LEVELS).find_map(|level| {
            let occupied = self.occupied[level];
            if occupied == 0 {
                return None;
            }
            let shift = BITS * level as u32;
            let current = (self.elapsed >> shift) as u32 % SLOTS as u32;
            let ahead = occupied.rotate_right(current).trailing_zeros();
            let slot = (current + ahead) as usize % SLOTS;
            let range = 1u64 << (shift + BITS);
            let mut at = (self.elapsed & !(range - 1)) + ((slot as u64) << shift);
            if at < self.elapsed {
                at += range;
            }
            Some((level * SLOTS + slot, at))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Plain(Vec<(Link, u64)>);

    impl Entries for Plain {
        fn link(&mut self, entry: u32) -> &mut Link {
            &mut self.0[entry as usize].0
        }

        fn tick(&self, entry: u32) -> u64 {
            self.0[entry as usize].1
        }
    }

    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *state >> 20
    }

    /// Against a sorted list: nothing early, nothing late by more than the step, nothing lost, for ticks of every size.
    #[test]
    fn entries_come_up_exactly_when_they_are_due() {
        let (seeds, steps) = if cfg!(miri) { (1..2, 50) } else { (1..40, 400) };
        for seed in seeds {
            let mut state = seed;
            let (mut wheel, mut plain, mut now) = (Wheel::default(), Plain::default(), 0u64);
            let mut waiting = std::collections::BTreeSet::new();
            for _ in 0..steps {
                for _ in 0..random(&mut state) % 8 {
                    let bits = random(&mut state) % 40;
                    let tick = now + random(&mut state) % (1 << bits);
                    let entry = plain.0.len() as u32;
                    plain.0.push((Link { prev: NIL, next: NIL, list: DUE }, tick));
                    wheel.insert(&mut plain, entry);
                    waiting.insert((tick, entry));
                }
                if random(&mut state).is_multiple_of(4)
                    && let Some(&(tick, entry)) = waiting.iter().nth(waiting.len() / 2)
                {
                    waiting.remove(&(tick, entry));
                    wheel.remove(&mut plain, entry);
                }
                let first = waiting.first().map(|&(tick, _)| tick);
                assert!(wheel.next_tick().is_some() == first.is_some());
                if let (Some(told), Some(first)) = (wheel.next_tick(), first) {
                    assert!(told <= first.max(now), "told {told}, first {first}, now {now}");
                }
                let bits = random(&mut state) % 38;
                now += random(&mut state) % (1 << bits);
                wheel.advance(&mut plain, now);
                while let Some(entry) = wheel.pop_due(&mut plain) {
                    let tick = plain.0[entry as usize].1;
                    assert!(tick <= now, "early");
                    assert!(waiting.remove(&(tick, entry)), "twice");
                }
                assert!(waiting.first().is_none_or(|&(tick, _)| tick > now), "late: seed {seed}");
            }
        }
    }
}
