//! The frames that reception uses, and which data goes into which.

use std::io;
use std::net::{IpAddr, SocketAddr};

use warpline_frame::{Frame, Pages, Pool, PoolConfig, Spill};

use crate::config::IoConfig;
use crate::limits::{LARGE_FRAME, MEDIUM_FRAME, RECV_BATCH, SMALL_FRAME};
use crate::meta::{Ecn, Received};
use crate::stats::{Stat, StatsHandle};

/// What the kernel says about a message in a receive buffer.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) len: usize,
    pub(crate) segment_size: usize,
    pub(crate) remote: SocketAddr,
    pub(crate) local: Option<IpAddr>,
    pub(crate) ecn: Option<Ecn>,
}

impl Arrival {
    fn with(&self, frame: Frame) -> Received {
        let Arrival { segment_size, remote, local, ecn, .. } = *self;
        Received { frame, segment_size, remote, local, ecn }
    }
}

/// One pool per frame class, and the heap for when they are empty.
pub(crate) struct Pools {
    /// Bytes of a large frame before the payload, where a backend has the kernel write what it says about it.
    head: usize,
    large: Pool,
    medium: Pool,
    small: Pool,
    spill: Spill,
}

/// The pool on the NUMA node that was asked for, if one was.
pub(crate) fn place(pool: Pool, node: Option<u32>) -> io::Result<Pool> {
    node.map_or(Ok(()), |node| pool.place_on(node))?;
    Ok(pool)
}

impl Pools {
    /// Large frames have room for `head` bytes (a multiple of 64) before the payload. Fails with `InvalidInput` if a
    /// class is too small to work with, or as memory mapping does.
    pub(crate) fn new(config: &IoConfig, head: usize) -> io::Result<Pools> {
        if config.large_frames < 2 * RECV_BATCH {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too few large frames for two receive batches"));
        }
        let pool = |frame_size, frames, huge_pages| {
            let pool = Pool::new(PoolConfig { frame_size, frames, huge_pages })?;
            place(pool, config.numa_node)
        };
        Ok(Pools {
            head,
            large: pool(head + LARGE_FRAME, config.large_frames, config.huge_pages)?,
            medium: pool(MEDIUM_FRAME, config.medium_frames, false)?,
            small: pool(SMALL_FRAME, config.small_frames, false)?,
            spill: Spill::new(config.spill_bytes),
        })
    }

    /// A large frame for the kernel to write to.
    pub(crate) fn take_large(&mut self) -> Option<Frame> {
        self.large.take()
    }

    pub(crate) fn pages(&self) -> Pages {
        self.large.pages()
    }

    /// Where data goes that no pool has room for.
    pub(crate) fn spill(&self) -> &Spill {
        &self.spill
    }

    /// Hands the message in `slot`, behind the head, on. Afterwards `slot` is free to be written again: either its content
    /// was copied (a small piece, or large frames are running out), or another frame took its place, or, when there
    /// is no memory at all, the content was dropped.
    ///
    /// A large frame goes only to a message that fills a good part of it, and a small piece never takes one as long as there
    /// is memory elsewhere: what is held for long holds about as much memory as it has bytes.
    pub(crate) fn deliver(&mut self, slot: &mut Frame, arrival: Arrival, out: &mut Vec<Received>, stats: &StatsHandle) {
        if arrival.len == 0 || arrival.segment_size == 0 || self.head + arrival.len > slot.len() {
            stats.add(Stat::DropRxTruncated, 1);
            return;
        }
        let count = arrival.len.div_ceil(arrival.segment_size);
        let data = &slot[self.head..self.head + arrival.len];
        let sparing = arrival.len < MEDIUM_FRAME || self.large.is_low();
        if sparing && (self.copy_out(data, &arrival, out) || self.copy_small(data, &arrival, out)) {
            stats.add(Stat::RxCopied, 1);
        } else if sparing && self.copy_to_heap(data, &arrival, out) {
            stats.add(Stat::RxSpilled, count);
        } else if let Some(fresh) = self.large.take() {
            let mut full = std::mem::replace(slot, fresh);
            full.advance(self.head);
            full.truncate(arrival.len);
            out.push(arrival.with(full));
        } else {
            stats.add(Stat::DropRxNoMemory, count);
            return;
        }
        stats.add(Stat::RxTrains, 1);
        stats.add(Stat::RxDatagrams, count);
        stats.add(Stat::RxBytes, arrival.len);
    }

