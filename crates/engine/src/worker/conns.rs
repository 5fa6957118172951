//! The side table: what the engine knows of a connection beside the protocol's state.
//!
//! Handles are keys into this table. An entry lives as long as the protocol's connection or any handle does,
//! whichever is longer, so a handle never meets another connection's state.

use crate::worker::leftovers::Leftovers;
use crate::worker::waiters::WakerSet;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use warpline_frame::{prefetch, prefetch_line};
use warpline_proto::{ConnectionError, ConnectionHandle, Fetch};
use warpline_wire::StreamId;

/// Names a connection: plain data that may be sent anywhere, and means something only on the worker where the
/// connection is. No two connections of a process ever have the same.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionKey {
    id: u64,
    /// Where the entry was when the key was made: a guess that is right as long as the connection has not moved.
    index: u32,
}

impl ConnectionKey {
    pub(crate) fn id(self) -> u64 {
        self.id
    }
}

impl PartialEq for ConnectionKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for ConnectionKey {}

impl Hash for ConnectionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// How far a connection has come.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    Handshaking,
    Established,
    Closed(ConnectionError),
}

/// What has become of the sending part of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendPhase {
    /// Data may be written.
    Open,
    /// Finished by this side; not everything is acknowledged.
    Finishing,
    /// Everything including the end is acknowledged.
    Acknowledged,
    /// Reset by this side, or there is no sending part.
    Over,
    /// The peer asked to stop.
    Stopped(u64),
}

/// One stream's entry, while this side holds a handle to it or delivers its last bytes.
#[derive(Debug)]
pub(crate) struct StreamSide {
    pub(crate) send: SendPhase,
    /// Handles that refer to this entry: one for each part that the program holds.
    pub(crate) parts: u8,
    pub(crate) send_waker: Option<Waker>,
    pub(crate) recv_waker: Option<Waker>,
}

impl StreamSide {
    /// Nobody holds the stream and nothing of it is on its way.
    fn is_idle(&self) -> bool {
        self.parts == 0 && self.send != SendPhase::Finishing
    }
}

/// Tasks that wait for events of the connection.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct ConnWaiters {
    pub(crate) datagram_in: WakerSet,
    /// For the handshake, and for the end.
    pub(crate) phase: WakerSet,
    /// For streams of the peer: bidirectional, unidirectional.
    pub(crate) accept: [WakerSet; 2],
    /// For leave to open streams.
    pub(crate) open: [WakerSet; 2],
    pub(crate) datagram_out: WakerSet,
}

/// Streams by ID.
pub(crate) type Streams = HashMap<u64, StreamSide, BuildHasherDefault<IdHasher>>;

/// One connection's entry. What messages and requests look at comes first, in [`HOT`] bytes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct ConnSide {
    pub(crate) key: ConnectionKey,
    /// The protocol's connection; `None` only on the way between two workers, or for one that is over.
    pub(crate) handle: Option<ConnectionHandle>,
    /// Handles of the program: of the connection and of its streams.
    pub(crate) refs: u32,
    pub(crate) phase: Phase,
    pub(crate) streams: Streams,
    pub(crate) waiters: ConnWaiters,
    /// Those among them that cannot leave this thread: while there are any, the connection stays.
    pub(crate) pinned: u32,
    /// Streams in [`SendPhase::Finishing`].
    pub(crate) finishing: u32,
    /// Whether the program has got a handle: it accepted the connection or opened it.
    pub(crate) accepted: bool,
    /// What had been received but not read when the connection ended.
    pub(crate) leftovers: Option<Box<Leftovers>>,
}

/// The part of an entry up to the tasks that wait for datagrams.
const HOT: usize = std::mem::offset_of!(ConnSide, waiters) + size_of::<WakerSet>();

const _: () = assert!(HOT <= 128, "it is on two lines, or on three where the entry begins in the middle of one");

