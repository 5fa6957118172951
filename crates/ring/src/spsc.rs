//! A bounded ring from one thread to one other.
//!
//! Two positions that only grow (modulo the word): `tail`, written by the producer alone, counts what was pushed;
//! `head`, written by the consumer alone, counts what was taken. Slot `i` belongs to the consumer while
//! `head <= i < tail` and to the producer otherwise.
//!
//! Memory order: the producer writes a slot and then stores `tail` with release; the consumer loads `tail` with acquire
//! before it reads the slot. The consumer reads a slot and then stores `head` with release; the producer loads `head`
//! with acquire before it writes that slot again. Each side keeps the other's position from its last look and looks
//! again only when by that the ring seems full or empty, so that a busy ring moves a cache line per batch rather than
//! per item.

use std::fmt;
use std::mem::MaybeUninit;

use crate::pad::CachePadded;
use crate::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};

/// Makes a ring with room for at least `capacity` items (rounded up to a power of two).
///
/// # Panics
/// If `capacity` is 0 or above 2^31.
pub fn channel<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!((1..=1 << 31).contains(&capacity), "a ring holds 1 to 2^31 items");
    let slots = (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let shared =
        Arc::new(Shared { head: CachePadded(AtomicUsize::new(0)), tail: CachePadded(AtomicUsize::new(0)), slots });
    let producer = Producer { shared: shared.clone(), tail: 0, head_seen: 0 };
    (producer, Consumer { shared, head: 0, tail_seen: 0 })
}

/// What was not pushed because the ring is full.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ring is full")]
pub struct Full<T>(pub T);

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

struct Shared<T> {
    head: CachePadded<AtomicUsize>,
    tail: CachePadded<AtomicUsize>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: the two positions hand each slot to one side at a time (see the module), so items only move between threads.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    #[inline]
    fn slot(&self, position: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[position & (self.slots.len() - 1)]
    }

    /// Moves the item at `position` out.
    ///
    /// # Safety
    /// The slot holds an item, belongs to the caller, and is not read again before the next write.
    #[inline]
    unsafe fn read(&self, position: usize) -> T {
        // SAFETY: the caller's promise.
        self.slot(position).with(|slot| unsafe { slot.cast::<T>().read() })
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let tail = self.tail.load(Ordering::Relaxed);
        let mut head = self.head.load(Ordering::Relaxed);
        while head != tail {
            // SAFETY: both sides are gone, and slots from head to tail hold items.
            drop(unsafe { self.read(head) });
            head = head.wrapping_add(1);
        }
    }
}

/// The sending side.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
    head_seen: usize,
}

impl<T: Send> Producer<T> {
    /// How many items the ring holds at most.
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// Appends an item, or gives it back if the ring is full.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), Full<T>> {
        if self.room() == 0 {
            return Err(Full(item));
        }
        self.write(self.tail, item);
        self.publish(self.tail.wrapping_add(1));
        Ok(())
    }

    /// Appends items while there is room and publishes them at once; returns how many. Takes no item from the iterator
    /// that does not fit. Should the iterator panic, the items of this call are leaked.
    pub fn push_batch(&mut self, items: &mut impl Iterator<Item = T>) -> usize {
        let room = self.room();
        let mut pushed = 0;
        for item in items.take(room) {
            self.write(self.tail.wrapping_add(pushed), item);
            pushed += 1;
        }
        if pushed > 0 {
            self.publish(self.tail.wrapping_add(pushed));
        }
        pushed
    }

    /// Free slots; looks at the consumer's position only if none are known to be free.
    #[inline]
    fn room(&mut self) -> usize {
        if self.tail.wrapping_sub(self.head_seen) == self.capacity() {
            self.head_seen = self.shared.head.load(Ordering::Acquire);
        }
        self.capacity() - self.tail.wrapping_sub(self.head_seen)
    }

    #[inline]
    fn write(&self, position: usize, item: T) {
        // SAFETY: the callers stay within `room`, so the slot is the producer's.
        self.shared.slot(position).with_mut(|slot| unsafe { slot.cast::<T>().write(item) });
    }

    #[inline]
    fn publish(&mut self, tail: usize) {
        self.tail = tail;
        self.shared.tail.store(tail, Ordering::Release);
    }
}

/// The receiving side.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    head: usize,
    tail_seen: usize,
}

impl<T: Send> Consumer<T> {
    /// Takes the oldest item.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.ready() == 0 {
            return None;
        }
        // SAFETY: the slot is between head and tail, and the head moves past it next.
        let item = unsafe { self.shared.read(self.head) };
        self.release(self.head.wrapping_add(1));
        Some(item)
    }

    /// Moves up to `max` of the oldest items to the end of `out`; returns how many.
    pub fn pop_batch(&mut self, out: &mut Vec<T>, max: usize) -> usize {
        let count = self.ready().min(max);
        if count == 0 {
            return 0;
        }
        // Room first: a panic between reading items and moving the head would duplicate them.
        out.reserve(count);
        for offset in 0..count {
            // SAFETY: the slots are between head and tail, and the head moves past them below.
            out.push(unsafe { self.shared.read(self.head.wrapping_add(offset)) });
        }
        self.release(self.head.wrapping_add(count));
        count
    }

    /// Whether there is nothing to take now.
    pub fn is_empty(&mut self) -> bool {
        self.ready() == 0
    }

    /// Items known to be there; looks at the producer's position only if none are.
    #[inline]
    fn ready(&mut self) -> usize {
        if self.tail_seen == self.head {
            self.tail_seen = self.shared.tail.load(Ordering::Acquire);
        }
        self.tail_seen.wrapping_sub(self.head)
    }

    #[inline]
    fn release(&mut self, head: usize) {
        self.head = head;
        self.shared.head.store(head, Ordering::Release);
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("capacity", &self.shared.slots.len()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("capacity", &self.shared.slots.len()).finish_non_exhaustive()
    }
}
