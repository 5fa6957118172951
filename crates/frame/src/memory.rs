//! The memory of a pool: one zeroed mapping.

use std::io;
use std::ptr::NonNull;

/// What kind of pages a pool's memory sits on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// The system's base pages.
    Base,
    /// Base pages that the kernel was asked to merge (`MADV_HUGEPAGE`); whether it does is up to its settings.
    Transparent,
    /// Reserved 2 MiB pages.
    Huge,
}

/// A zeroed, page-aligned region, released on drop.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    pages: Pages,
}

// SAFETY: a mapping belongs to the process, not to a thread; `Mapping` only hands out its address.
unsafe impl Send for Mapping {}
// SAFETY: as above; no method writes through `&self`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps at least `len` bytes. With `huge`, 2 MiB pages if there are some, otherwise transparent ones if the
    /// kernel takes the advice, otherwise base pages. Fails as `mmap` does.
    pub(crate) fn new(len: usize, huge: bool) -> io::Result<Mapping> {
        debug_assert!(len > 0, "an empty mapping has no address");
        imp::map(len, huge)
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn pages(&self) -> Pages {
        self.pages
    }

    /// Has the kernel take the pages that are touched from now on from the NUMA node `node`; reserved 2 MiB pages if that
    /// node has some left, others from nowhere else.
    pub(crate) fn place_on(&self, node: u32) -> io::Result<()> {
        imp::place_on(self, node)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        imp::unmap(self);
    }
}

#[cfg(unix)]
mod imp {
    use super::{Mapping, Pages};
    use rustix::mm::{self, MapFlags, ProtFlags};
    use std::io;
    use std::ptr::NonNull;

    #[cfg(target_os = "linux")]
    const HUGE_PAGE: usize = 2 << 20;
    /// NUMA nodes that a kernel may be built for (`MAX_NUMNODES`).
    #[cfg(target_os = "linux")]
    const NODES_MAX: u32 = 1024;

    #[cfg(target_os = "linux")]
    pub(super) fn map(len: usize, huge: bool) -> io::Result<Mapping> {
        if !huge {
            return map_with(len, MapFlags::PRIVATE, Pages::Base);
        }
        let rounded = len.checked_next_multiple_of(HUGE_PAGE).ok_or(io::ErrorKind::InvalidInput)?;
        if let Ok(mapping) = map_with(rounded, MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB, Pages::Huge)
        {
            return Ok(mapping);
        }
        // Reserved pages are scarce or forbidden. Ask for transparent ones; the kernel serves the 2 MiB blocks inside.
        let mut mapping = map_with(rounded, MapFlags::PRIVATE, Pages::Base)?;
        // SAFETY: the range is the mapping just made, and the advice changes no content.
        let advised = unsafe { mm::madvise(mapping.base.as_ptr().cast(), rounded, mm::Advice::LinuxHugepage) };
        if advised.is_ok() {
            mapping.pages = Pages::Transparent;
        }
        Ok(mapping)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn map(len: usize, _huge: bool) -> io::Result<Mapping> {
        map_with(len, MapFlags::PRIVATE, Pages::Base)
    }

    fn map_with(len: usize, flags: MapFlags, pages: Pages) -> io::Result<Mapping> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is asked for, so no existing mapping is replaced.
        let base = unsafe { mm::mmap_anonymous(std::ptr::null_mut(), len, prot, flags) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { base, len, pages })
    }

    #[cfg(target_os = "linux")]
    pub(super) fn place_on(mapping: &Mapping, node: u32) -> io::Result<()> {
        const MASK_BITS: u32 = libc::c_ulong::BITS;
        let mut mask = [0 as libc::c_ulong; NODES_MAX.div_ceil(MASK_BITS) as usize];
        let gone = || io::Error::new(io::ErrorKind::InvalidInput, format!("there is no NUMA node {node} with memory"));
        *mask.get_mut((node / MASK_BITS) as usize).ok_or_else(gone)? |= 1 << (node % MASK_BITS);
        // The kernel takes one bit less than it is told.
        let bits = libc::c_ulong::from(NODES_MAX + 1);
        // A node may lack reserved pages though the machine has them, and a fault that finds none is the end of the process.
        let policy = if mapping.pages == Pages::Huge { libc::MPOL_PREFERRED } else { libc::MPOL_BIND };
        // SAFETY: the range is the mapping's, the mask has that many bits, and a policy changes no content.
        let result = unsafe {
            libc::syscall(libc::SYS_mbind, mapping.base.as_ptr(), mapping.len, policy, mask.as_ptr(), bits, 0)
        };
        match (result, io::Error::last_os_error()) {
            (0, _) => Ok(()),
            (_, error) if error.raw_os_error() == Some(libc::EINVAL) => Err(gone()),
            (_, error) => Err(io::Error::new(error.kind(), format!("placing memory on NUMA node {node}: {error}"))),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn place_on(_mapping: &Mapping, _node: u32) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "memory cannot be placed on a NUMA node on this system"))
    }

    pub(super) fn unmap(mapping: &mut Mapping) {
        // SAFETY: the range was mapped by `map_with` and nothing refers to it any more: the owner is being dropped.
        let unmapped = unsafe { mm::munmap(mapping.base.as_ptr().cast(), mapping.len) };
        debug_assert!(unmapped.is_ok(), "unmapping our own mapping cannot fail");
    }
}

#[cfg(not(unix))]
mod imp {
    use super::{Mapping, Pages};
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::io;
    use std::ptr::NonNull;

    /// The alignment that `mmap` would give.
    const PAGE: usize = 4096;

    pub(super) fn map(len: usize, _huge: bool) -> io::Result<Mapping> {
        let layout = Layout::from_size_align(len, PAGE).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the layout has a size above zero (`Mapping::new` asserts it).
        let base = unsafe { alloc_zeroed(layout) };
        let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { base, len, pages: Pages::Base })
    }

    pub(super) fn place_on(_mapping: &Mapping, _node: u32) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "memory cannot be placed on a NUMA node on this system"))
    }

    pub(super) fn unmap(mapping: &mut Mapping) {
        let layout = Layout::from_size_align(mapping.len, PAGE).expect("the layout was valid when it was mapped");
        // SAFETY: allocated by `map` with this layout, and the owner is being dropped.
        unsafe { dealloc(mapping.base.as_ptr(), layout) };
    }
}