impl ConnSide {
    /// Wakes everything that waits for anything.
    pub(crate) fn wake_all(&mut self, wakes: &mut Vec<Waker>) {
        let waiters = &mut self.waiters;
        waiters.phase.drain(wakes);
        waiters.accept.iter_mut().for_each(|set| set.drain(wakes));
        waiters.open.iter_mut().for_each(|set| set.drain(wakes));
        waiters.datagram_in.drain(wakes);
        waiters.datagram_out.drain(wakes);
        for stream in self.streams.values_mut() {
            wakes.extend(stream.send_waker.take());
            wakes.extend(stream.recv_waker.take());
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    /// Adds the entry of a stream of which the program gets `parts` handles, pinned ones or not.
    pub(crate) fn add_stream(&mut self, id: StreamId, parts: u8, sends: bool, pinned: bool) {
        let send = if sends { SendPhase::Open } else { SendPhase::Over };
        self.streams.insert(id.0, StreamSide { send, parts, send_waker: None, recv_waker: None });
        self.refs += u32::from(parts);
        self.pinned += if pinned { u32::from(parts) } else { 0 };
    }

    /// Moves the sending part of a stream on, and forgets the stream once nobody holds it and nothing is on its way.
    pub(crate) fn set_send(&mut self, id: StreamId, phase: SendPhase, wakes: &mut Vec<Waker>) {
        let Some(stream) = self.streams.get_mut(&id.0) else { return };
        if stream.send == SendPhase::Finishing {
            self.finishing -= 1;
        }
        if phase == SendPhase::Finishing {
            self.finishing += 1;
        }
        stream.send = phase;
        wakes.extend(stream.send_waker.take());
        if stream.is_idle() {
            self.streams.remove(&id.0);
        }
    }

    /// One handle of a stream is gone.
    pub(crate) fn release_part(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id.0) else { return };
        stream.parts -= 1;
        if stream.is_idle() {
            self.streams.remove(&id.0);
        }
    }
}

/// Connections by ID, for those that are not where their keys say.
type Moved = HashMap<u64, u32, BuildHasherDefault<IdHasher>>;

/// The connections of a worker by key and by handle.
#[derive(Debug, Default)]
pub(crate) struct ConnTable {
    slots: Vec<Option<ConnSide>>,
    free: Vec<u32>,
    /// Connections that came from other workers.
    moved: Moved,
    /// Key by the protocol's slab index, as long as the protocol's connection is not known to be over.
    by_handle: Vec<Option<(ConnectionHandle, ConnectionKey)>>,
    /// IDs for new connections: a range of its own for each table.
    ids: std::ops::Range<u64>,
}

/// IDs are given to tables in ranges of this length, so that tables hardly ever meet at the counter.
const ID_RANGE: u64 = 1 << 20;

static NEXT_IDS: AtomicU64 = AtomicU64::new(0);

impl ConnTable {
    fn fresh_id(&mut self) -> u64 {
        if self.ids.is_empty() {
            let start = NEXT_IDS.fetch_add(ID_RANGE, Ordering::Relaxed);
            self.ids = start..start + ID_RANGE;
        }
        let id = self.ids.start;
        self.ids.start += 1;
        id
    }

