//! The receiving part of a stream.

use crate::cx;
use crate::error::{ReadError, ReadExactError, ReadToEndError};
use crate::local::{Hold, Pinned};
use crate::worker::{Both, ConnectionKey, Core, Phase, Tail, register};
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::task::{Context, Poll};
use warpline_frame::Chunk;
use warpline_proto::ReadError as ProtoReadError;
use warpline_wire::StreamId;

/// How a stream ended for its reader.
#[derive(Clone, Copy, Debug)]
enum End {
    Finished,
    Reset(u64),
    Stopped,
}

/// The receiving part of a stream.
///
/// Dropping it before the end was read asks the peer to stop, with code 0.
pub struct RecvStream<H: Hold = Pinned> {
    conn: ConnectionKey,
    id: StreamId,
    end: Option<End>,
    hold: PhantomData<H>,
}

impl<H: Hold> RecvStream<H> {
    /// The caller has counted the handle in the side table.
    pub(super) fn new(conn: ConnectionKey, id: StreamId) -> Self {
        Self { conn, id, end: None, hold: PhantomData }
    }

    /// The stream's ID.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The key of the connection.
    #[must_use]
    pub fn connection(&self) -> ConnectionKey {
        self.conn
    }

    /// The next bytes in order, at most `max` of them, from where they were decrypted; `None` at the end. The chunk
    /// keeps that memory in use until it is dropped.
    ///
    /// # Errors
    /// [`ReadError`], after which nothing more can be read.
    pub async fn read_chunk(&mut self, max: usize) -> Result<Option<Chunk>, ReadError> {
        poll_fn(|cx| self.poll_read_chunk(cx, max)).await
    }

    /// Appends what is there, at most `max_chunks` chunks, to `chunks`; waits only if nothing is. `false` at the end.
    ///
    /// # Errors
    /// As [`read_chunk`](Self::read_chunk).
    pub async fn read_chunks(&mut self, chunks: &mut Vec<Chunk>, max_chunks: usize) -> Result<bool, ReadError> {
        let Some(first) = self.read_chunk(usize::MAX).await? else { return Ok(false) };
        chunks.push(first);
        for _ in 1..max_chunks {
            // An end or an error is found again by the next call.
            match self.try_read_chunk(usize::MAX) {
                Poll::Ready(Ok(Some(chunk))) => chunks.push(chunk),
                _ => break,
            }
        }
        Ok(true)
    }

    /// Reads up to `buf.len()` bytes into `buf`, copying them; 0 at the end (or for an empty `buf`).
    ///
    /// # Errors
    /// As [`read_chunk`](Self::read_chunk).
    pub async fn read(&mut self, buf: &mut [u8]) -> Result<usize, ReadError> {
        if buf.is_empty() {
            return Ok(0);
        }
        let Some(chunk) = self.read_chunk(buf.len()).await? else { return Ok(0) };
        buf[..chunk.len()].copy_from_slice(&chunk);
        Ok(chunk.len())
    }

