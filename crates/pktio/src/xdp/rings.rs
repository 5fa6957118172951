//! The four rings that a socket shares with the kernel: fill and TX, which this side writes, and completion and RX,
//! which it reads.
//!
//! Each has a producer index and a consumer index that only grow (modulo 2^32) and a table of a power of two entries.
//! The writer stores entries, then the producer index with release; the reader loads that index with acquire, reads
//! entries, and gives them up by storing the consumer index with release, which the writer loads with acquire before it
//! writes there again. Indices of the other side are cached and only read again when they do not suffice.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The kernel sleeps and has to be woken.
const NEED_WAKEUP: u32 = 1;

/// A mapping of a ring.
struct Mapped {
    base: NonNull<u8>,
    len: usize,
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `Shared::map`, and what pointed into it is being dropped.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "unmapping our own mapping cannot fail");
    }
}

/// What both kinds of rings have.
struct Shared<T> {
    memory: Mapped,
    offsets: libc::xdp_ring_offset,
    mask: u32,
    entries: PhantomData<T>,
}

// SAFETY: the mapping belongs to the process; the value is used by one thread at a time, and the kernel on the other
// side keeps to the protocol above.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// Maps the ring at `place` of the socket, which was made with `len` entries, a power of two.
    fn map(socket: BorrowedFd<'_>, offsets: libc::xdp_ring_offset, place: u64, len: u32) -> io::Result<Shared<T>> {
        assert!(len.is_power_of_two(), "rings have powers of two");
        let bytes = offsets.desc as usize + len as usize * size_of::<T>();
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: no address is asked for, so no existing mapping is replaced.
        let base = unsafe { mmap(std::ptr::null_mut(), bytes, prot, flags, socket, place) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = Mapped { base, len: bytes };
        Ok(Shared { memory, offsets, mask: len - 1, entries: PhantomData })
    }

    fn word(&self, offset: u64) -> &AtomicU32 {
        assert!(offset as usize + 4 <= self.memory.len, "the kernel's offsets lie within the ring");
        // SAFETY: within the mapping, by the assertion.
        let word = unsafe { self.memory.base.add(offset as usize) }.cast::<AtomicU32>();
        assert!(word.is_aligned(), "the kernel's words are aligned");
        // SAFETY: the mapping is initialized, aligned, lives as long as `self`, and is shared by atomics only.
        unsafe { word.as_ref() }
    }

    fn producer(&self) -> &AtomicU32 {
        self.word(self.offsets.producer)
    }

    fn consumer(&self) -> &AtomicU32 {
        self.word(self.offsets.consumer)
    }

    fn needs_wakeup(&self) -> bool {
        self.word(self.offsets.flags).load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }

    /// The place of the entry with that running number.
    fn entry(&self, number: u32) -> NonNull<T> {
        let offset = self.offsets.desc as usize + (number & self.mask) as usize * size_of::<T>();
        // SAFETY: `desc` plus the table's bytes is the length of the mapping, and the masked number is in the table.
        unsafe { self.memory.base.add(offset) }.cast()
    }
}

/// A ring that this side writes: fill or TX.
pub(super) struct Producer<T> {
    shared: Shared<T>,
    /// Entries written so far.
    head: u32,
    /// … of which the kernel was told.
    published: u32,
    /// The kernel's index as last seen.
    tail: u32,
}

impl<T: Copy> Producer<T> {
    pub(super) fn map(fd: impl AsFd, offsets: libc::xdp_ring_offset, place: u64, len: u32) -> io::Result<Self> {
        let shared = Shared::map(fd.as_fd(), offsets, place, len)?;
        // A ring may have been used before by another owner of the descriptor: go on where it stands.
        let head = shared.producer().load(Ordering::Relaxed);
        let tail = shared.consumer().load(Ordering::Acquire);
        Ok(Producer { shared, head, published: head, tail })
    }

    /// How many entries can be written now.
    #[inline]
    pub(super) fn free(&mut self) -> u32 {
        self.tail = self.shared.consumer().load(Ordering::Acquire);
        self.shared.mask + 1 - self.head.wrapping_sub(self.tail)
    }

    /// Whether an entry can be written now; looks at the kernel's index only if none is known to be free.
    #[inline]
    pub(super) fn has_room(&mut self) -> bool {
        self.head.wrapping_sub(self.tail) <= self.shared.mask || self.free() > 0
    }

    /// Writes an entry; false if there is no room. The kernel sees it after [`publish`](Self::publish).
    #[inline]
    pub(super) fn push(&mut self, value: T) -> bool {
        if !self.has_room() {
            return false;
        }
        // SAFETY: the entry is in the table, and the kernel has given it up: it lies less than a table's length before
        // the consumer index, which was loaded with acquire.
        unsafe { self.shared.entry(self.head).write(value) };
        self.head = self.head.wrapping_add(1);
        true
    }

    /// Shows the kernel what was written.
    #[inline]
    pub(super) fn publish(&mut self) {
        if self.published != self.head {
            self.shared.producer().store(self.head, Ordering::Release);
            self.published = self.head;
        }
    }

    /// Entries that the kernel has not taken yet, published or not.
    #[inline]
    pub(super) fn pending(&self) -> u32 {
        self.head.wrapping_sub(self.shared.consumer().load(Ordering::Relaxed))
    }

    /// Whether the kernel has to be told by a system call of what was published.
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        // Either the kernel sees the new index when it looks before it sleeps, or this sees the flag.
        fence(Ordering::SeqCst);
        self.shared.needs_wakeup()
    }
}

/// A ring that this side reads: RX or completion.
pub(super) struct Consumer<T> {
    shared: Shared<T>,
    /// Entries read so far.
    tail: u32,
    /// The kernel's index as last seen.
    head: u32,
}

impl<T: Copy> Consumer<T> {
    pub(super) fn map(fd: impl AsFd, offsets: libc::xdp_ring_offset, place: u64, len: u32) -> io::Result<Self> {
        let shared = Shared::map(fd.as_fd(), offsets, place, len)?;
        let tail = shared.consumer().load(Ordering::Relaxed);
        let head = shared.producer().load(Ordering::Acquire);
        Ok(Consumer { shared, tail, head })
    }

    /// The next entry. It is the kernel's to overwrite only after [`release`](Self::release).
    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.tail == self.head {
            self.head = self.shared.producer().load(Ordering::Acquire);
            if self.tail == self.head {
                return None;
            }
        }
        // SAFETY: the entry is in the table, was written before the producer index that was loaded with acquire, and is
        // any bits of a plain type.
        let value = unsafe { self.shared.entry(self.tail).read() };
        self.tail = self.tail.wrapping_add(1);
        Some(value)
    }

    /// Gives what was read back to the kernel.
    #[inline]
    pub(super) fn release(&mut self) {
        self.shared.consumer().store(self.tail, Ordering::Release);
    }

    /// How many entries can be read now.
    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.shared.producer().load(Ordering::Relaxed).wrapping_sub(self.tail)
    }

    /// Whether there is something to read.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.tail == self.head && self.tail == self.shared.producer().load(Ordering::Relaxed)
    }
}
