//! A shared, immutable slice.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Bound, Deref, RangeBounds};
use std::ptr::NonNull;

use bytes::Bytes;

use crate::hold::Hold;

/// How many bytes `Debug` shows.
const DEBUG_BYTES_MAX: usize = 64;

/// A shared immutable slice of a frame, or of static or heap bytes. Cloning and slicing copy nothing.
///
/// 24 bytes. A chunk keeps its whole frame from going back to the pool: programs that keep a little of a lot for long
/// should copy it out.
#[derive(Clone)]
pub struct Chunk {
    base: NonNull<u8>,
    len: usize,
    hold: Hold,
}

const _: () = assert!(size_of::<Chunk>() <= 24 && size_of::<Option<Chunk>>() <= 24);

// SAFETY: the bytes are only read while any chunk refers to them, and `Hold` is `Send` and `Sync`.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// # Safety
    /// `len` initialized bytes at `base` stay valid and unwritten while `hold` or a clone of it lives.
    #[inline]
    pub(crate) unsafe fn from_parts(base: NonNull<u8>, len: usize, hold: Hold) -> Chunk {
        Chunk { base, len, hold }
    }

    /// An empty chunk. Does not allocate.
    #[inline]
    pub const fn new() -> Chunk {
        Chunk::from_static(&[])
    }

    /// A chunk of static bytes. Does not allocate.
    #[inline]
    pub const fn from_static(bytes: &'static [u8]) -> Chunk {
        Chunk { base: NonNull::from_ref(bytes).cast(), len: bytes.len(), hold: Hold::NONE }
    }

    /// A copy on the heap. An empty slice does not allocate.
    pub fn copy_from_slice(bytes: &[u8]) -> Chunk {
        Chunk::from(bytes.to_vec())
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part of this chunk, sharing its memory. One relaxed increment.
    ///
    /// # Panics
    /// If the range is not within the chunk.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Chunk {
        let start = match range.start_bound() {
            Bound::Included(&n) => n,
            Bound::Excluded(&n) => n.checked_add(1).expect("the range starts within the address space"),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&n) => n.checked_add(1).expect("the range ends within the address space"),
            Bound::Excluded(&n) => n,
            Bound::Unbounded => self.len,
        };
        assert!(start <= end && end <= self.len, "slice {start}..{end} of a chunk of {} bytes", self.len);
        // SAFETY: `start` is within the chunk.
        let base = unsafe { self.base.add(start) };
        Chunk { base, len: end - start, hold: self.hold.clone() }
    }

    /// Cuts off the first `n` bytes as a chunk of their own. One relaxed increment.
    ///
    /// # Panics
    /// If `n` exceeds the length.
    #[inline]
    #[must_use = "dropping the front is `advance`"]
    pub fn split_to(&mut self, n: usize) -> Chunk {
        assert!(n <= self.len, "split beyond the end of the chunk");
        let front = Chunk { base: self.base, len: n, hold: self.hold.clone() };
        self.advance(n);
        front
    }

    /// Drops the first `n` bytes.
    ///
    /// # Panics
    /// If `n` exceeds the length.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.len, "advance beyond the end of the chunk");
        // SAFETY: `n` is within the chunk.
        self.base = unsafe { self.base.add(n) };
        self.len -= n;
    }

    /// Shortens to the first `len` bytes; no effect if it is not longer.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The same memory as [`Bytes`], without a copy. Allocates a small owner unless the chunk came from `Bytes`.
    pub fn into_bytes(self) -> Bytes {
        if self.is_empty() {
            return Bytes::new();
        }
        match self.hold.as_bytes() {
            Some(bytes) => bytes.slice_ref(&self),
            None => Bytes::from_owner(self),
        }
    }
}

impl Default for Chunk {
    fn default() -> Chunk {
        Chunk::new()
    }
}

impl From<Vec<u8>> for Chunk {
    /// Takes over the vector's memory. Allocates a header unless the vector is empty.
    fn from(vec: Vec<u8>) -> Chunk {
        if vec.is_empty() {
            return Chunk::new();
        }
        let len = vec.len();
        let (base, hold) = Hold::vec(vec);
        Chunk { base, len, hold }
    }
}

impl From<Bytes> for Chunk {
    /// Shares the bytes' memory. Allocates a header unless there are none.
    fn from(bytes: Bytes) -> Chunk {
        if bytes.is_empty() {
            return Chunk::new();
        }
        // Moving a `Bytes` does not move what it points to.
        let (base, len) = (NonNull::from_ref(&*bytes).cast(), bytes.len());
        Chunk { base, len, hold: Hold::bytes(bytes) }
    }
}

impl From<&'static [u8]> for Chunk {
    fn from(bytes: &'static [u8]) -> Chunk {
        Chunk::from_static(bytes)
    }
}

impl Deref for Chunk {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialized bytes at `base` are alive and unwritten as long as `hold`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for Chunk {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Chunk {
    fn eq(&self, other: &Chunk) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Chunk {}

impl PartialEq<[u8]> for Chunk {
    fn eq(&self, other: &[u8]) -> bool {
        self[..] == *other
    }
}

impl PartialEq<&[u8]> for Chunk {
    fn eq(&self, other: &&[u8]) -> bool {
        self[..] == **other
    }
}

impl<const N: usize> PartialEq<[u8; N]> for Chunk {
    fn eq(&self, other: &[u8; N]) -> bool {
        self[..] == other[..]
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Chunk {
    fn eq(&self, other: &&[u8; N]) -> bool {
        self[..] == other[..]
    }
}

impl PartialEq<Vec<u8>> for Chunk {
    fn eq(&self, other: &Vec<u8>) -> bool {
        self[..] == other[..]
    }
}

impl Hash for Chunk {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self[..].hash(state);
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self[..self.len.min(DEBUG_BYTES_MAX)];
        let more = if shown.len() < self.len { "…" } else { "" };
        write!(f, "Chunk({} bytes, b\"{}\"{more})", self.len, shown.escape_ascii())
    }
}
