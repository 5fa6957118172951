//! The buffers that the kernel receives into: large frames in a ring that both sides see.
//!
//! The kernel takes them in turn. Few are offered while few are needed, so that they stay in the caches; a burst that these do not
//! suffice for brings the others in.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use warpline_frame::Frame;

use super::ring::Ring;
use super::setup;
use crate::limits::{URING_BUFFERS, URING_CALM_LOOKS, URING_HOT_BUFFERS};
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
    /// How many it is to have at most.
    wanted: usize,
    /// Buffers beyond that, the one used last on top.
    spare: Vec<u16>,
    /// Looks in a row that few buffers would have sufficed for.
    calm: u32,
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
            wanted: URING_HOT_BUFFERS.min(count),
            spare: Vec::with_capacity(count),
            calm: 0,
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

    /// The kernel had none left when the next message came: it gets all that are here.
    pub(super) fn starved(&mut self) {
        (self.wanted, self.calm) = (self.frames.len(), 0);
        while let Some(id) = self.spare.pop() {
            self.offer(id);
        }
        self.publish();
    }

    /// A look brought so many messages.
    pub(super) fn looked(&mut self, messages: usize) {
        self.calm = if messages <= URING_HOT_BUFFERS / 2 { self.calm + 1 } else { 0 };
        if self.calm >= URING_CALM_LOOKS {
            (self.wanted, self.calm) = (URING_HOT_BUFFERS.min(self.frames.len()), 0);
        }
    }

    /// The frame behind a number, for a buffer that the kernel has filled.
    pub(super) fn frame(&mut self, id: u16) -> Option<&mut Frame> {
        self.frames.get_mut(usize::from(id))
    }

    /// Takes a buffer back that was read, and offers it to the kernel unless that has enough; it sees it after
    /// [`publish`](Self::publish).
    pub(super) fn put(&mut self, id: u16) {
        if self.offered < self.wanted { self.offer(id) } else { self.spare.push(id) }
    }

    fn offer(&mut self, id: u16) {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::IoConfig;

    /// Buffers of a ring, or `None`, said in one line.
    fn buffers() -> Option<(Ring, Buffers)> {
        let ring = Ring::new(8, 64, Duration::ZERO).map_err(|error| println!("skipped: {error}")).ok()?;
        let mut pools = Pools::new(&IoConfig::default(), 0).expect("the pools are small");
        let buffers = Buffers::new(&ring, &mut pools, URING_BUFFERS).expect("the ring takes them");
        Some((ring, buffers))
    }

    /// The kernel fills as many, and they are read.
    fn used(buffers: &mut Buffers, ids: std::ops::Range<u16>) {
        ids.clone().for_each(|_| buffers.taken());
        buffers.looked(ids.len());
        ids.for_each(|id| buffers.put(id));
    }

    #[test]
    fn few_buffers_are_offered_until_they_do_not_suffice_and_again_when_they_would() {
        // In this order, so that the ring goes before the memory that it knows.
        let Some((ring, mut buffers)) = buffers() else { return };
        assert_eq!(buffers.offered(), URING_HOT_BUFFERS);
        for _ in 0..10 * URING_CALM_LOOKS {
            used(&mut buffers, 0..URING_HOT_BUFFERS as u16);
        }
        assert_eq!(buffers.offered(), URING_HOT_BUFFERS);
        buffers.starved();
        assert_eq!(buffers.offered(), URING_BUFFERS);
        // Now and then a burst: they stay.
        for _ in 0..10 {
            (1..URING_CALM_LOOKS).for_each(|_| used(&mut buffers, 0..1));
            used(&mut buffers, 0..URING_BUFFERS as u16);
        }
        assert_eq!(buffers.offered(), URING_BUFFERS);
        for look in 0..2 * URING_BUFFERS as u16 {
            used(&mut buffers, look % 64..look % 64 + 1);
        }
        assert_eq!(buffers.offered(), URING_HOT_BUFFERS, "one fewer with each look after the last calm one");
        assert_eq!(buffers.offered() + buffers.spare.len(), URING_BUFFERS);
        drop(ring);
    }
}
