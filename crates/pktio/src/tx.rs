//! Trains that wait to be sent.

use std::io;

use warpline_frame::{Frame, Pool, PoolConfig};

use crate::limits::{TRAIN_BYTES_MAX, TX_ARENA, TX_TRAINS_MAX};
use crate::meta::TxMeta;
use crate::pools::place;

/// Trains start on cache lines, for the reason given at `warpline_frame::Pool`.
const ALIGN: usize = 64;

/// A train in the arena.
#[derive(Clone, Copy)]
pub(crate) struct Train {
    pub(crate) meta: TxMeta,
    at: usize,
    /// Bytes that are sent already.
    pub(crate) sent: usize,
    /// The kernel refused it as a train.
    pub(crate) singles: bool,
    /// It is with the kernel, whose answer is not known yet.
    #[cfg(target_os = "linux")]
    pub(crate) staged: bool,
}

/// Trains in the order of their sending, packed one after the other into one buffer. Once all are sent, building
/// starts at the front again, where the memory is warm.
pub(crate) struct TxQueue {
    arena: Frame,
    /// Where the next train is built.
    end: usize,
    trains: Vec<Train>,
    /// The first train that is not sent completely.
    first: usize,
}

impl TxQueue {
    /// Its memory is on the NUMA node, if one is named. Fails as mapping does, or if there is no such node.
    pub(crate) fn new(node: Option<u32>) -> io::Result<TxQueue> {
        let pool = Pool::new(PoolConfig { frame_size: TX_ARENA, frames: 1, huge_pages: false })?;
        let mut pool = place(pool, node)?;
        let arena = pool.take().ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(TxQueue { arena, end: 0, trains: Vec::with_capacity(TX_TRAINS_MAX), first: 0 })
    }

    /// Room for a full train, or `None` if something has to be sent first.
    pub(crate) fn buffer(&mut self) -> Option<&mut [u8]> {
        if self.trains.len() == TX_TRAINS_MAX {
            return None;
        }
        self.arena.get_mut(self.end..self.end + TRAIN_BYTES_MAX)
    }

    /// Appends the train that was built in the last [`buffer`](Self::buffer).
    ///
    /// # Panics
    /// If there was no buffer, or the lengths are not as [`TxMeta`] demands.
    pub(crate) fn commit(&mut self, meta: TxMeta) {
        assert!((1..=TRAIN_BYTES_MAX).contains(&meta.len), "a train has 1 to {TRAIN_BYTES_MAX} bytes");
        assert!(meta.segment_size > 0, "a datagram has at least one byte");
        assert!(self.buffer().is_some(), "a train is built in a buffer");
        self.trains.push(Train {
            meta,
            at: self.end,
            sent: 0,
            singles: false,
            #[cfg(target_os = "linux")]
            staged: false,
        });
        self.end += meta.len.next_multiple_of(ALIGN);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first == self.trains.len()
    }

    /// The trains from the first on that is not sent completely. Those behind it may be, if they went out of order.
    pub(crate) fn pending(&self) -> &[Train] {
        &self.trains[self.first..]
    }

    /// Where in the queue [`pending`](Self::pending) begins. Places stay as they are until all trains are sent.
    #[cfg(target_os = "linux")]
    pub(crate) fn first(&self) -> usize {
        self.first
    }

    /// The train at a place.
    #[cfg(target_os = "linux")]
    pub(crate) fn at(&self, place: usize) -> Option<&Train> {
        self.trains.get(place)
    }

    /// The train at a place, to change its fate.
    #[cfg(target_os = "linux")]
    pub(crate) fn at_mut(&mut self, place: usize) -> Option<&mut Train> {
        self.trains.get_mut(place)
    }

    /// The first of them, to change its fate.
    #[cfg(target_os = "linux")]
    pub(crate) fn front_mut(&mut self) -> Option<&mut Train> {
        self.trains.get_mut(self.first)
    }

    /// The bytes of a train from `from` on, `len` of them.
    pub(crate) fn bytes(&self, train: &Train, from: usize, len: usize) -> &[u8] {
        &self.arena[train.at + from..train.at + from + len]
    }

    /// The next `len` bytes of the first train are gone (sent or given up).
    pub(crate) fn advance(&mut self, len: usize) {
        let train = &mut self.trains[self.first];
        train.sent += len;
        debug_assert!(train.sent <= train.meta.len, "no more than the train is sent");
        self.sweep();
    }

    /// Lets go of the trains at the front that are sent completely.
    pub(crate) fn sweep(&mut self) {
        while self.trains.get(self.first).is_some_and(Train::is_sent) {
            self.first += 1;
        }
        if self.is_empty() {
            self.trains.clear();
            (self.first, self.end) = (0, 0);
        }
    }
}

impl Train {
    pub(crate) fn is_sent(&self) -> bool {
        self.sent == self.meta.len
    }

    /// The length of the part that starts at `from` and goes out as one message of at most `segments` datagrams.
    pub(crate) fn part(&self, from: usize, segments: usize) -> usize {
        let segments = if self.singles { 1 } else { segments };
        (self.meta.len - from).min(self.meta.segment_size.saturating_mul(segments))
    }
}
