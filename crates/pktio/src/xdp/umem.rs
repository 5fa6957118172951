//! The memory that packets are exchanged in, and who has which frame of it.
//!
//! A frame is the pool's, a value ([`Frame`]), or the kernel's. Only this file turns a frame into an address for the
//! kernel, and an address from the kernel into a frame; the pool refuses to lend what somebody refers to and to take
//! back what is not lent, so a wrong or repeated address of the kernel gives no frame instead of a second owner.

use std::io;

use warpline_frame::{Frame, Pages, Pool, PoolConfig};

use super::checksums::{METADATA_LEN, Offload};
use crate::pools::place;

/// What the kernel leaves free in front of a received packet (`XDP_PACKET_HEADROOM`).
pub(super) const KERNEL_HEADROOM: usize = 256;

/// The frames of one queue.
#[derive(Debug)]
pub(super) struct Umem {
    pool: Pool,
    frame_size: usize,
    /// Frames in the fill ring or the RX ring.
    receiving: usize,
    /// Frames in the TX ring or the completion ring.
    sending: usize,
    /// Frames that were handed on, since the beginning; each comes back to the pool when its last user drops it.
    /// Received ones, and those that guests build packets in.
    handed_on: u64,
}

/// Where the frames of a queue are, each place counted by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) free: usize,
    pub(super) receiving: usize,
    pub(super) sending: usize,
    /// Handed on and not come back.
    pub(super) with_program: usize,
}

impl Umem {
    /// Maps `frames` frames of `frame_size` bytes (2,048 or 4,096), on huge pages if there are any, and on the NUMA node
    /// that is named. Fails as mapping does, or if there is no such node.
    pub(super) fn new(frame_size: usize, frames: usize, node: Option<u32>) -> io::Result<Umem> {
        assert!(matches!(frame_size, 2048 | 4096), "sizes that AF_XDP has in aligned mode");
        // All of it is locked into memory in any case, and each packet touches another part.
        let pool = place(Pool::packed(PoolConfig { frame_size, frames, huge_pages: true })?, node)?;
        Ok(Umem { pool, frame_size, receiving: 0, sending: 0, handed_on: 0 })
    }

    /// What the kernel is told of the memory.
    pub(super) fn registration(&self, checksums: Offload) -> libc::xdp_umem_reg {
        let (flags, tx_metadata_len) = match checksums {
            Offload::Own => (0, 0),
            Offload::Sender => (libc::XDP_UMEM_TX_METADATA_LEN, METADATA_LEN as u32),
            Offload::Kernel => (libc::XDP_UMEM_TX_METADATA_LEN | libc::XDP_UMEM_TX_SW_CSUM, METADATA_LEN as u32),
        };
        let (base, len) = self.pool.memory();
        libc::xdp_umem_reg {
            addr: base.as_ptr() as u64,
            len: len as u64,
            chunk_size: u32::try_from(self.frame_size).expect("frames are small"),
            headroom: 0,
            flags,
            tx_metadata_len,
        }
    }

    pub(super) fn frame_size(&self) -> usize {
        self.frame_size
    }

    pub(super) fn pages(&self) -> Pages {
        self.pool.pages()
    }

    /// Whether the program holds so much that what arrives should be copied out.
    #[inline]
    pub(super) fn is_low(&self) -> bool {
        self.pool.is_low()
    }

    /// How many frames are in the TX ring or the completion ring.
    #[inline]
    pub(super) fn sending(&self) -> usize {
        self.sending
    }

    /// A frame for sending goes to another worker.
    #[inline]
    pub(super) fn hand_on(&mut self) {
        self.handed_on += 1;
    }

    /// … and came back, in a packet. Those that the worker drops go home as received ones do.
    #[inline]
    pub(super) fn take_over(&mut self) {
        self.handed_on -= 1;
    }

    /// A free frame.
    pub(super) fn take(&mut self) -> Option<Frame> {
        self.pool.take()
    }

    /// A free frame for the fill ring.
    #[inline]
    pub(super) fn lend_to_fill(&mut self) -> Option<u64> {
        let index = self.pool.lend_free()?;
        self.receiving += 1;
        Some(self.address(index))
    }

    /// A received packet. `None` if the kernel's address is not of a frame that it had.
    #[inline]
    pub(super) fn received(&mut self, address: u64, len: u32) -> Option<Frame> {
        let mut frame = self.take_back(address)?;
        self.receiving -= 1;
        self.handed_on += 1;
        let start = address as usize % self.frame_size;
        if start + len as usize > frame.len() {
            return None;
        }
        frame.advance(start);
        frame.truncate(len as usize);
        Some(frame)
    }

    /// Gives a frame away to be sent, from `start` on. It comes back if something else refers to it.
    #[inline]
    pub(super) fn lend_to_send(&mut self, frame: Frame, start: usize) -> Result<u64, Frame> {
        let index = self.pool.lend(frame)?;
        self.sending += 1;
        Ok(self.address(index) + start as u64)
    }

    /// A frame that was sent. `None` if the kernel's address is not of a frame that it had.
    #[inline]
    pub(super) fn sent(&mut self, address: u64) -> Option<Frame> {
        let frame = self.take_back(address)?;
        self.sending -= 1;
        Some(frame)
    }

    /// Where the frames are; those that are missing in the sum are kept for sending.
    pub(super) fn places(&self) -> Places {
        debug_assert_eq!(self.pool.lent(), self.receiving + self.sending, "what is lent is in some ring");
        let free = self.pool.available();
        // After that look: what has come back by then is in both counts.
        let out = self.handed_on.wrapping_sub(self.pool.returned());
        let with_program = usize::try_from(out).unwrap_or(usize::MAX);
        Places { free, receiving: self.receiving, sending: self.sending, with_program }
    }

    pub(super) fn capacity(&self) -> usize {
        self.pool.capacity()
    }

    /// The kernel has nothing any more: its end of the memory is closed.
    pub(super) fn kernel_is_gone(&mut self) {
        let returned = self.pool.take_back_all();
        debug_assert_eq!(returned, self.receiving + self.sending, "what was lent is what was in the rings");
        // They go home as what the program had does.
        self.handed_on += returned as u64;
        (self.receiving, self.sending) = (0, 0);
    }

    fn address(&self, index: u32) -> u64 {
        u64::from(index) * self.frame_size as u64
    }

    fn take_back(&mut self, address: u64) -> Option<Frame> {
        self.pool.take_back(u32::try_from(address / self.frame_size as u64).ok()?)
    }
}
