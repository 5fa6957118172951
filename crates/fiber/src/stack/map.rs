//! Stacks as parts of large mappings, with guards between them.
//!
//! A guard made by `mprotect` splits the mapping, and a process may have 65,530 of them: about 32,000 stacks. Linux 6.13
//! has guards that are marks in the page table (`MADV_GUARD_INSTALL`) and split nothing, so where the kernel knows them
//! the number of stacks is bounded by memory only. Elsewhere the protected pages are used and the limit is the
//! kernel's; the error of the mapping that fails reaches whoever joins the fiber.
//!
//! Stacks do not begin at the same place of their page: were it so, the few lines that every fiber uses while it waits would
//! all compete for the same sets of the caches, of which most would stay empty.

use crate::limits::{GUARD_BYTES, REGION_BYTES};
use corosensei::stack::{Stack, StackPointer};
use std::io;
use std::ptr::NonNull;

/// `MADV_GUARD_INSTALL` of Linux 6.13 (include/uapi/asm-generic/mman-common.h).
#[cfg(target_os = "linux")]
const MADV_GUARD_INSTALL: libc::c_int = 102;

const CACHE_LINE: usize = 64;

/// Places in a page where stacks begin.
const STACK_COLOURS: usize = 64;

/// One stack: the guard from `limit` on, then usable bytes up to `base`.
#[derive(Debug)]
pub(crate) struct FiberStack {
    limit: StackPointer,
    base: StackPointer,
}

// SAFETY: `base`, a multiple of a cache line, and `limit`, of a page, are the ends of a part of a mapping that nobody else
// has; the lowest `GUARD_BYTES` are inaccessible, and at least 8 KiB above are usable (`Regions::new`).
unsafe impl Stack for FiberStack {
    #[inline]
    fn base(&self) -> StackPointer {
        self.base
    }

    #[inline]
    fn limit(&self) -> StackPointer {
        self.limit
    }
}

