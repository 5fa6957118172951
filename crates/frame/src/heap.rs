//! The memory that is in no pool.

/// Bytes of the heap in use, of all threads, as the C library counts them (mallinfo(3)); `None` if it does not. What threads
/// keep for their next allocations, some hundred KB each at most, counts as in use.
#[must_use]
pub fn heap_in_use() -> Option<u64> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it has no arguments and only reads the allocator's counters, each arena's under the allocator's own lock.
        let info = unsafe { libc::mallinfo2() };
        u64::try_from(info.uordblks + info.hblkhd).ok()
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    #[test]
    fn what_is_allocated_shows_until_it_is_freed() {
        const BYTES: u64 = 64 << 20;
        let used = || super::heap_in_use().expect("this C library counts");
        let before = used();
        let block = std::hint::black_box(vec![1_u8; BYTES as usize]);
        let during = used();
        drop(block);
        // Other tests use less than half of it at the same time.
        assert!(during > before + BYTES / 2 && used() < during - BYTES / 2);
    }
}
