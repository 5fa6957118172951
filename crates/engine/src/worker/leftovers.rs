//! What had arrived before a connection ended and was not read yet.
//!
//! A peer that sends its last bytes, sees them acknowledged and closes has done nothing wrong, and the program has to
//! get those bytes however late it reads. The protocol forgets a connection after its drain period; so when one ends,
//! everything readable is moved here, where it waits for the handles. Flow control bounds it.

use crate::worker::conns::Streams;
use std::collections::{HashMap, VecDeque};
use warpline_frame::Chunk;
use warpline_proto::{Connection, Instant, ReadError};
use warpline_wire::{Dir, StreamId};

/// How the data of a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// With the peer's FIN.
    Finished,
    /// With the peer's reset, and its code.
    Reset(u64),
    /// With the connection.
    Cut,
}

/// The unread rest of a connection.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    accepts: [VecDeque<StreamId>; 2],
    streams: HashMap<u64, (VecDeque<Chunk>, Tail)>,
    datagrams: VecDeque<Chunk>,
}

impl Leftovers {
    /// Moves everything readable out of a connection that has just ended. `None` if there is nothing.
    pub(crate) fn collect(conn: &mut Connection, held: &Streams, now: Instant) -> Option<Box<Self>> {
        let mut rest = Self::default();
        for &id in held.keys() {
            rest.collect_stream(conn, StreamId(id), now);
        }
        for dir in [Dir::Bi, Dir::Uni] {
            while let Some(id) = conn.accept(dir) {
                rest.accepts[dir as usize].push_back(id);
                rest.collect_stream(conn, id, now);
            }
        }
        while let Some(datagram) = conn.recv_datagram() {
            rest.datagrams.push_back(datagram);
        }
        let any = !rest.streams.is_empty() || rest.accepts.iter().any(|q| !q.is_empty()) || !rest.datagrams.is_empty();
        any.then(|| Box::new(rest))
    }

    fn collect_stream(&mut self, conn: &mut Connection, id: StreamId, now: Instant) {
        let mut chunks = VecDeque::new();
        let tail = loop {
            match conn.read(now, id, usize::MAX) {
                Ok(Some(chunk)) => chunks.push_back(chunk),
                Ok(None) => break Tail::Finished,
                Err(ReadError::Reset(code)) => break Tail::Reset(code),
                Err(ReadError::Blocked | ReadError::ClosedStream) => break Tail::Cut,
            }
        };
        if !chunks.is_empty() || tail != Tail::Cut {
            self.streams.insert(id.0, (chunks, tail));
        }
    }

    /// The next chunk of a stream, of at most `max` bytes; or how the stream ends.
    pub(crate) fn read(&mut self, id: StreamId, max: usize) -> Result<Chunk, Tail> {
        let Some((chunks, tail)) = self.streams.get_mut(&id.0) else { return Err(Tail::Cut) };
        let Some(chunk) = chunks.front_mut() else { return Err(*tail) };
        if chunk.len() > max {
            return Ok(chunk.split_to(max));
        }
        chunks.pop_front().ok_or(Tail::Cut)
    }

    /// The next stream that the peer had opened.
    pub(crate) fn accept(&mut self, dir: Dir) -> Option<StreamId> {
        self.accepts[dir as usize].pop_front()
    }

    /// The next datagram.
    pub(crate) fn datagram(&mut self) -> Option<Chunk> {
        self.datagrams.pop_front()
    }
}
