//! Values that stay where they are, on huge pages once there are many.
//!
//! What a worker looks at of thousands of connections in turn is in no cache any more, and on ordinary pages of 4 KiB the processor does not
//! know where it is either: each look begins with a walk through the tables of pages, which under a hypervisor are two. A huge page
//! of 2 MiB holds hundreds of such values. And since the address of a value follows from its number, nothing has to be read before it can
//! be asked for ahead of time.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use crate::ahead::prefetch_line_near;

/// Bytes of a block: those of a huge page.
const BLOCK: usize = 2 << 20;

/// The first block becomes a huge page when this part of it is in use: an endpoint with a few connections needs no 2 MiB.
const HUGE_FROM: usize = 4;

/// Bytes of a cache line.
const LINE: usize = 64;

/// A vector that grows by blocks of 2 MiB and never moves its values. Not for values that are larger than that.
///
/// Values of whole cache lines lie an odd number of lines apart. The sets of a cache are a power of two: at a distance of 4,096 bytes, say, the
/// same field of each value would lie in one set of 64 of the first level, which keeps eight of them.
#[derive(Debug)]
pub struct Blocks<T> {
    blocks: Vec<NonNull<T>>,
    len: usize,
    /// The values are its own.
    owns: std::marker::PhantomData<T>,
}

// SAFETY: the values are the vector's own, as with `Vec`.
unsafe impl<T: Send> Send for Blocks<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Blocks<T> {}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), len: 0, owns: std::marker::PhantomData }
    }
}

impl<T> Blocks<T> {
    /// Values of a block.
    pub const ROOM: usize = {
        assert!(size_of::<T>() > 0 && Self::STRIDE <= BLOCK && align_of::<T>() <= BLOCK);
        BLOCK / Self::STRIDE
    };

    /// Bytes from one value to the next.
    pub const STRIDE: usize = {
        let lines = size_of::<T>() / LINE;
        // A larger alignment leaves no choice.
        let whole = size_of::<T>().is_multiple_of(LINE) && align_of::<T>() <= LINE;
        if whole && lines.is_multiple_of(2) { size_of::<T>() + LINE } else { size_of::<T>() }
    };

    /// Bytes of a block.
    pub const BYTES: usize = BLOCK;

    const LAYOUT: Layout = match Layout::from_size_align(BLOCK, BLOCK) {
        Ok(layout) => layout,
        Err(_) => panic!("a block is aligned to its size, which is a power of two"),
    };

    /// How many values there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a value behind the others. Allocates a block with each first one of it.
    pub fn push(&mut self, value: T) {
        let (block, at) = (self.len / Self::ROOM, self.len % Self::ROOM);
        if block == self.blocks.len() {
            // SAFETY: the layout has a size above zero.
            let memory = unsafe { alloc(Self::LAYOUT) };
            let Some(memory) = NonNull::new(memory.cast()) else { handle_alloc_error(Self::LAYOUT) };
            self.blocks.push(memory);
        }
        let is_due = if block == 0 { at == Self::ROOM / HUGE_FROM } else { at == 0 };
        if is_due {
            make_huge(self.blocks[block].cast());
        }
        // SAFETY: `at` is below `ROOM`.
        let place = unsafe { Self::within(self.blocks[block], at) };
        // SAFETY: the place is within the block, is aligned, since the block and the distance of values are, and holds no value yet.
        unsafe { place.write(value) };
        self.len += 1;
    }

    /// Where the value lies that is the `at`-th of a block.
    ///
    /// # Safety
    /// `at` has to be below [`ROOM`](Self::ROOM).
    #[inline]
    unsafe fn within(block: NonNull<T>, at: usize) -> NonNull<T> {
        // SAFETY: below `ROOM` the place lies in the block.
        unsafe { block.byte_add(at * Self::STRIDE) }
    }

    /// Where the value with this number is, if there is one.
    #[inline]
    fn place(&self, index: usize) -> Option<NonNull<T>> {
        if index >= self.len {
            return None;
        }
        let block = self.blocks.get(index / Self::ROOM)?;
        // SAFETY: the remainder is below `ROOM`.
        Some(unsafe { Self::within(*block, index % Self::ROOM) })
    }