    /// Copies a message into a frame that fits it, or into medium ones, cut between datagrams; all of it or nothing.
    fn copy_out(&mut self, data: &[u8], arrival: &Arrival, out: &mut Vec<Received>) -> bool {
        if data.len() <= SMALL_FRAME
            && let Some(frame) = self.small.take()
        {
            out.push(arrival.with(filled(frame, data)));
            return true;
        }
        copy_cut(&mut self.medium, data, arrival, out)
    }

    /// Copies a message into small frames, cut between datagrams; all of it or nothing.
    fn copy_small(&mut self, data: &[u8], arrival: &Arrival, out: &mut Vec<Received>) -> bool {
        copy_cut(&mut self.small, data, arrival, out)
    }

    /// Copies a message to the heap, each datagram by itself, so that one which is held holds no other; all of it or
    /// nothing.
    fn copy_to_heap(&mut self, data: &[u8], arrival: &Arrival, out: &mut Vec<Received>) -> bool {
        let before = out.len();
        for datagram in data.chunks(arrival.segment_size) {
            let Some(frame) = self.spill.copy(datagram) else {
                out.truncate(before);
                return false;
            };
            out.push(arrival.with(frame));
        }
        true
    }
}

/// Copies a message into frames of the pool, as many datagrams into each as fit; all of it or nothing.
fn copy_cut(pool: &mut Pool, data: &[u8], arrival: &Arrival, out: &mut Vec<Received>) -> bool {
    let size = pool.frame_size();
    let piece = if data.len() <= size { data.len() } else { size / arrival.segment_size * arrival.segment_size };
    if piece == 0 || pool.available() < data.len().div_ceil(piece) {
        return false;
    }
    for piece in data.chunks(piece) {
        let frame = pool.take().expect("the pool was asked for as many");
        out.push(arrival.with(filled(frame, piece)));
    }
    true
}