    fn place(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("a worker's memory ends long before 2^32 connections")
        })
    }

    /// A new connection.
    pub(crate) fn insert(&mut self, handle: ConnectionHandle, phase: Phase) -> ConnectionKey {
        let (id, index) = (self.fresh_id(), self.place());
        let key = ConnectionKey { id, index };
        self.slots[index as usize] = Some(ConnSide {
            key,
            handle: Some(handle),
            phase,
            refs: 0,
            pinned: 0,
            finishing: 0,
            accepted: false,
            leftovers: None,
            streams: Streams::default(),
            waiters: ConnWaiters::default(),
        });
        self.note_handle(handle, key);
        key
    }

    /// Takes in an entry of another worker, whose protocol connection, unless it is over, is `handle` here.
    pub(crate) fn adopt(&mut self, mut side: ConnSide, handle: Option<ConnectionHandle>) -> ConnectionKey {
        let index = self.place();
        let key = ConnectionKey { id: side.key.id, index };
        side.key = key;
        side.handle = handle;
        if let Some(handle) = handle {
            self.note_handle(handle, key);
        }
        self.slots[index as usize] = Some(side);
        self.moved.insert(key.id, index);
        key
    }

    fn note_handle(&mut self, handle: ConnectionHandle, key: ConnectionKey) {
        let at = handle.index();
        if self.by_handle.len() <= at {
            self.by_handle.resize(at + 1, None);
        }
        self.by_handle[at] = Some((handle, key));
    }

    #[inline]
    fn index_of(&self, key: ConnectionKey) -> Option<usize> {
        let is_at = |index: u32| self.slots.get(index as usize)?.as_ref().filter(|side| side.key.id == key.id);
        match is_at(key.index) {
            Some(_) => Some(key.index as usize),
            None if self.moved.is_empty() => None,
            None => self.moved.get(&key.id).map(|index| *index as usize),
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut ConnSide> {
        let index = self.index_of(key)?;
        self.slots[index].as_mut()
    }

    pub(crate) fn get(&self, key: ConnectionKey) -> Option<&ConnSide> {
        self.slots[self.index_of(key)?].as_ref()
    }

    /// The key of a connection that the protocol names.
    #[inline]
    pub(crate) fn key_of(&self, handle: ConnectionHandle) -> Option<ConnectionKey> {
        let (known, key) = (*self.by_handle.get(handle.index())?)?;
        (known == handle).then_some(key)
    }

    /// Has the table's entries for a connection brought into the caches, step by step along with those of the protocol.
    #[inline]
    pub(crate) fn prefetch(&self, handle: ConnectionHandle, step: Fetch) {
        let Some(Some((_, key))) = self.by_handle.get(handle.index()) else { return };
        let Some(place) = self.slots.get(key.index as usize) else { return };
        match (step, place) {
            (Fetch::Connection, place) => {
                let start = std::ptr::from_ref(place).cast::<u8>();
                [0, HOT / 2, HOT - 1].into_iter().for_each(|at| prefetch_line(start.wrapping_add(at)));
            }
            (Fetch::Parts, Some(side)) => side.waiters.datagram_in.prefetch_first(),
            (Fetch::Parts, None) => {}
        }
    }

    /// Has the first of these entries brought into the caches.
    #[inline]
    pub(crate) fn prefetch_place(&self, handle: ConnectionHandle) {
        if let Some(place) = self.by_handle.get(handle.index()) {
            prefetch(place);
        }
    }

    pub(crate) fn remove(&mut self, key: ConnectionKey) -> Option<ConnSide> {
        let index = self.index_of(key)?;
        let side = self.slots[index].take()?;
        self.free.push(u32::try_from(index).unwrap_or(u32::MAX));
        self.moved.remove(&key.id);
        if let Some(by_handle) = side.handle.and_then(|handle| self.by_handle.get_mut(handle.index()))
            && by_handle.is_some_and(|(handle, _)| Some(handle) == side.handle)
        {
            *by_handle = None;
        }
        Some(side)
    }

    /// Keys of all entries.
    pub(crate) fn keys(&self) -> impl Iterator<Item = ConnectionKey> + '_ {
        self.slots.iter().flatten().map(|side| side.key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }

    /// All entries.
    pub(crate) fn sides(&self) -> impl Iterator<Item = &ConnSide> + '_ {
        self.slots.iter().flatten()
    }
}

/// Spreads stream IDs, which are small and regular numbers chosen by both sides within granted limits, by one
/// multiplication (Fibonacci hashing). A peer cannot choose IDs freely, so collisions cannot be forced.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    #[inline]
    fn write_u64(&mut self, id: u64) {
        let mixed = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }
}
