//! A hash table that grows and shrinks a little with each change.
//!
//! A table that is full usually moves all its entries to one twice as large at once. With the IDs of 115,000 connections these are
//! half a million entries and 9 ms in which the worker does nothing else. Here the entries of the old table follow
//! in steps of [`PLACES_A_STEP`] places, one with each insertion and removal, and look-ups try both tables until all have moved. A table that is
//! mostly empty moves to a smaller one in the same way, so memory is given back once most connections have gone.
//!
//! Entries lie in one array, each as near behind its place by hash as there is room, so that a look-up touches one cache line most
//! often, known before anything is read: it can be [asked for](Gradual::prefetch) ahead of time. The hash is keyed, so nobody
//! can choose keys that gather in one place.

use core::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use warpline_frame::prefetch_line;

use super::ConnectionHandle;

/// Places of the old table that are moved with a change. With 32 all have moved after a twentieth as many insertions as there are
/// entries, long before a table twice as large is full; and one a quarter as large, half full by then, takes them just so.
const PLACES_A_STEP: usize = 32;

/// Places of the smallest table.
const PLACES_MIN: usize = 16;

/// Eighths of a table that are used at most: most entries are on the line they are looked for on, and an entry takes
/// 26 to 51 bytes for each 16 of its own.
const FULL: usize = 5;

/// A table with this many places for each entry moves to one with a quarter as many: half full, so that it has to lose or gain
/// a good part of its entries before it moves again.
const SPARSE: usize = 8;

/// An entry: key, the handle's index and one, its generation. All zeros where there is none, so that an empty table is memory as
/// the system gives it, and costs nothing to make.
type Place<K> = (K, u32, u32);

/// In a table that is being left: there was an entry, and those that made way for it may lie behind.
const GONE: u32 = u32::MAX;

/// Handles by key.
#[derive(Debug)]
pub(super) struct Gradual<K> {
    hasher: FixedState,
    now: Table<K>,
    /// Entries that have not moved yet.
    old: Table<K>,
    /// Places of the old table below this are empty.
    moved: usize,
}

#[derive(Debug)]
struct Table<K> {
    /// A power of two of them, or none.
    places: Vec<Place<K>>,
    len: usize,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { places: Vec::new(), len: 0 }
    }
}

impl<K: Copy + Default + Eq> Table<K> {
    fn new(places: usize) -> Self {
        Self { places: vec![(K::default(), 0, 0); places], len: 0 }
    }

    /// Where an entry with this hash is looked for first.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        // Its highest bits.
        ((u128::from(hash) * self.places.len() as u128) >> 64) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.places.len() - 1)
    }

    /// The place of the key's entry.
    #[inline]
    fn find(&self, hash: u64, key: &K) -> Option<usize> {
        let mut at = self.home(hash);
        // There is an empty place always.
        loop {
            let (known, index, _) = self.places.get(at)?;
            if *index == 0 {
                return None;
            }
            if known == key && *index != GONE {
                return Some(at);
            }
            at = self.after(at);
        }
    }

    #[inline]
    fn handle(&self, at: usize) -> ConnectionHandle {
        let (_, index, generation) = self.places[at];
        ConnectionHandle { index: index - 1, generation }
    }

    fn put(&mut self, hash: u64, entry: Place<K>) {
        let mut at = self.home(hash);
        while self.places[at].1 != 0 {
            at = self.after(at);
        }
        self.places[at] = entry;
        self.len += 1;
    }

    /// Empties a place, and has those behind it move up that would not be found any more.
    fn take(&mut self, at: usize, hash: impl Fn(&K) -> u64) {
        let mask = self.places.len() - 1;
        let (mut hole, mut next) = (at, self.after(at));
        while self.places[next].1 != 0 {
            let home = self.home(hash(&self.places[next].0));
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(hole) & mask {
                self.places[hole] = self.places[next];
                hole = next;
            }
            next = self.after(next);
        }
        self.places[hole] = (K::default(), 0, 0);
        self.len -= 1;
    }
}

