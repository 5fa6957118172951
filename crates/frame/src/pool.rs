//! The pool: one region of frames with one owner.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::ptr::NonNull;

use crate::frame::Frame;
use crate::hold::{Header, Hold};
use crate::memory::{Mapping, Pages};
use crate::returns::{FRAMES_MAX, Last, NIL, Returns};
use crate::sync::Ordering;

/// Frames start on cache lines: copies (`rep movsb`, the kernel's too) fall from 50 to 2-3 GB/s when source and
/// destination differ by 1 to about 31 modulo 4,096.
const ALIGN: usize = 64;
/// A frame's length is kept in 32 bits.
const FRAME_SIZE_MAX: usize = 1 << 31;

/// The shape of a [`Pool`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// Bytes per frame, 1 to 2^31.
    pub frame_size: usize,
    /// Number of frames, at least 1.
    pub frames: usize,
    /// Ask for 2 MiB pages; [`Pool::pages`] tells what was granted.
    pub huge_pages: bool,
}

/// A fixed number of equally sized frames in one mapping. Owned by one thread at a time.
///
/// Memory is touched only when a frame is first used, and the frame returned last is taken first, so a pool that is
/// mostly idle occupies little.
///
/// A pool may lend frames to a device ([`lend`](Pool::lend), [`take_back`](Pool::take_back)). Its memory stays mapped
/// for as long as any frame is lent.
pub struct Pool {
    region: NonNull<Region>,
    /// The local free list, linked through the headers. Cells, so that `available` may collect what came back.
    free: Cell<u32>,
    free_len: Cell<usize>,
    /// How many frames a device has.
    lent: Cell<usize>,
    /// How many frames have come back to the local list since the beginning, a frame once per return.
    returned: Cell<u64>,
}

// SAFETY: the region is shared by atomics only, and the free list is reached through this value alone.
unsafe impl Send for Pool {}

impl Pool {
    /// Maps the memory. Fails with `InvalidInput` for a shape outside the documented limits, or as `mmap` does.
    pub fn new(config: PoolConfig) -> io::Result<Pool> {
        // A size out of range is refused there; here it must only not overflow.
        Pool::with_stride(config, stride(config.frame_size.min(FRAME_SIZE_MAX)))
    }