    /// The value with this number.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        // SAFETY: there is a value below `len`, and the borrow of the vector keeps it from being changed or dropped.
        self.place(index).map(|place| unsafe { place.as_ref() })
    }

    /// The value with this number, to be changed.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        // SAFETY: there is a value below `len`, and the unique borrow of the vector keeps everybody else away.
        self.place(index).map(|mut place| unsafe { place.as_mut() })
    }

    /// Has the cache line that lies `offset` bytes behind the beginning of a value brought into the caches, the first level excepted, which
    /// would be slower where there are many lines. Reads nothing, not even to find the value.
    #[inline]
    pub fn prefetch(&self, index: usize, offset: usize) {
        if let Some(place) = self.place(index) {
            prefetch_line_near(place.as_ptr().cast::<u8>().wrapping_add(offset));
        }
    }

    /// Drops the values from `len` on, and gives back the blocks without any.
    pub fn truncate(&mut self, len: usize) {
        while self.len > len {
            self.len -= 1;
            let (block, at) = (self.len / Self::ROOM, self.len % Self::ROOM);
            // SAFETY: `at` is below `ROOM`.
            let place = unsafe { Self::within(self.blocks[block], at) };
            // SAFETY: the value was the last one, and is not counted any more: nobody reaches it again.
            unsafe { place.drop_in_place() };
        }
        for block in self.blocks.drain(self.len.div_ceil(Self::ROOM)..) {
            // SAFETY: allocated with this layout, and no value is left in it.
            unsafe { dealloc(block.as_ptr().cast(), Self::LAYOUT) };
        }
    }
}

impl<T> Drop for Blocks<T> {
    fn drop(&mut self) {
        self.truncate(0);
    }
}

/// Asks the kernel for a huge page where a block is: at once, also for what has been touched already (Linux 6.1); where that is not to be had,
/// whenever it gets to it. Only a wish.
#[cfg(all(target_os = "linux", not(miri)))]
fn make_huge(block: NonNull<u8>) {
    for advice in [libc::MADV_HUGEPAGE, libc::MADV_COLLAPSE] {
        // SAFETY: the range is a block of ours, and neither advice changes its content.
        unsafe { libc::madvise(block.as_ptr().cast(), BLOCK, advice) };
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn make_huge(_block: NonNull<u8>) {}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A value of which a block holds eight, that says when it is dropped.
    struct Large<'a> {
        number: usize,
        _rest: [u8; BLOCK / 8 - LINE - 16],
        dropped: &'a Cell<usize>,
    }

    impl Drop for Large<'_> {
        fn drop(&mut self) {
            self.dropped.set(self.dropped.get() + 1);
        }
    }

    fn large(number: usize, dropped: &Cell<usize>) -> Large<'_> {
        Large { number, _rest: [0; BLOCK / 8 - LINE - 16], dropped }
    }

    #[test]
    fn values_of_whole_lines_are_spread_over_the_sets_of_a_cache() {
        #[repr(align(64))]
        struct Lines<const BYTES: usize>([u8; BYTES]);
        assert_eq!((Blocks::<Lines<4096>>::STRIDE, Blocks::<Lines<4096>>::ROOM), (4160, 504));
        assert_eq!((Blocks::<Lines<4160>>::STRIDE, Blocks::<Lines<128>>::STRIDE), (4160, 192));
        assert_eq!((Blocks::<u64>::STRIDE, Blocks::<[u64; 5]>::STRIDE), (8, 40));
        let mut blocks = Blocks::default();
        (0..1_000).for_each(|_| blocks.push(Lines([0; 4096])));
        let sets = |count| {
            let set = |index| blocks.get(index).map(|value| std::ptr::from_ref(value).addr() / LINE % 64);
            (0..count).map(set).collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!((sets(16), sets(64), sets(1_000)), (16, 64, 64));
    }

    #[test]
    fn values_stay_where_they_are_and_are_dropped_once() {
        let dropped = Cell::new(0);
        let mut blocks = Blocks::default();
        assert!(blocks.is_empty() && blocks.get(0).is_none());
        let mut places = Vec::new();
        for number in 0..20 {
            blocks.push(large(number, &dropped));
            places.push(std::ptr::from_ref(blocks.get(number).unwrap()));
        }
        assert_eq!(Blocks::<Large<'_>>::ROOM, 8);
        for (number, place) in places.iter().enumerate() {
            let value = blocks.get_mut(number).unwrap();
            assert_eq!((value.number, std::ptr::from_mut(value).cast_const()), (number, *place));
            blocks.prefetch(number, 64);
        }
        blocks.prefetch(20, 0);
        assert!(blocks.get(20).is_none());
        assert_eq!(blocks.blocks.len(), 3);
        blocks.truncate(8);
        assert_eq!((blocks.len(), blocks.blocks.len(), dropped.get()), (8, 1, 12));
        assert!(blocks.get(7).is_some() && blocks.get_mut(8).is_none());
        blocks.push(large(8, &dropped));
        assert_eq!(blocks.get(8).map(|value| value.number), Some(8));
        drop(blocks);
        assert_eq!(dropped.get(), 21);
    }
}
