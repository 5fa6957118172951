//! A map of bounded size that forgets what was used longest ago.

use std::borrow::Borrow;
use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

const NONE: u32 = u32::MAX;

struct Entry<K, V> {
    key: K,
    value: V,
    newer: u32,
    older: u32,
}

/// Entries in the order of their last use. Every operation takes constant time.
pub(crate) struct Lru<K, V> {
    by_key: HashMap<K, u32, RandomState>,
    slab: Vec<Option<Entry<K, V>>>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
}

impl<K: Eq + Hash + Clone, V> Lru<K, V> {
    pub(crate) fn new() -> Self {
        Self { by_key: HashMap::default(), slab: Vec::new(), free: Vec::new(), newest: NONE, oldest: NONE }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The value of `key`, which becomes the newest.
    pub(crate) fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let index = *self.by_key.get(key)?;
        self.unlink(index);
        self.link_newest(index);
        self.slab[index as usize].as_mut().map(|e| &mut e.value)
    }

    /// The value of `key`, which keeps its place.
    pub(crate) fn peek<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let index = *self.by_key.get(key)?;
        self.slab[index as usize].as_ref().map(|e| &e.value)
    }

    /// Puts `value` in as the newest; returns what `key` had before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let before = self.remove(&key);
        let entry = Some(Entry { key: key.clone(), value, newer: NONE, older: NONE });
        let index = match self.free.pop() {
            Some(index) => {
                self.slab[index as usize] = entry;
                index
            }
            None => {
                self.slab.push(entry);
                (self.slab.len() - 1) as u32
            }
        };
        self.by_key.insert(key, index);
        self.link_newest(index);
        before
    }

    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let index = self.by_key.remove(key)?;
        self.unlink(index);
        self.free.push(index);
        self.slab[index as usize].take().map(|e| e.value)
    }

    /// Takes out what was used longest ago.
    pub(crate) fn pop_oldest(&mut self) -> Option<(K, V)> {
        let index = self.oldest;
        let key = self.slab.get(index as usize)?.as_ref()?.key.clone();
        let value = self.remove(&key)?;
        Some((key, value))
    }

    /// Entries, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut at = self.oldest;
        std::iter::from_fn(move || {
            let entry = self.slab.get(at as usize)?.as_ref()?;
            at = entry.newer;
            Some((&entry.key, &entry.value))
        })
    }

    /// All there is, oldest first.
    pub(crate) fn into_entries(mut self) -> impl Iterator<Item = (K, V)> {
        std::iter::from_fn(move || self.pop_oldest())
    }

    fn unlink(&mut self, index: u32) {
        let Some(entry) = self.slab[index as usize].as_ref() else { return };
        let (newer, older) = (entry.newer, entry.older);
        match self.slab.get_mut(newer as usize).and_then(Option::as_mut) {
            Some(e) => e.older = older,
            None => self.newest = older,
        }
        match self.slab.get_mut(older as usize).and_then(Option::as_mut) {
            Some(e) => e.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, index: u32) {
        let before = self.newest;
        if let Some(entry) = self.slab[index as usize].as_mut() {
            entry.newer = NONE;
            entry.older = before;
        }
        match self.slab.get_mut(before as usize).and_then(Option::as_mut) {
            Some(e) => e.newer = index,
            None => self.oldest = index,
        }
        self.newest = index;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(lru: &Lru<u32, char>) -> Vec<u32> {
        lru.iter().map(|(k, _)| *k).collect()
    }

    #[test]
    fn use_makes_new_and_the_oldest_goes_first() {
        let mut lru = Lru::new();
        for (key, value) in [(1, 'a'), (2, 'b'), (3, 'c')] {
            assert_eq!(lru.insert(key, value), None);
        }
        assert_eq!(lru.get_mut(&1), Some(&mut 'a'));
        assert_eq!(order(&lru), [2, 3, 1]);
        assert_eq!(lru.insert(3, 'C'), Some('c'));
        assert_eq!(lru.peek(&2), Some(&'b'), "looking changes nothing");
        assert_eq!(order(&lru), [2, 1, 3]);
        assert_eq!(lru.pop_oldest(), Some((2, 'b')));
        assert_eq!(lru.remove(&3), Some('C'));
        assert_eq!(lru.remove(&3), None);
        assert_eq!(lru.insert(4, 'd'), None);
        assert_eq!(order(&lru), [1, 4]);
        assert_eq!((lru.pop_oldest(), lru.pop_oldest(), lru.pop_oldest()), (Some((1, 'a')), Some((4, 'd')), None));
        assert_eq!((lru.len(), lru.insert(5, 'e')), (0, None));
        assert_eq!(order(&lru), [5]);
    }
}
