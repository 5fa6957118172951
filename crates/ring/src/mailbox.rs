//! A bounded mailbox from any number of threads to one.
//!
//! A table of slots, made once, and two stacks of slot numbers: `free` and `full`. A sender takes a free slot, writes
//! its message and pushes the slot on `full`; the receiver takes all of `full` at once, turns it round (so that messages
//! come in the order in which they were sent) and puts each slot back on `free` as it reads it. No sender ever waits for
//! another one: a stopped sender holds one slot and nothing else.
//!
//! Memory order:
//! - `full`: a push is a release compare-and-swap, the take is an acquire swap. The pushes in between are
//!   read-modify-writes, so the take synchronizes with every push that it collects: links and messages are visible.
//!   Nobody pops single slots, so there is no ABA problem.
//! - `free`: putting back is a release compare-and-swap, taking an acquire one, so a sender writes a slot only after
//!   the receiver's read of the last message. Senders do pop single slots: the head carries a tag that every pop
//!   increases, so a head that went away and came back is not mistaken for an unchanged one (32 bits: a sender would
//!   have to sleep through exactly 2^32 pops). The load before the swap is acquire too, since the link is read through
//!   it.

use std::fmt;
use std::mem::MaybeUninit;

use crate::pad::CachePadded;
use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering, UnsafeCell};

/// The end of a list.
const NIL: u32 = u32::MAX;
/// The head of `full` once the receiver is gone.
const CLOSED: u32 = u32::MAX - 1;

/// Makes a mailbox with room for `capacity` messages.
///
/// # Panics
/// If `capacity` is 0 or above 2^31.
pub fn mailbox<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!((1..=1 << 31).contains(&capacity), "a mailbox holds 1 to 2^31 messages");
    let capacity = capacity as u32;
    let slot = |index| Slot {
        next: AtomicU32::new(if index + 1 == capacity { NIL } else { index + 1 }),
        message: UnsafeCell::new(MaybeUninit::uninit()),
    };
    let shared = Arc::new(Shared {
        full: CachePadded(AtomicU32::new(NIL)),
        free: CachePadded(AtomicU64::new(0)),
        slots: (0..capacity).map(slot).collect(),
    });
    (Sender { shared: shared.clone() }, Receiver { shared })
}

/// A message that was not sent, and why.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError<T> {
    /// All slots are taken: the receiver is behind.
    #[error("the mailbox is full")]
    Full(T),
    /// The receiver is gone.
    #[error("nobody receives from the mailbox any more")]
    Closed(T),
}

impl<T> SendError<T> {
    /// The message.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Full(message) | SendError::Closed(message) => message,
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full(_) => "Full(..)",
            SendError::Closed(_) => "Closed(..)",
        })
    }
}

struct Slot<T> {
    next: AtomicU32,
    message: UnsafeCell<MaybeUninit<T>>,
}

struct Shared<T> {
    /// The slot sent last, or a mark.
    full: CachePadded<AtomicU32>,
    /// The tag in the upper half, the first free slot in the lower.
    free: CachePadded<AtomicU64>,
    slots: Box<[Slot<T>]>,
}