    /// Fills `buf`. Cancelled, the bytes read so far are lost.
    ///
    /// # Errors
    /// [`ReadExactError::FinishedEarly`] if the stream ends before.
    pub async fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), ReadExactError> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.read(&mut buf[filled..]).await? {
                0 => return Err(ReadExactError::FinishedEarly(filled)),
                n => filled += n,
            }
        }
        Ok(())
    }

    /// Everything up to the end, at most `limit` bytes. Cancelled, the bytes read so far are lost.
    ///
    /// # Errors
    /// [`ReadToEndError::TooLong`] if there are more; the rest can still be read.
    pub async fn read_to_end(&mut self, limit: usize) -> Result<Vec<u8>, ReadToEndError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.read_chunk(usize::MAX).await? {
            if chunk.len() > limit - bytes.len() {
                return Err(ReadToEndError::TooLong(limit));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// See [`read_chunk`](Self::read_chunk).
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn poll_read_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Chunk>, ReadError>> {
        self.poll_inner(Some(cx), max)
    }

    /// Like [`poll_read_chunk`](Self::poll_read_chunk), but `Pending` wakes nobody.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn try_read_chunk(&mut self, max: usize) -> Poll<Result<Option<Chunk>, ReadError>> {
        self.poll_inner(None, max)
    }

    #[inline]
    fn poll_inner(&mut self, cx: Option<&mut Context<'_>>, max: usize) -> Poll<Result<Option<Chunk>, ReadError>> {
        match self.end {
            None => {}
            Some(End::Finished) => return Poll::Ready(Ok(None)),
            Some(End::Reset(code)) => return Poll::Ready(Err(ReadError::Reset(code))),
            Some(End::Stopped) => return Poll::Ready(Err(ReadError::Ended)),
        }
        let (key, id) = (self.conn, self.id);
        let mut replaced = None;
        let step = cx::with_core(|core| {
            let error = match core.both(key) {
                Ok(Both { conn, side, now, .. }) => {
                    return read_live(conn.read(now, id, max), || {
                        let stream = side.streams.get_mut(&id.0);
                        replaced = stream.zip(cx).and_then(|(stream, cx)| register(&mut stream.recv_waker, cx));
                    });
                }
                Err(error) => error,
            };
            read_leftovers(core, key, id, max).unwrap_or_else(|| Err(Box::new(error.into())))
        })?;
        // A waker is dropped where nothing is borrowed.
        drop(replaced);
        match step {
            Ok(Poll::Ready(Some(chunk))) => Poll::Ready(Ok(Some(chunk))),
            Ok(Poll::Ready(None)) => {
                self.end = Some(End::Finished);
                Poll::Ready(Ok(None))
            }
            Ok(Poll::Pending) => Poll::Pending,
            Err(error) => {
                if let ReadError::Reset(code) = *error {
                    self.end = Some(End::Reset(code));
                }
                Poll::Ready(Err(*error))
            }
        }
    }

    /// Asks the peer to stop sending, with `code` (below 2^62); nothing more can be read.
    ///
    /// # Errors
    /// [`ReadError::Ended`] if the end was read already or the stream was stopped before.
    pub fn stop(&mut self, code: u64) -> Result<(), ReadError> {
        if self.end.is_some() {
            return Err(ReadError::Ended);
        }
        self.end = Some(End::Stopped);
        cx::with_core(|core| core.both(self.conn)?.conn.stop_sending(self.id, code).map_err(|_| ReadError::Ended))?
    }
}

/// What reading came to. The error is boxed, so that reads that succeed do not carry room for it.
type Step = Result<Poll<Option<Chunk>>, Box<ReadError>>;

/// What reading from a living connection came to; `wait` notes who waits.
#[inline]
fn read_live(read: Result<Option<Chunk>, ProtoReadError>, wait: impl FnOnce()) -> Step {
    match read {
        Ok(chunk) => Ok(Poll::Ready(chunk)),
        Err(ProtoReadError::Blocked) => {
            wait();
            Ok(Poll::Pending)
        }
        Err(ProtoReadError::Reset(code)) => Err(Box::new(ReadError::Reset(code))),
        Err(ProtoReadError::ClosedStream) => Err(Box::new(ReadError::Ended)),
    }
}

/// Reads what had arrived before the connection ended. `None` if it is the connection's end that the reader meets.
#[cold]
fn read_leftovers(core: &mut Core, key: ConnectionKey, id: StreamId, max: usize) -> Option<Step> {
    let side = core.conns.get_mut(key)?;
    debug_assert!(matches!(side.phase, Phase::Closed(_)));
    match side.leftovers.as_mut()?.read(id, max) {
        Ok(chunk) => Some(Ok(Poll::Ready(Some(chunk)))),
        Err(Tail::Finished) => Some(Ok(Poll::Ready(None))),
        Err(Tail::Reset(code)) => Some(Err(Box::new(ReadError::Reset(code)))),
        Err(Tail::Cut) => None,
    }
}

impl<H: Hold> Drop for RecvStream<H> {
    fn drop(&mut self) {
        if self.end.is_none() {
            // An error says that the stream or its connection is over already.
            let _ = self.stop(0);
        }
        // Off the worker, or after its end, nothing is left to do.
        let _ = cx::with_core(|core| {
            if let Some(side) = core.conns.get_mut(self.conn) {
                side.release_part(self.id);
            }
            core.release(self.conn, H::PINNED);
        });
    }
}

impl<H: Hold> fmt::Debug for RecvStream<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvStream").field("id", &self.id).field("end", &self.end).finish_non_exhaustive()
    }
}
