//! The side table: what the engine knows of a connection beside the protocol's state.
//!
//! Handles are keys into this table. An entry lives as long as the protocol's connection or any handle does,
//! whichever is longer, so a handle never meets another connection's state.

use crate::worker::leftovers::Leftovers;
use crate::worker::waiters::WakerSet;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::task::Waker;
use warpline_proto::{ConnectionError, ConnectionHandle};
use warpline_wire::StreamId;

/// Names a connection of one worker: plain data that may be sent anywhere, and means something only on that worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    index: u32,
    generation: u32,
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
pub(crate) struct ConnWaiters {
    /// For the handshake, and for the end.
    pub(crate) phase: WakerSet,
    /// For streams of the peer: bidirectional, unidirectional.
    pub(crate) accept: [WakerSet; 2],
    /// For leave to open streams.
    pub(crate) open: [WakerSet; 2],
    pub(crate) datagram_in: WakerSet,
    pub(crate) datagram_out: WakerSet,
}

/// Streams by ID.
pub(crate) type Streams = HashMap<u64, StreamSide, BuildHasherDefault<IdHasher>>;

/// One connection's entry.
#[derive(Debug)]
pub(crate) struct ConnSide {
    pub(crate) handle: ConnectionHandle,
    pub(crate) phase: Phase,
    /// Handles of the program: of the connection and of its streams.
    pub(crate) refs: u32,
    /// Streams in [`SendPhase::Finishing`].
    pub(crate) finishing: u32,
    /// Whether the program has got a handle: it accepted the connection or opened it.
    pub(crate) accepted: bool,
    /// What had been received but not read when the connection ended.
    pub(crate) leftovers: Option<Box<Leftovers>>,
    pub(crate) streams: Streams,
    pub(crate) waiters: ConnWaiters,
}

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

    /// Adds the entry of a stream of which the program gets `parts` handles.
    pub(crate) fn add_stream(&mut self, id: StreamId, parts: u8, sends: bool) {
        let send = if sends { SendPhase::Open } else { SendPhase::Over };
        self.streams.insert(id.0, StreamSide { send, parts, send_waker: None, recv_waker: None });
        self.refs += u32::from(parts);
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

/// The connections of a worker by key and by handle.
#[derive(Debug, Default)]
pub(crate) struct ConnTable {
    slots: Vec<(u32, Option<ConnSide>)>,
    free: Vec<u32>,
    /// Key by the protocol's slab index, as long as the protocol's connection is not known to be over.
    by_handle: Vec<Option<(ConnectionHandle, ConnectionKey)>>,
}

impl ConnTable {
    pub(crate) fn insert(&mut self, handle: ConnectionHandle, phase: Phase) -> ConnectionKey {
        let side = ConnSide {
            handle,
            phase,
            refs: 0,
            finishing: 0,
            accepted: false,
            leftovers: None,
            streams: Streams::default(),
            waiters: ConnWaiters::default(),
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).expect("a worker's memory ends long before 2^32 connections")
        });
        let slot = &mut self.slots[index as usize];
        slot.1 = Some(side);
        let key = ConnectionKey { index, generation: slot.0 };
        let at = handle.index();
        if self.by_handle.len() <= at {
            self.by_handle.resize(at + 1, None);
        }
        self.by_handle[at] = Some((handle, key));
        key
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut ConnSide> {
        match self.slots.get_mut(key.index as usize) {
            Some((generation, side)) if *generation == key.generation => side.as_mut(),
            _ => None,
        }
    }

    /// The key of a connection that the protocol names.
    #[inline]
    pub(crate) fn key_of(&self, handle: ConnectionHandle) -> Option<ConnectionKey> {
        let (known, key) = (*self.by_handle.get(handle.index())?)?;
        (known == handle).then_some(key)
    }

    pub(crate) fn remove(&mut self, key: ConnectionKey) -> Option<ConnSide> {
        let (generation, slot) = self.slots.get_mut(key.index as usize)?;
        if *generation != key.generation {
            return None;
        }
        let side = slot.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(key.index);
        let by_handle = &mut self.by_handle[side.handle.index()];
        if by_handle.is_some_and(|(handle, _)| handle == side.handle) {
            *by_handle = None;
        }
        Some(side)
    }

    /// Keys of all entries.
    pub(crate) fn keys(&self) -> impl Iterator<Item = ConnectionKey> + '_ {
        self.slots.iter().enumerate().filter(|(_, (_, side))| side.is_some()).map(|(i, (generation, _))| {
            ConnectionKey { index: u32::try_from(i).unwrap_or(u32::MAX), generation: *generation }
        })
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