// SAFETY: a slot is on one stack or in one thread's hands (see the module), so messages only move between threads.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    fn slot(&self, index: u32) -> &Slot<T> {
        &self.slots[index as usize]
    }

    fn take_free(&self) -> Option<u32> {
        let mut head = self.free.load(Ordering::Acquire);
        loop {
            let (tag, index) = ((head >> 32) as u32, head as u32);
            if index == NIL {
                return None;
            }
            let next = self.slot(index).next.load(Ordering::Relaxed);
            let new = u64::from(tag.wrapping_add(1)) << 32 | u64::from(next);
            match self.free.compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
    }

    fn put_free(&self, index: u32) {
        let mut head = self.free.load(Ordering::Relaxed);
        loop {
            self.slot(index).next.store(head as u32, Ordering::Relaxed);
            let new = head >> 32 << 32 | u64::from(index);
            match self.free.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Moves the message out of a slot and frees the slot.
    ///
    /// # Safety
    /// The slot holds a message and is in the caller's hands.
    unsafe fn empty(&self, index: u32) -> T {
        // SAFETY: the caller's promise; the slot is not read again before the next write.
        let message = self.slot(index).message.with(|message| unsafe { message.cast::<T>().read() });
        self.put_free(index);
        message
    }

    /// Takes the list of full slots, leaving `mark`, and turns it round: the oldest message's slot, or [`NIL`].
    fn take_full(&self, mark: u32) -> u32 {
        let mut index = self.full.swap(mark, Ordering::Acquire);
        let mut oldest_first = NIL;
        while index < CLOSED {
            let next = self.slot(index).next.load(Ordering::Relaxed);
            self.slot(index).next.store(oldest_first, Ordering::Relaxed);
            oldest_first = index;
            index = next;
        }
        oldest_first
    }
}

/// The sending side; clone it for every thread.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> Sender<T> {
    /// Sends a message. `Ok(true)` means that the mailbox was empty, so the receiver may have to be woken; whoever
    /// sent before an `Ok(false)` got the `true`.
    ///
    /// Fails with [`SendError::Full`] or [`SendError::Closed`], giving the message back.
    pub fn send(&self, message: T) -> Result<bool, SendError<T>> {
        let shared = &*self.shared;
        if shared.full.load(Ordering::Relaxed) == CLOSED {
            return Err(SendError::Closed(message));
        }
        let Some(index) = shared.take_free() else { return Err(SendError::Full(message)) };
        let slot = shared.slot(index);
        // SAFETY: the slot was free and is now this sender's alone.
        slot.message.with_mut(|place| unsafe { place.cast::<T>().write(message) });
        let mut head = shared.full.load(Ordering::Relaxed);
        while head != CLOSED {
            slot.next.store(head, Ordering::Relaxed);
            match shared.full.compare_exchange_weak(head, index, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Ok(head == NIL),
                Err(now) => head = now,
            }
        }
        // SAFETY: the message was written above, and the slot never got into the list.
        Err(SendError::Closed(unsafe { shared.empty(index) }))
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { shared: self.shared.clone() }
    }
}

/// The receiving side. When it is dropped, messages in the mailbox are dropped and later ones refused.
pub struct Receiver<T: Send> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> Receiver<T> {
    /// Takes all messages sent so far, oldest first. A slot is free again as soon as its message is out, so whoever
    /// handles a message may send to the same mailbox.
    pub fn drain(&mut self) -> Drain<'_, T> {
        // The load keeps the shared line unwritten while nothing has been sent.
        let empty = self.shared.full.load(Ordering::Relaxed) == NIL;
        let index = if empty { NIL } else { self.shared.take_full(NIL) };
        Drain { shared: &self.shared, index }
    }
}

impl<T: Send> Drop for Receiver<T> {
    fn drop(&mut self) {
        let index = self.shared.take_full(CLOSED);
        drop(Drain { shared: &self.shared, index });
    }
}

/// Messages taken from a mailbox. Those not taken from the iterator are dropped with it.
pub struct Drain<'a, T: Send> {
    shared: &'a Shared<T>,
    index: u32,
}

impl<T: Send> Iterator for Drain<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let index = self.index;
        if index == NIL {
            return None;
        }
        self.index = self.shared.slot(index).next.load(Ordering::Relaxed);
        // SAFETY: the slot was in the list taken, so it holds a message and nobody else has it.
        Some(unsafe { self.shared.empty(index) })
    }
}

impl<T: Send> Drop for Drain<'_, T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("capacity", &self.shared.slots.len()).finish()
    }
}

impl<T: Send> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("capacity", &self.shared.slots.len()).finish()
    }
}

impl<T: Send> fmt::Debug for Drain<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("is_empty", &(self.index == NIL)).finish()
    }
}
