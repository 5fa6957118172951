//! Frames that are lent to a device: the pool keeps the account, so that no frame can be lent twice, lost, or reached
//! by anyone while the device has it.
//!
//! A frame is in exactly one of three places: in the pool (or on its way home), with its users as [`Frame`]s and
//! [`Chunk`](crate::Chunk)s, or lent. Lending consumes the only [`Frame`]; taking back makes a new one, once.

use std::ptr::NonNull;

use crate::frame::Frame;
use crate::hold::Hold;
use crate::pool::Pool;

impl Pool {
    /// Where the memory of the pool begins, and how many bytes its frames take together: what a device is told once.
    /// Frame `index` begins at `index` × [`stride`](Pool::stride).
    pub fn memory(&self) -> (NonNull<u8>, usize) {
        let region = self.region();
        (region.base(), region.stride() * self.capacity())
    }

    /// Bytes from one frame to the next.
    pub fn stride(&self) -> usize {
        self.region().stride()
    }

    /// Lends a free frame; its index, or `None` if all are in use.
    pub fn lend_free(&mut self) -> Option<u32> {
        let frame = self.take()?;
        self.lend(frame).ok()
    }

    /// Lends a frame of this pool that nothing else refers to; its index.
    ///
    /// # Errors
    /// The frame comes back if it is not of this pool, or if parts of it are held elsewhere.
    #[inline]
    pub fn lend(&mut self, frame: Frame) -> Result<u32, Frame> {
        let Some(header) = frame.hold().header_in(self.region_ptr()) else { return Err(frame) };
        if !header.count.is_one() {
            return Err(frame);
        }
        debug_assert!(!header.is_lent(), "a frame that is lent has no owner");
        header.set_lent(true);
        let index = header.index;
        // The count stays at one: it is the device's now.
        std::mem::forget(frame);
        self.count_lent(|lent| lent + 1);
        Ok(index)
    }

    /// Takes back a lent frame, its range being the whole frame; `None` if that frame is not lent.
    #[inline]
    pub fn take_back(&mut self, index: u32) -> Option<Frame> {
        let header = self.region().header(index).filter(|header| header.is_lent())?;
        header.set_lent(false);
        // SAFETY: the frame was lent, so nobody refers to it, it is in no list, and its count was left at one.
        let hold = unsafe { Hold::first(header) };
        self.count_lent(|lent| lent - 1);
        let region = self.region();
        // SAFETY: the frame's bytes are initialized and belong to it, and `hold` is its only reference.
        Some(unsafe { Frame::from_parts(region.frame_base(index), region.frame_size(), hold) })
    }

    /// Takes back everything that is lent, for the time after the device is gone. Returns how many there were.
    pub fn take_back_all(&mut self) -> usize {
        let count = u32::try_from(self.capacity()).expect("the number of frames is below 2^32");
        (0..count).filter_map(|index| self.take_back(index)).count()
    }
}
