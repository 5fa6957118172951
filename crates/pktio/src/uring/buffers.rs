//! The buffers that the kernel receives into: large frames in a ring that both sides see.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use warpline_frame::Frame;

use super::ring::Ring;
use super::setup;
use crate::limits::URING_BUFFERS;
use crate::pools::Pools;

/// The group of buffers; a ring has only this one.
pub(super) const GROUP: u16 = 0;

/// The memory that the kernel reads buffers from: it wants whole pages.
#[repr(C, align(4096))]
struct Shared([u8; 4096]);

const _: () = assert!(URING_BUFFERS * size_of::<BufRingEntry>() <= size_of::<Shared>());
const _: () = assert!(URING_BUFFERS.is_power_of_two());

/// The frames, each with the number under which the kernel knows it. The kernel writes to a frame from when it was
/// offered until a completion names it; in between nothing here looks into it.
pub(super) struct Buffers {
    shared: Box<Shared>,
    frames: Vec<Frame>,
    /// Buffers offered so far, modulo 2^16.
    tail: u16,
    /// Buffers that the kernel has now.
    offered: usize,
}

impl Buffers {
    /// Takes frames from the pools and tells the ring of them. Fails as the kernel does, in words.
    pub(super) fn new(ring: &Ring, pools: &mut Pools, count: usize) -> io::Result<Buffers> {
        let frames: Option<Vec<Frame>> = (0..count).map(|_| pools.take_large()).collect();
        let mut buffers = Buffers {
            shared: Box::new(Shared([0; 4096])),
            frames: frames.ok_or(io::ErrorKind::OutOfMemory)?,
            tail: 0,
            offered: 0,
        };
        let (address, entries) = (buffers.shared.0.as_ptr() as u64, count as u16);
        // SAFETY: the memory is page-aligned, large enough by the assertions above, and stays until the ring is closed:
        // `Uring` drops its ring first, or leaks the memory.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, entries, GROUP, 0) }.map_err(setup::explain)?;
        for id in 0..count as u16 {
            buffers.put(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// How many the kernel has.
    pub(super) fn offered(&self) -> usize {
        self.offered
    }

    /// The kernel has filled this buffer: it is ours again.
    pub(super) fn taken(&mut self) {
        self.offered -= 1;
    }

    /// The frame behind a number, for a buffer that the kernel has filled.
    pub(super) fn frame(&mut self, id: u16) -> Option<&mut Frame> {
        self.frames.get_mut(usize::from(id))
    }

    /// Offers a buffer to the kernel; it sees it after [`publish`](Self::publish).
    pub(super) fn put(&mut self, id: u16) {
        let frame = &mut self.frames[usize::from(id)];
        let (address, len) = (frame.as_mut_ptr() as u64, frame.len() as u32);
        let place = usize::from(self.tail) & (self.frames.len() - 1);
        let entries = self.shared.0.as_mut_ptr().cast::<BufRingEntry>();
        // SAFETY: the place is below the number of entries that the memory was registered for.
        let entry = unsafe { entries.add(place) };
        // SAFETY: entries are plain integers, written here alone; the kernel reads them once the tail has passed them.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(len);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        self.offered += 1;
    }

    /// Lets the kernel see what was offered.
    pub(super) fn publish(&mut self) {
        let entries = self.shared.0.as_mut_ptr().cast::<BufRingEntry>();
        // SAFETY: this is the first entry of the ring, in whose reserved field the tail lies.
        let tail = unsafe { BufRingEntry::tail(entries) }.cast_mut();
        // SAFETY: aligned and valid as a field of an entry; the kernel reads it with acquire semantics.
        let tail = unsafe { AtomicU16::from_ptr(tail) };
        tail.store(self.tail, Ordering::Release);
    }
}