    /// A pool whose frames lie one after the other without gaps from a page boundary on, as devices want them. The
    /// frame size must be a power of two, at least 64. Fails as [`new`](Self::new) does.
    pub fn packed(config: PoolConfig) -> io::Result<Pool> {
        if !config.frame_size.is_power_of_two() || config.frame_size < ALIGN {
            let what = "the size of packed frames must be a power of two, at least 64";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Pool::with_stride(config, config.frame_size)
    }

    fn with_stride(config: PoolConfig, stride: usize) -> io::Result<Pool> {
        let PoolConfig { frame_size, frames, huge_pages } = config;
        let bad = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        if frame_size == 0 || frame_size > FRAME_SIZE_MAX {
            return Err(bad("the frame size must be 1 to 2^31 bytes"));
        }
        if frames == 0 || frames > FRAMES_MAX {
            return Err(bad("the number of frames must be 1 to 2^32 - 2"));
        }
        let len = stride.checked_mul(frames).ok_or_else(|| bad("the pool exceeds the address space"))?;
        let mapping = Mapping::new(len, huge_pages)?;
        Ok(Pool {
            region: Region::create(mapping, frame_size, stride, frames),
            free: Cell::new(0),
            free_len: Cell::new(frames),
            lent: Cell::new(0),
            returned: Cell::new(0),
        })
    }

    /// A free frame, its range being the whole frame, or `None` if all are in use. O(1), no allocation. The content
    /// is what the last user left (zeros at first).
    #[inline]
    pub fn take(&mut self) -> Option<Frame> {
        if self.free.get() == NIL {
            self.collect();
        }
        let index = self.free.get();
        let region = self.region();
        let header = region.headers.get(index as usize)?; // NIL is outside every table
        self.free.set(header.next.load(Ordering::Relaxed));
        self.free_len.set(self.free_len.get() - 1);
        let base = region.frame_base(index);
        // SAFETY: the frame was in the free list, where only frames without references are, with their count at one.
        let hold = unsafe { Hold::first(header) };
        // SAFETY: `frame_size` initialized bytes at `base` belong to this frame, and `hold` is its only reference.
        Some(unsafe { Frame::from_parts(base, region.frame_size, hold) })
    }

    /// How many frames are free now. Collects those that came back; amortized O(1).
    pub fn available(&self) -> usize {
        self.collect();
        self.free_len.get()
    }

    /// How many frames there are.
    pub fn capacity(&self) -> usize {
        self.region().headers.len()
    }

    /// Bytes per frame.
    pub fn frame_size(&self) -> usize {
        self.region().frame_size
    }

    /// How many frames are lent to a device.
    pub fn lent(&self) -> usize {
        self.lent.get()
    }

    /// How many frames have come back since the beginning, as far as [`available`](Self::available) or
    /// [`take`](Self::take) have seen them: with it an owner can keep account of what it handed out.
    pub fn returned(&self) -> u64 {
        self.returned.get()
    }

    pub(crate) fn count_lent(&self, change: impl FnOnce(usize) -> usize) {
        self.lent.set(change(self.lent.get()));
    }

    /// Less than an eighth of the frames is free: time to copy small pieces out of large frames.
    pub fn is_low(&self) -> bool {
        let mark = self.capacity().div_ceil(8);
        // What is known to be free needs no look at the shared list.
        self.free_len.get() < mark && self.available() < mark
    }

    /// What kind of pages the memory is on.
    pub fn pages(&self) -> Pages {
        self.region().mapping.pages()
    }

    /// Has the kernel take the memory of frames that nobody has touched yet from one NUMA node: reserved 2 MiB
    /// pages as long as that node has some, others from nowhere else.
    ///
    /// # Errors
    /// `InvalidInput` if there is no such node; `Unsupported`, or what the kernel says, where there are no nodes.
    pub fn place_on(&self, node: u32) -> io::Result<()> {
        self.region().mapping.place_on(node)
    }

    /// Moves what came back to the local list. Each frame is visited once per return, so the walk is O(1) a frame.
    fn collect(&self) {
        let region = self.region();
        let head = region.returns.take_all();
        if head == NIL {
            return;
        }
        let (len, last) = region.walk(head);
        region.headers[last as usize].next.store(self.free.get(), Ordering::Relaxed);
        self.free.set(head);
        self.free_len.set(self.free_len.get() + len);
        self.returned.set(self.returned.get() + len as u64);
    }

    pub(crate) fn region_ptr(&self) -> NonNull<Region> {
        self.region
    }

    pub(crate) fn region(&self) -> &Region {
        // SAFETY: the pool holds one of the references that keep the region alive, until its drop.
        unsafe { self.region.as_ref() }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let region = self.region();
        let head = region.returns.close();
        let late = if head == NIL { 0 } else { region.walk(head).0 };
        let home = self.free_len.get() + late;
        if region.returns.leave(home + 1) == Last::Yes {
            // SAFETY: every frame is home and the pool is leaving: nobody refers to the region.
            unsafe { Region::free(self.region) };
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("frame_size", &self.frame_size())
            .field("capacity", &self.capacity())
            .field("available", &self.available())
            .field("pages", &self.pages())
            .finish()
    }
}

/// The distance between frames: an odd number of cache lines, so that the starts of 64 successive frames fall into 64
/// different sets of a 4 KiB-indexed cache, and never 1 to 63 bytes apart modulo 4,096.
fn stride(frame_size: usize) -> usize {
    let lines = frame_size.div_ceil(ALIGN);
    (lines | 1) * ALIGN
}

/// The memory of a pool and its headers. Freed by the last of the pool and its frames.
pub(crate) struct Region {
    mapping: Mapping,
    headers: Box<[Header]>,
    returns: Returns,
    frame_size: usize,
    stride: usize,
}

impl Region {
    fn create(mapping: Mapping, frame_size: usize, stride: usize, frames: usize) -> NonNull<Region> {
        let returns = Returns::new(frames);
        let region = Region { mapping, headers: Box::default(), returns, frame_size, stride };
        let mut region = NonNull::from(Box::leak(Box::new(region)));
        let count = u32::try_from(frames).expect("bounded by FRAMES_MAX");
        let next = |index: u32| if index + 1 == count { NIL } else { index + 1 };
        let headers = (0..count).map(|index| Header::in_region(region, index, next(index))).collect();
        // SAFETY: nobody else knows of the region yet.
        unsafe { region.as_mut() }.headers = headers;
        region
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.mapping.base()
    }

    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    pub(crate) fn frame_size(&self) -> usize {
        self.frame_size
    }

    pub(crate) fn header(&self, index: u32) -> Option<&Header> {
        self.headers.get(index as usize)
    }

    /// Where a frame begins.
    ///
    /// # Panics
    /// If there is no such frame.
    #[inline]
    pub(crate) fn frame_base(&self, index: u32) -> NonNull<u8> {
        let index = index as usize;
        assert!(index < self.headers.len(), "a frame is one of the region's");
        // SAFETY: `index` is below the number of frames, so the offset is inside the mapping.
        unsafe { self.mapping.base().add(index * self.stride) }
    }

    /// The length of the list that starts at `head`, and its last index.
    fn walk(&self, head: u32) -> (usize, u32) {
        let (mut len, mut last) = (1, head);
        loop {
            let next = self.headers[last as usize].next.load(Ordering::Relaxed);
            if next == NIL {
                return (len, last);
            }
            (len, last) = (len + 1, next);
        }
    }

    /// Returns a frame; frees the region if it was the last thing to keep it.
    ///
    /// # Safety
    /// `header` is in the table of `region`, its frame is out of the pool, unreferenced, and returned once.
    pub(crate) unsafe fn give_back(region: NonNull<Region>, header: NonNull<Header>) {
        // SAFETY: the frame has not been returned, so the region is alive.
        let returns = unsafe { &region.as_ref().returns };
        // A pointer, not a reference, is the argument: another thread may free the region as soon as the push is done.
        // SAFETY: the header is part of the live region.
        let header = unsafe { header.as_ref() };
        if returns.push(header.index, &header.next) == Last::Yes {
            // SAFETY: the pool is gone and this was the last frame out.
            unsafe { Region::free(region) };
        }
    }

    /// # Safety
    /// Nobody refers to the region, and this is called once.
    unsafe fn free(region: NonNull<Region>) {
        // SAFETY: the region was leaked from a box in `create`.
        drop(unsafe { Box::from_raw(region.as_ptr()) });
    }
}
