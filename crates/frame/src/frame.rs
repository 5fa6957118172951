//! Unique access to a range of one frame.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::ahead::prefetch_line;
use crate::chunk::Chunk;
use crate::hold::Hold;

/// Unique access to a byte range of one frame: nobody else can read or write those bytes. Others may hold other
/// ranges of the same frame.
///
/// 24 bytes; moving it does not touch the frame.
pub struct Frame {
    base: NonNull<u8>,
    len: u32,
    /// Bytes from `base` that are this value's own; at least `len`.
    capacity: u32,
    hold: Hold,
}

const _: () = assert!(size_of::<Frame>() <= 24 && size_of::<Option<Frame>>() <= 24);

// SAFETY: the bytes are this value's alone, and `Hold` may be dropped anywhere.
unsafe impl Send for Frame {}
// SAFETY: `&Frame` gives only reads of plain bytes.
unsafe impl Sync for Frame {}

impl Frame {
    /// # Safety
    /// `len` (below 2^32) initialized bytes at `base` stay valid while `hold` lives, and no other value reaches them.
    #[inline]
    pub(crate) unsafe fn from_parts(base: NonNull<u8>, len: usize, hold: Hold) -> Frame {
        let len = len as u32;
        Frame { base, len, capacity: len, hold }
    }

    #[inline]
    pub(crate) fn hold(&self) -> &Hold {
        &self.hold
    }

    /// A frame on the heap, for tests, simulators and slow paths: allocates a header.
    ///
    /// # Panics
    /// If the vector is longer than 4 GiB.
    pub fn from_vec(vec: Vec<u8>) -> Frame {
        let len = u32::try_from(vec.len()).expect("a frame is shorter than 4 GiB");
        let (base, hold) = Hold::vec(vec);
        Frame { base, len, capacity: len, hold }
    }

    /// How long the range may be made again with [`set_len`](Self::set_len).
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Length of the range in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the range is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Shortens the range to its first `len` bytes; no effect if it is not longer. The bytes cut off stay this
    /// value's own.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.len = len as u32;
        }
    }

    /// Sets the length; bytes gained hold what was in memory before.
    ///
    /// # Panics
    /// If `len` exceeds [`capacity`](Self::capacity).
    #[inline]
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity(), "length beyond the capacity of the frame");
        self.len = len as u32;
    }

    /// Drops the first `n` bytes of the range.
    ///
    /// # Panics
    /// If `n` exceeds the length.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.len(), "advance beyond the end of the frame");
        // SAFETY: `n` is within the range.
        self.base = unsafe { self.base.add(n) };
        self.len -= n as u32;
        self.capacity -= n as u32;
    }

    /// Cuts off the first `n` bytes as a frame of their own. One relaxed increment.
    ///
    /// # Panics
    /// If `n` exceeds the length.
    #[inline]
    #[must_use = "dropping the front is `advance`"]
    pub fn split_to(&mut self, n: usize) -> Frame {
        assert!(n <= self.len(), "split beyond the end of the frame");
        let front = Frame { base: self.base, len: n as u32, capacity: n as u32, hold: self.hold.clone() };
        self.advance(n);
        front
    }

    /// Asks the processor for the first two cache lines of the range, for one who looks at them soon but not yet: a device
    /// wrote them, so they are in no cache of this core. Only a hint, and nothing at all on processors other than x86-64.
    #[inline]
    pub fn prefetch(&self) {
        for line in [0, 64] {
            prefetch_line(self.base.as_ptr().wrapping_add(line));
        }
    }

    /// Gives up writing in exchange for sharing. Free.
    #[inline]
    pub fn freeze(self) -> Chunk {
        // SAFETY: the range is valid while `hold` lives, and with `self` goes the only writer.
        unsafe { Chunk::from_parts(self.base, self.len as usize, self.hold) }
    }
}

impl Deref for Frame {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialized bytes at `base` are alive as long as `hold`, and written only through `&mut self`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len as usize) }
    }
}

impl DerefMut for Frame {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; no other value reaches these bytes.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len as usize) }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("len", &self.len).field("capacity", &self.capacity).finish()
    }
}