impl FiberStack {
    /// Usable bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.base.get() - self.limit.get() - GUARD_BYTES
    }

    /// Gives the pages back; they read as zero when touched again. Only for a stack without a fiber.
    pub(crate) fn release(&mut self) {
        let usable = (self.limit.get() + GUARD_BYTES) as *mut libc::c_void;
        // SAFETY: the range is this stack's usable part and nothing lives on it.
        let rc = unsafe { libc::madvise(usable, self.bytes(), libc::MADV_DONTNEED) };
        debug_assert_eq!(rc, 0, "giving back pages of an own mapping cannot fail");
    }

    /// Bytes from the base's page down to the lowest page that is in memory.
    pub(crate) fn touched(&self) -> usize {
        touched(self.limit.get() + GUARD_BYTES, self.base.get().next_multiple_of(page_bytes()))
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
type Residency = u8;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
type Residency = libc::c_char;

fn touched(low: usize, base: usize) -> usize {
    let page = page_bytes();
    let mut resident: [Residency; 64] = [0; 64];
    let mut from = low;
    while from < base {
        let bytes = (base - from).min(resident.len() * page);
        // SAFETY: the range lies in one mapping of ours, and `resident` has a byte for each of its pages.
        let rc = unsafe { libc::mincore(from as *mut libc::c_void, bytes, resident.as_mut_ptr().cast()) };
        if rc != 0 {
            return 0;
        }
        if let Some(index) = resident[..bytes / page].iter().position(|byte| byte & 1 == 1) {
            return base - from - index * page;
        }
        from += bytes;
    }
    0
}

/// The mappings of one class.
#[derive(Debug)]
pub(crate) struct Regions {
    stack_bytes: usize,
    /// From one guard to the next: a page more than guard and stack, for where the stack begins.
    stride: usize,
    stacks_per_region: usize,
    regions: Vec<Region>,
    carved: usize,
}

#[derive(Debug)]
struct Region {
    start: NonNull<libc::c_void>,
    bytes: usize,
}

impl Regions {
    pub(crate) fn new(bytes: usize) -> Regions {
        let page = page_bytes();
        let stack_bytes = bytes.max(8 << 10).next_multiple_of(page);
        let stride = stack_bytes + page + GUARD_BYTES;
        let stacks_per_region = (REGION_BYTES / stride).max(1);
        Regions { stack_bytes, stride, stacks_per_region, regions: Vec::new(), carved: 0 }
    }

    pub(crate) fn stack_bytes(&self) -> usize {
        self.stack_bytes
    }

    pub(crate) fn carved(&self) -> usize {
        self.carved
    }

    /// The next stack that was never used.
    pub(crate) fn carve(&mut self) -> io::Result<FiberStack> {
        if self.carved == self.regions.len() * self.stacks_per_region {
            self.regions.push(Region::map(self.stride * self.stacks_per_region)?);
        }
        let limit = self.address(self.carved);
        protect(limit)?;
        let colour = colour(self.carved) * CACHE_LINE;
        let pointer = |address| StackPointer::new(address).expect("no mapping contains the address 0");
        let stack = FiberStack { limit: pointer(limit), base: pointer(limit + self.stride - colour) };
        self.carved += 1;
        Ok(stack)
    }

    fn address(&self, index: usize) -> usize {
        let region = &self.regions[index / self.stacks_per_region];
        region.start.as_ptr() as usize + index % self.stacks_per_region * self.stride
    }

    /// The deepest use of any stack since its pages were given back last.
    pub(crate) fn touched_max(&self) -> usize {
        let depth = |index| {
            let limit = self.address(index);
            touched(limit + GUARD_BYTES, limit + self.stride)
        };
        (0..self.carved).map(depth).max().unwrap_or(0)
    }
}

impl Region {
    fn map(bytes: usize) -> io::Result<Region> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        #[cfg(any(target_os = "openbsd", target_os = "netbsd", target_os = "freebsd"))]
        let flags = flags | libc::MAP_STACK;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new private mapping at an address that the kernel chooses touches no memory of the program.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // A huge page would make every first touch of a stack cost 2 MiB.
        #[cfg(target_os = "linux")]
        // SAFETY: advice about the mapping made above.
        unsafe {
            libc::madvise(start, bytes, libc::MADV_NOHUGEPAGE);
        }
        let start = NonNull::new(start).expect("a mapping that did not fail is not at 0");
        Ok(Region { start, bytes })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the pool is dropped after every fiber of its scheduler, so nothing lives on the mapping. Fibers that
        // could not be ended keep the whole pool (`Inner::leak`).
        let rc = unsafe { libc::munmap(self.start.as_ptr(), self.bytes) };
        debug_assert_eq!(rc, 0, "unmapping an own mapping cannot fail");
    }
}

/// Makes the guard at `limit` inaccessible.
fn protect(limit: usize) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the range is the guard of a stack that was never used.
        let rc = unsafe { libc::madvise(limit as *mut libc::c_void, GUARD_BYTES, MADV_GUARD_INSTALL) };
        if rc == 0 {
            return Ok(());
        }
    }
    // SAFETY: as above.
    match unsafe { libc::mprotect(limit as *mut libc::c_void, GUARD_BYTES, libc::PROT_NONE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The place in its page at which the stack of that number begins, in cache lines. Pages that are touched one after the other
/// are often neighbours in memory, so their own places in a large cache go round; if the stacks' places went round in step,
/// a page's place would always meet the same ones: 1,000 stacks would then share 64 of 2,048 sets.
fn colour(index: usize) -> usize {
    (index + index / STACK_COLOURS) % STACK_COLOURS
}

pub(crate) fn page_bytes() -> usize {
    // SAFETY: asks for a constant of the system.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn stacks_spread_over_all_sets_of_a_cache_whatever_pages_they_touch() {
        // A second-level cache of 1 MiB in eight ways has the sets of 32 pages; so many that are handed out in turn.
        for pages_touched in [1, 3, 17] {
            let sets: HashSet<_> = (0..1000).map(|index| (index * pages_touched % 32, colour(index))).collect();
            assert_eq!(sets.len(), 1000, "with {pages_touched} pages from one stack to the next");
        }
    }
}
