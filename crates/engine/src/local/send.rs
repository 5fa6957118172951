//! The sending part of a stream.

use crate::cx;
use crate::error::{EngineError, OperationError, WriteError};
use crate::local::{Hold, Pinned};
use crate::worker::{Both, ConnectionKey, Core, Phase, SendPhase, register};
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::task::{Context, Poll};
use warpline_frame::Chunk;
use warpline_proto::{ResetAtError, WriteError as ProtoWriteError};
use warpline_wire::StreamId;

/// The sending part of a stream.
///
/// Dropping it finishes the stream: what was written will be delivered, followed by FIN. Dropped by a panic, the stream
/// is reset with code 0 instead, so that the peer cannot take a torn message for a whole one.
pub struct SendStream<H: Hold = Pinned> {
    conn: ConnectionKey,
    id: StreamId,
    /// This side has finished or reset the stream.
    ended: bool,
    /// Bytes that were written.
    written: u64,
    hold: PhantomData<H>,
}

impl<H: Hold> SendStream<H> {
    /// The caller has counted the handle in the side table.
    pub(super) fn new(conn: ConnectionKey, id: StreamId) -> Self {
        Self { conn, id, ended: false, written: 0, hold: PhantomData }
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

    /// Writes the whole chunk without copying it: it goes out from where it is, and its memory is released once the
    /// peer has acknowledged it. Waits while flow control or the send buffer is exhausted. Cancelled, the part not
    /// yet taken is lost.
    ///
    /// # Errors
    /// [`WriteError`], after which nothing more can be written.
    pub async fn write_chunk(&mut self, mut chunk: Chunk) -> Result<(), WriteError> {
        poll_fn(|cx| self.poll_write_chunk(cx, &mut chunk)).await
    }

    /// Writes the whole slice; its bytes are copied once. Cancelled, it may have written a part.
    ///
    /// # Errors
    /// As [`write_chunk`](Self::write_chunk).
    pub async fn write_all(&mut self, data: &[u8]) -> Result<(), WriteError> {
        self.write_chunk(Chunk::copy_from_slice(data)).await
    }

    /// Takes from the front of `chunk` what can be written, and is ready once it is empty.
    ///
    /// # Errors
    /// As [`write_chunk`](Self::write_chunk).
    #[inline]
    pub fn poll_write_chunk(&mut self, cx: &mut Context<'_>, chunk: &mut Chunk) -> Poll<Result<(), WriteError>> {
        let (key, id, written) = (self.conn, self.id, &mut self.written);
        let mut replaced = None;
        let step = cx::with_core(|core| {
            let Both { conn, side, .. } = match core.both(key) {
                Ok(both) => both,
                Err(error) => return Err(Box::new(WriteError::from(error))),
            };
            while !chunk.is_empty() {
                match conn.write(id, chunk) {
                    Ok(taken) => *written += taken as u64,
                    Err(ProtoWriteError::Blocked) => {
                        replaced = side.streams.get_mut(&id.0).and_then(|s| register(&mut s.send_waker, cx));
                        return Ok(Poll::Pending);
                    }
                    Err(ProtoWriteError::Stopped(code)) => return Err(Box::new(WriteError::Stopped(code))),
                    Err(ProtoWriteError::ClosedStream) => return Err(Box::new(WriteError::Ended)),
                }
            }
            Ok(Poll::Ready(()))
        })?;
        // A waker is dropped where nothing is borrowed.
        drop(replaced);
        match step {
            Ok(poll) => poll.map(Ok),
            Err(error) => Poll::Ready(Err(*error)),
        }
    }

    /// Says that nothing more will be written: the peer reads the end after the last byte. Does not wait for delivery;
    /// [`stopped`](Self::stopped) does.
    ///
    /// # Errors
    /// [`WriteError::Ended`] if it was finished or reset before, [`WriteError::Stopped`] if the peer does not want it.
    pub fn finish(&mut self) -> Result<(), WriteError> {
        if self.ended {
            return Err(WriteError::Ended);
        }
        cx::with_core(|core| finish(core, self.conn, self.id))??;
        self.ended = true;
        Ok(())
    }

    /// Abandons the stream: what was not delivered may never be, and the peer is told `code` (below 2^62).
    ///
    /// # Errors
    /// [`WriteError::Ended`] if everything was acknowledged already or the stream was reset before.
    pub fn reset(&mut self, code: u64) -> Result<(), WriteError> {
        cx::with_core(|core| {
            let Both { conn, side, wakes, .. } = core.both(self.conn)?;
            conn.reset(self.id, code).map_err(|_| WriteError::Ended)?;
            side.set_send(self.id, SendPhase::Over, wakes);
            Ok::<_, WriteError>(())
        })??;
        self.ended = true;
        Ok(())
    }

    /// Abandons the stream behind its first `reliable` bytes, at most those written: the peer reads them, then `code` (below
    /// 2^62). Needs a peer that understands RESET_STREAM_AT.
    ///
    /// # Errors
    /// [`WriteError::Unsupported`] for any other peer: then nothing has changed. Else as [`reset`](Self::reset).
    pub fn reset_at(&mut self, code: u64, reliable: u64) -> Result<(), WriteError> {
        cx::with_core(|core| {
            let Both { conn, side, wakes, .. } = core.both(self.conn)?;
            conn.reset_at(self.id, code, reliable).map_err(|error| match error {
                ResetAtError::Unsupported => WriteError::Unsupported,
                ResetAtError::ClosedStream => WriteError::Ended,
            })?;
            side.set_send(self.id, SendPhase::Finishing, wakes);
            Ok::<_, WriteError>(())
        })??;
        self.ended = true;
        Ok(())
    }

    /// Bytes that were written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Streams with a higher priority are sent first; 0 at the start.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn set_priority(&self, priority: i32) -> Result<(), OperationError> {
        cx::with_core(|core| {
            let Both { conn, .. } = core.both(self.conn).map_err(|error| *error)?;
            // An error says that the stream is over, and with it the question of its turn.
            let _ = conn.set_priority(self.id, priority);
            Ok(())
        })?
    }