fn filled(mut frame: Frame, data: &[u8]) -> Frame {
    frame.truncate(data.len());
    frame.copy_from_slice(data);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IoKind;

    fn arrival(len: usize, segment_size: usize) -> Arrival {
        Arrival { len, segment_size, remote: ([127, 0, 0, 1], 1).into(), local: None, ecn: None }
    }

    fn pools(large: usize, medium: usize, small: usize) -> Pools {
        pools_with(large, medium, small, 0)
    }

    fn pools_with(large: usize, medium: usize, small: usize, spill_bytes: usize) -> Pools {
        let (large_frames, medium_frames, small_frames) = (large, medium, small);
        let config = IoConfig { large_frames, medium_frames, small_frames, spill_bytes, ..Default::default() };
        Pools::new(&config, 0).expect("the pools are small")
    }

    fn slot(pools: &mut Pools) -> Frame {
        let mut slot = pools.take_large().expect("the pool is fresh");
        for (n, byte) in slot.iter_mut().enumerate() {
            *byte = (n / 1000) as u8;
        }
        slot
    }

    #[test]
    fn each_size_goes_where_it_pins_little() {
        let mut pools = pools(32, 4, 4);
        let (mut slot, stats, mut out) = (slot(&mut pools), StatsHandle::new(IoKind::Memory), Vec::new());
        for len in [1, 2048, 2049, 16_383, 16_384, 65_000] {
            pools.deliver(&mut slot, arrival(len, 1000), &mut out, &stats);
        }
        let free = (pools.small.available(), pools.medium.available(), pools.large.available());
        assert_eq!(free, (2, 2, 29), "two of each class are in use, and the slot");
        let stats = stats.snapshot();
        assert_eq!((stats.rx_copied, stats.rx_trains, stats.rx_datagrams), (4, 6, 1 + 3 + 3 + 17 + 17 + 65));
        assert!(out.iter().all(|r| r.frame.as_ptr() != slot.as_ptr()));
    }

    #[test]
    fn large_trains_are_cut_and_copied_when_large_frames_run_out() {
        let mut pools = pools(32, 5, 1);
        let (mut slot, stats, mut out) = (slot(&mut pools), StatsHandle::new(IoKind::Memory), Vec::new());
        let held: Vec<Frame> = (0..28).map(|_| pools.take_large().expect("there are 31")).collect();
        slot[..60_000].iter_mut().enumerate().for_each(|(n, byte)| *byte = (n / 1452) as u8);
        pools.deliver(&mut slot, arrival(60_000, 1452), &mut out, &stats);
        assert_eq!(out.len(), 4, "60,000 bytes in pieces of 11 × 1,452");
        let datagrams: Vec<Frame> = out.drain(..).flat_map(Received::datagrams).collect();
        assert_eq!(datagrams.len(), 42);
        assert!(datagrams.iter().enumerate().all(|(n, d)| d.iter().all(|&b| b == n as u8)));
        // One medium frame is left: not enough, so the next train takes the large frames that are left, then none.
        let train = || arrival(60_000, 1452);
        let mut kept = Vec::new();
        for _ in 0..4 {
            pools.deliver(&mut slot, train(), &mut kept, &stats);
        }
        assert_eq!(kept.len(), 3);
        assert_eq!(stats.snapshot().drop_rx_no_memory, 42);
        drop((held, datagrams));
        pools.deliver(&mut slot, train(), &mut kept, &stats);
        assert_eq!(kept.len(), 4, "reception goes on when frames come back");
    }

    #[test]
    fn pieces_that_are_held_leave_large_frames_to_large_trains() {
        // Blocks of three datagrams, kept by a program for ever.
        let mut pools = pools_with(32, 4, 6, 100_000);
        let (mut slot, stats, mut kept) = (slot(&mut pools), StatsHandle::new(IoKind::Memory), Vec::new());
        for _ in 0..20 {
            pools.deliver(&mut slot, arrival(4200, 1452), &mut kept, &stats);
        }
        assert_eq!(pools.large.available(), 31, "only the slot is in use");
        let counts = stats.snapshot();
        assert_eq!(
            (counts.rx_copied, counts.rx_spilled),
            (4 + 2, 3 * 14),
            "medium frames, then small ones, then the heap"
        );
        assert!(pools.spill().used() > 14 * 4200 && pools.spill().used() < 14 * (4200 + 600));
        let held: Vec<u8> = kept.iter().flat_map(|received| received.frame.iter().copied()).collect();
        assert_eq!(held.len(), 20 * 4200);
        assert!(held.chunks(4200).all(|block| block.iter().enumerate().all(|(n, &byte)| byte == (n / 1000) as u8)));
        pools.deliver(&mut slot, arrival(60_000, 1452), &mut kept, &stats);
        assert_eq!(pools.large.available(), 30, "a train takes the large frame it is in");
        // Only when the heap's share is used up, too, do pieces take large frames, and then they are dropped.
        for _ in 0..60 {
            pools.deliver(&mut slot, arrival(4200, 1452), &mut kept, &stats);
        }
        assert_eq!(pools.large.available(), 0);
        assert!(stats.snapshot().drop_rx_no_memory > 0);
        drop(kept);
        assert_eq!(pools.spill().used(), 0, "what the heap held was freed");
        assert_eq!(pools.large.available(), 31);
    }

    #[test]
    fn senseless_messages_are_dropped() {
        let mut pools = pools(32, 1, 1);
        let (mut slot, stats, mut out) = (slot(&mut pools), StatsHandle::new(IoKind::Memory), Vec::new());
        for (len, segment_size) in [(0, 0), (0, 100), (100, 0), (70_000, 1000)] {
            pools.deliver(&mut slot, arrival(len, segment_size), &mut out, &stats);
        }
        assert!(out.is_empty());
        assert_eq!(stats.snapshot().drop_rx_truncated, 4);
    }

    #[test]
    fn a_pool_smaller_than_two_batches_is_refused() {
        let config = IoConfig { large_frames: RECV_BATCH, ..Default::default() };
        assert_eq!(Pools::new(&config, 0).err().map(|e| e.kind()), Some(io::ErrorKind::InvalidInput));
    }
}
