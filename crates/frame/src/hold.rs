//! What keeps memory alive: a counted reference to a frame's header, or to a heap block that looks like one.

use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;

use crate::count::RefCount;
use crate::pool::Region;
use crate::spill::Account;
use crate::sync::{AtomicU32, Ordering};

/// The record of a frame, kept in a table beside the frames so that frames stay aligned and headers stay dense. Two
/// share a cache line.
#[repr(align(32))]
pub(crate) struct Header {
    pub(crate) count: RefCount,
    /// The link in the return stack or the pool's free list.
    pub(crate) next: AtomicU32,
    pub(crate) index: u32,
    /// 1 while a device has the frame. Only the pool looks at it and changes it, so nothing is ordered by it.
    lent: AtomicU32,
    /// The region that the frame belongs to; `None` for the first field of a [`Heap`].
    region: Option<NonNull<Region>>,
}

const _: () = assert!(cfg!(loom) || size_of::<Header>() == 32);

impl Header {
    pub(crate) fn in_region(region: NonNull<Region>, index: u32, next: u32) -> Header {
        Header {
            count: RefCount::new(),
            next: AtomicU32::new(next),
            index,
            lent: AtomicU32::new(0),
            region: Some(region),
        }
    }

    #[inline]
    pub(crate) fn is_lent(&self) -> bool {
        self.lent.load(Ordering::Relaxed) == 1
    }

    #[inline]
    pub(crate) fn set_lent(&self, lent: bool) {
        self.lent.store(lent.into(), Ordering::Relaxed);
    }
}

/// Memory that does not come from a pool. The header is first, so that a pointer to it is a pointer to the block.
#[repr(C)]
struct Heap {
    header: Header,
    storage: Storage,
}

enum Storage {
    /// The raw parts of a `Vec`: its address is taken while unique writers exist, so no `Vec` may claim it meanwhile. Where
    /// an account was charged for it, with the length that was.
    Raw { base: NonNull<u8>, capacity: usize, account: Option<(Arc<Account>, usize)> },
    /// Only ever read.
    Bytes(Bytes),
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Storage::Raw { base, capacity, account } = self {
            // SAFETY: the parts are those of a `Vec<u8>` given up in `Hold::raw`, and length 0 is within capacity.
            drop(unsafe { Vec::from_raw_parts(base.as_ptr(), 0, *capacity) });
            if let Some((account, len)) = account {
                account.settle(*len);
            }
        }
    }
}

/// One counted reference; `None` for static bytes, which need none.
pub(crate) struct Hold(Option<NonNull<Header>>);

// SAFETY: the count and the return stack are atomic, and the header is otherwise read only while shared; whoever drops
// the last reference owns the frame or block alone, and `Region`, `Vec<u8>` and `Bytes` may all be dropped anywhere.
unsafe impl Send for Hold {}
// SAFETY: as above; `&Hold` gives only `clone`.
unsafe impl Sync for Hold {}

impl Hold {
    /// For static bytes.
    pub(crate) const NONE: Hold = Hold(None);

    /// The first reference to a frame.
    ///
    /// # Safety
    /// The header is in a live region's table, its frame is in no list and nobody refers to it, and its count is one.
    pub(crate) unsafe fn first(header: &Header) -> Hold {
        Hold(Some(NonNull::from_ref(header)))
    }

    /// The header of the frame, if it belongs to that region.
    #[inline]
    pub(crate) fn header_in(&self, region: NonNull<Region>) -> Option<&Header> {
        let header = self.0?;
        // SAFETY: `self` counts as a reference, so the header is alive.
        let header = unsafe { header.as_ref() };
        (header.region == Some(region)).then_some(header)
    }

    /// Takes over a vector's memory: its address, and the reference that frees it.
    pub(crate) fn vec(vec: Vec<u8>) -> (NonNull<u8>, Hold) {
        Hold::raw(vec, None)
    }

    /// The same for a vector whose length an account was charged for.
    pub(crate) fn counted(vec: Vec<u8>, account: Arc<Account>) -> (NonNull<u8>, Hold) {
        let len = vec.len();
        Hold::raw(vec, Some((account, len)))
    }

    fn raw(vec: Vec<u8>, account: Option<(Arc<Account>, usize)>) -> (NonNull<u8>, Hold) {
        let mut vec = std::mem::ManuallyDrop::new(vec);
        let base = NonNull::new(vec.as_mut_ptr()).expect("a vector's pointer is never null");
        (base, Hold::heap(Storage::Raw { base, capacity: vec.capacity(), account }))
    }

    /// A reference that keeps `bytes` alive.
    pub(crate) fn bytes(bytes: Bytes) -> Hold {
        Hold::heap(Storage::Bytes(bytes))
    }

    fn heap(storage: Storage) -> Hold {
        let header =
            Header { count: RefCount::new(), next: AtomicU32::new(0), index: 0, lent: AtomicU32::new(0), region: None };
        let block = NonNull::from(Box::leak(Box::new(Heap { header, storage })));
        Hold(Some(block.cast()))
    }

    /// The `Bytes` behind this reference, if that is what it keeps alive.
    pub(crate) fn as_bytes(&self) -> Option<&Bytes> {
        let header = self.0?;
        // SAFETY: `self` counts as a reference, so the header is alive.
        let in_region = unsafe { header.as_ref() }.region.is_some();
        if in_region {
            return None;
        }
        // SAFETY: a header without a region is the first field of a `Heap` (repr C), alive as long as `self`.
        match &unsafe { header.cast::<Heap>().as_ref() }.storage {
            Storage::Bytes(bytes) => Some(bytes),
            Storage::Raw { .. } => None,
        }
    }
}

impl Clone for Hold {
    #[inline]
    fn clone(&self) -> Hold {
        if let Some(header) = self.0 {
            // SAFETY: `self` counts as a reference, so the header is alive.
            unsafe { header.as_ref() }.count.retain();
        }
        Hold(self.0)
    }
}

impl Drop for Hold {
    #[inline]
    fn drop(&mut self) {
        let Some(header) = self.0 else { return };
        // SAFETY: `self` counts as a reference until the release.
        if unsafe { header.as_ref() }.count.release() {
            // SAFETY: that was the last reference.
            unsafe { reclaim(header) };
        }
    }
}

/// Returns a frame to its pool, or frees a heap block.
///
/// # Safety
/// The caller just released the last reference to `header`.
unsafe fn reclaim(header: NonNull<Header>) {
    // SAFETY: the frame has not been returned yet, and that keeps its region, and the header in it, alive; a heap
    // block is freed below at the earliest.
    let shared = unsafe { header.as_ref() };
    match shared.region {
        Some(region) => {
            shared.count.reset();
            // SAFETY: the frame is out of the pool (its last reference just went) and this is its only return.
            unsafe { Region::give_back(region, header) };
        }
        None => {
            // SAFETY: a header without a region is the first field of a `Heap` leaked by `Hold::heap`, and no
            // reference is left.
            drop(unsafe { Box::from_raw(header.cast::<Heap>().as_ptr()) });
        }
    }
}