    /// Waits until the sending part is settled: `None` if the peer has acknowledged everything including the end (or
    /// this side reset the stream), the peer's code if it asked to stop.
    ///
    /// # Errors
    /// If the connection ends first.
    pub async fn stopped(&mut self) -> Result<Option<u64>, OperationError> {
        poll_fn(|cx| {
            let (poll, old) = cx::with_core(|core| {
                let Some(side) = core.conns.get_mut(self.conn) else {
                    return (Poll::Ready(Err(EngineError::OffWorker.into())), None);
                };
                let Some(stream) = side.streams.get_mut(&self.id.0) else {
                    return (Poll::Ready(Ok(None)), None);
                };
                match (stream.send, &side.phase) {
                    (SendPhase::Stopped(code), _) => (Poll::Ready(Ok(Some(code))), None),
                    (SendPhase::Acknowledged | SendPhase::Over, _) => (Poll::Ready(Ok(None)), None),
                    (_, Phase::Closed(error)) => (Poll::Ready(Err(error.clone().into())), None),
                    _ => (Poll::Pending, register(&mut stream.send_waker, cx)),
                }
            })?;
            drop(old);
            poll
        })
        .await
    }
}

fn finish(core: &mut Core, key: ConnectionKey, id: StreamId) -> Result<(), WriteError> {
    let Both { conn, side, wakes, .. } = core.both(key)?;
    match side.streams.get(&id.0).map(|stream| stream.send) {
        Some(SendPhase::Open) => {}
        Some(SendPhase::Stopped(code)) => return Err(WriteError::Stopped(code)),
        _ => return Err(WriteError::Ended),
    }
    conn.finish(id).map_err(|_| WriteError::Ended)?;
    side.set_send(id, SendPhase::Finishing, wakes);
    Ok(())
}

impl<H: Hold> Drop for SendStream<H> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // An error says that the stream is over already.
            let _ = self.reset(0);
        }
        // Off the worker, or after its end, nothing is left to do.
        let _ = cx::with_core(|core| {
            if !self.ended {
                // An error says that the stream is over already.
                let _ = finish(core, self.conn, self.id);
            }
            if let Some(side) = core.conns.get_mut(self.conn) {
                side.release_part(self.id);
            }
            core.release(self.conn, H::PINNED);
        });
    }
}

impl<H: Hold> fmt::Debug for SendStream<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendStream").field("id", &self.id).finish_non_exhaustive()
    }
}
