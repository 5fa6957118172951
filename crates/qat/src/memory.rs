//! Pinned memory that cards read and write.

use std::ffi::c_void;
use std::ptr::NonNull;

use crate::library::Library;

/// Pinned memory, contiguous also for the card. It is wiped when it goes (`qaeMemFreeNUMA` does).
pub(crate) struct Dma {
    library: &'static Library,
    start: NonNull<u8>,
    physical: u64,
    len: usize,
}

// SAFETY: the memory belongs to this value alone, whichever thread has it, and the library's allocator is for all threads.
unsafe impl Send for Dma {}

impl Dma {
    /// What is aligned for everything that a card reads.
    const ALIGN: usize = 64;

    /// `len` bytes on a NUMA node, all zero; -1 for any node. `None` if there is no such memory to be had.
    pub(crate) fn new(library: &'static Library, len: usize, node: i32) -> Option<Self> {
        // SAFETY: the length is not zero, and the alignment a power of two below 4 MiB.
        let start = unsafe { (library.mem_alloc)(len, node, Self::ALIGN) };
        let start = NonNull::new(start.cast::<u8>())?;
        // SAFETY: the memory was just allocated by that library.
        let physical = unsafe { (library.virt_to_phys)(start.as_ptr().cast()) };
        let memory = Self { library, start, physical, len };
        // SAFETY: these are `len` bytes of memory, and nobody else has them.
        unsafe { start.as_ptr().write_bytes(0, len) };
        (physical != 0).then_some(memory)
    }

    /// The address of the byte `at`.
    pub(crate) fn pointer(&self, at: usize) -> *mut u8 {
        assert!(at < self.len, "inside the memory");
        // SAFETY: `at` is inside of the allocation.
        unsafe { self.start.as_ptr().add(at) }
    }

    /// The address of the byte `at`, as the card has it.
    pub(crate) fn physical(&self, at: usize) -> u64 {
        assert!(at < self.len, "inside the memory");
        self.physical + at as u64
    }

    /// Writes `bytes` at `at`. Nothing is under way there.
    #[inline]
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at, "inside the memory");
        // SAFETY: `at` is inside of the allocation, or its end.
        let to = unsafe { self.start.as_ptr().add(at) };
        // SAFETY: so many bytes lie behind `to`, and no slice of the program's overlaps them: this memory is only seen through copies.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    /// Reads what is at `at`. Nothing is under way there.
    #[inline]
    pub(crate) fn read(&self, at: usize, bytes: &mut [u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at, "inside the memory");
        // SAFETY: `at` is inside of the allocation, or its end.
        let from = unsafe { self.start.as_ptr().add(at) };
        // SAFETY: so many bytes lie behind `from`, and no slice of the program's overlaps them: this memory is only seen through copies.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
    }
}

impl Drop for Dma {
    fn drop(&mut self) {
        let mut start = self.start.as_ptr().cast::<c_void>();
        // SAFETY: it was allocated by this library, and nobody uses it any more: where a card may still write to it, it is forgotten
        // instead.
        unsafe { (self.library.mem_free)(&raw mut start) };
    }
}