impl<K: Copy + Default + Eq + Hash> Gradual<K> {
    /// An empty table whose hash is keyed by `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self { hasher: FixedState::with_seed(seed), now: Table::default(), old: Table::default(), moved: 0 }
    }

    #[inline]
    pub(super) fn get(&self, key: &K) -> Option<ConnectionHandle> {
        let hash = self.hasher.hash_one(key);
        match self.now.find(hash, key) {
            Some(at) => Some(self.now.handle(at)),
            None => self.old.find(hash, key).map(|at| self.old.handle(at)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.now.len + self.old.len
    }

    /// Has the place where the key is looked for first brought into the caches.
    #[inline]
    pub(super) fn prefetch(&self, key: &K) {
        if let Some(place) = self.now.places.get(self.now.home(self.hasher.hash_one(key))) {
            prefetch_line(place);
        }
    }

    /// Enters a handle; false, and nothing has changed, if the key is taken.
    pub(super) fn insert_new(&mut self, key: K, handle: ConnectionHandle) -> bool {
        if self.get(&key).is_some() {
            return false;
        }
        if (self.now.len + 1) * 8 > self.now.places.len() * FULL {
            self.leave_for((self.now.places.len() * 2).max(PLACES_MIN));
        }
        self.step();
        self.now.put(self.hasher.hash_one(key), (key, handle.index + 1, handle.generation));
        true
    }

    /// Enters a handle, in place of the key's former one.
    pub(super) fn insert(&mut self, key: K, handle: ConnectionHandle) {
        self.remove(&key);
        self.insert_new(key, handle);
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<ConnectionHandle> {
        let hash = self.hasher.hash_one(key);
        let removed = if let Some(at) = self.now.find(hash, key) {
            let handle = self.now.handle(at);
            self.now.take(at, |key| self.hasher.hash_one(key));
            handle
        } else {
            let at = self.old.find(hash, key)?;
            let handle = self.old.handle(at);
            self.old.places[at].1 = GONE;
            self.old.len -= 1;
            handle
        };
        self.step();
        let places = self.now.places.len();
        if self.old.places.is_empty() && places > PLACES_MIN && self.now.len * SPARSE < places {
            self.leave_for((places / 4).max(PLACES_MIN));
        }
        Some(removed)
    }

    /// Removes all entries with this handle. Looks at every one.
    pub(super) fn remove_handle(&mut self, handle: ConnectionHandle) {
        let entries = self.now.places.iter().chain(&self.old.places);
        let of_it = |(_, index, generation): &&Place<K>| *index == handle.index + 1 && *generation == handle.generation;
        let keys: Vec<K> = entries.filter(of_it).map(|(key, ..)| *key).collect();
        for key in keys {
            self.remove(&key);
        }
    }

    /// From now on entries go to a table with so many places.
    #[cold]
    fn leave_for(&mut self, places: usize) {
        // By the size of the steps there is nothing left in it, or a step's entries.
        while !self.old.places.is_empty() {
            self.step();
        }
        self.old = std::mem::replace(&mut self.now, Table::new(places));
        self.moved = 0;
        if self.old.len == 0 {
            self.old = Table::default();
        }
    }

    /// Moves some entries of the old table.
    #[inline]
    fn step(&mut self) {
        if !self.old.places.is_empty() {
            self.move_some();
        }
    }

    fn move_some(&mut self) {
        let until = (self.moved + PLACES_A_STEP).min(self.old.places.len());
        for at in self.moved..until {
            let entry @ (key, index, _) = self.old.places[at];
            if index != 0 && index != GONE {
                self.old.places[at].1 = GONE;
                self.old.len -= 1;
                self.now.put(self.hasher.hash_one(key), entry);
            }
        }
        self.moved = until;
        if until == self.old.places.len() {
            self.old = Table::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hashbrown::HashMap;
    use std::cell::Cell;
    use std::hash::Hasher;

    thread_local! {
        static HASHED: Cell<usize> = const { Cell::new(0) };
    }

    /// A key that counts how often it is hashed: each time that its entry moves, among others.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    struct Counted(u64);

    impl Hash for Counted {
        fn hash<H: Hasher>(&self, state: &mut H) {
            HASHED.set(HASHED.get() + 1);
            self.0.hash(state);
        }
    }

    fn hashed<R>(operation: impl FnOnce() -> R) -> usize {
        HASHED.set(0);
        operation();
        HASHED.get()
    }

    fn handle(index: u64) -> ConnectionHandle {
        ConnectionHandle { index: index as u32, generation: 7 }
    }

    fn places<K>(table: &Gradual<K>) -> usize {
        table.now.places.len() + table.old.places.len()
    }

    /// The IDs of 115,000 connections: as many as make a usual table move all of half a million.
    const ENTRIES: u64 = 460_000;

    /// Keys hashed by one insertion or removal at most: a step's, the key itself a few times, and those behind a removed one.
    const HASHED_MAX: usize = PLACES_A_STEP + 100;

    #[test]
    fn no_insertion_and_no_removal_moves_many_entries() {
        let mut table = Gradual::new(7);
        let most = (0..ENTRIES).map(|key| hashed(|| assert!(table.insert_new(Counted(key), handle(key))))).max();
        assert!(most.is_some_and(|most| (PLACES_A_STEP / 2..HASHED_MAX).contains(&most)), "{most:?} at once");
        let remove = |key| hashed(|| assert_eq!(table.remove(&Counted(key)), Some(handle(key))));
        let most = (0..ENTRIES).map(remove).max();
        assert!(most.is_some_and(|most| (2..HASHED_MAX).contains(&most)), "{most:?} at once");
    }

    #[test]
    fn a_usual_table_moves_everything_at_once() {
        // What the test above would find of it.
        let mut table = HashMap::with_hasher(FixedState::with_seed(7));
        let most = (0..ENTRIES).map(|key| hashed(|| table.insert(Counted(key), ())));
        assert_eq!(most.max(), Some(458_752 + 1));
    }

    #[test]
    fn memory_is_given_back_when_most_is_gone() {
        let mut table = Gradual::new(7);
        (0..ENTRIES).for_each(|key| assert!(table.insert_new(key, handle(key))));
        let full = places(&table);
        (100..ENTRIES).for_each(|key| assert_eq!(table.remove(&key), Some(handle(key))));
        assert!(places(&table) * 100 < full, "{} places of {full}", places(&table));
        assert!((0..100).all(|key| table.get(&key) == Some(handle(key))), "what is left is found");
        assert!((100..200).all(|key| table.get(&key).is_none()));
        (0..100).for_each(|key| assert_eq!(table.remove(&key), Some(handle(key))));
        assert!(places(&table) <= 2 * PLACES_MIN);
    }

    #[test]
    fn going_up_and_down_at_a_bound_moves_little() {
        let mut table = Gradual::new(7);
        for bound in [10_241, 40_961] {
            // One more than a table of 2^14, or 2^16, takes.
            (0..bound).for_each(|key| table.insert(Counted(key), handle(key)));
            let up_and_down = |_| {
                let down =
                    hashed(|| (bound - 300..bound).for_each(|key| assert!(table.remove(&Counted(key)).is_some())));
                down + hashed(|| {
                    (bound - 300..bound).for_each(|key| assert!(table.insert_new(Counted(key), handle(key))))
                })
            };
            let sum: usize = (0..40).map(up_and_down).sum();
            // The entries move once more, at most; the rest is what each change hashes anyway.
            assert!(sum < 40 * 600 * 6 + bound as usize, "{sum} keys hashed");
        }
    }

    #[test]
    fn it_holds_what_a_map_holds() {
        let (mut table, mut map) = (Gradual::new(1), HashMap::with_hasher(FixedState::with_seed(2)));
        let mut rng = crate::rng::Rng::new([3; 32]);
        // Tides: mostly insertions, then mostly removals, of keys that come again.
        for round in 0..300_000u32 {
            let key = rng.u64() % 20_000;
            let rises = (round / 30_000).is_multiple_of(2);
            if rng.u64().is_multiple_of(4) != rises {
                let is_new = table.insert_new(key, handle(u64::from(round)));
                assert_eq!(is_new, !map.contains_key(&key));
                map.entry(key).or_insert(handle(u64::from(round)));
            } else {
                assert_eq!(table.remove(&key), map.remove(&key), "key {key} in round {round}");
            }
            let other = rng.u64() % 20_000;
            assert_eq!(table.get(&other), map.get(&other).copied(), "key {other} in round {round}");
            assert_eq!(table.now.len + table.old.len, map.len());
        }
        assert!((0..20_000).all(|key| table.get(&key) == map.get(&key).copied()));
    }

    #[test]
    fn all_keys_of_a_handle_go_with_it() {
        let mut table = Gradual::new(1);
        (0..30_000).for_each(|key| assert!(table.insert_new(key, handle(key / 3))));
        table.remove_handle(handle(5_000));
        assert!((0..30_000).all(|key| table.get(&key).is_some() == (key / 3 != 5_000)));
    }
}
