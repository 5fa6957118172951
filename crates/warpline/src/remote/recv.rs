//! The receiving part of a stream, usable on any thread.

use crate::engine::{EngineError, ReadError, ReadExactError, ReadToEndError};
use crate::limits::RECV_CHUNKS;
use crate::local::{self, Roaming};
use crate::{Chunk, StreamId};
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use warpline_ring::pipe;

/// Nobody has asked the peer to stop.
const NO_STOP: u64 = u64::MAX;

struct Shared {
    /// How the stream ended, said once by the worker before its side of the pipe goes.
    end: OnceLock<Result<(), ReadError>>,
    /// The code with which the peer is to be asked to stop.
    stop: AtomicU64,
}

/// The receiving part of a stream, usable on any thread and under any runtime.
///
/// What arrives comes through a ring from the connection's worker. The ring is bounded: while it is full nothing is
/// taken from the connection, and flow control stops the peer. Dropping the stream before its end asks the peer to stop,
/// with code 0.
pub struct RecvStream {
    id: StreamId,
    pipe: Option<pipe::Receiver<Chunk>>,
    shared: Arc<Shared>,
    /// The part of the last chunk that was not wanted yet.
    rest: Chunk,
}

/// Starts the worker's half, on the worker.
pub(super) fn export(stream: local::RecvStream<Roaming>) -> Result<RecvStream, EngineError> {
    let (sender, receiver) = pipe::pipe(RECV_CHUNKS);
    let shared = Arc::new(Shared { end: OnceLock::new(), stop: AtomicU64::new(NO_STOP) });
    let remote = RecvStream { id: stream.id(), pipe: Some(receiver), shared: Arc::clone(&shared), rest: Chunk::new() };
    local::spawn_roaming(stream.connection(), pump(stream, sender, shared))?;
    Ok(remote)
}

impl RecvStream {
    /// The stream's ID.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The next bytes in order, at most `max` of them, from where they were decrypted; `None` at the end. The chunk
    /// keeps that memory in use until it is dropped. Cancelled, nothing is lost.
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
            let Some(chunk) = self.pipe.as_mut().and_then(pipe::Receiver::pop) else { break };
            chunks.push(chunk);
        }
        Ok(true)
    }

    /// See [`read_chunk`](Self::read_chunk).
    ///
    /// # Errors
    /// As there.
    pub fn poll_read_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Chunk>, ReadError>> {
        if self.rest.is_empty() {
            let Some(pipe) = &mut self.pipe else { return Poll::Ready(Err(ReadError::Ended)) };
            match ready!(pipe.poll_pop(cx)) {
                Some(chunk) => self.rest = chunk,
                None => {
                    return Poll::Ready(match self.shared.end.get() {
                        Some(Ok(())) => Ok(None),
                        Some(Err(error)) => Err(error.clone()),
                        None => Err(ReadError::Engine(EngineError::Stopped)),
                    });
                }
            }
        }
        if self.rest.len() <= max {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.rest))));
        }
        Poll::Ready(Ok(Some(self.rest.split_to(max))))
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

    /// Asks the peer to stop sending, with `code` (below 2^62); nothing more can be read.
    ///
    /// # Errors
    /// [`ReadError::Ended`] if the stream was stopped before.
    pub fn stop(&mut self, code: u64) -> Result<(), ReadError> {
        let pipe = self.pipe.take().ok_or(ReadError::Ended)?;
        self.rest = Chunk::new();
        self.shared.stop.store(code, Ordering::Release);
        // The drop tells the worker.
        drop(pipe);
        Ok(())
    }
}

impl fmt::Debug for RecvStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvStream").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(feature = "tokio")]
impl tokio::io::AsyncRead for RecvStream {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        // As much as is there, so that one wake-up moves more than one packet.
        let before = buf.filled().len();
        while buf.remaining() > 0 {
            match self.poll_read_chunk(cx, buf.remaining()) {
                Poll::Ready(Ok(Some(chunk))) => buf.put_slice(&chunk),
                Poll::Ready(Ok(None)) => break,
                // An error is found again by the next call.
                Poll::Ready(Err(_)) | Poll::Pending if buf.filled().len() > before => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The worker's half of a stream: reads and puts into the ring, until the end, an error, or nobody wants more.
async fn pump(mut stream: local::RecvStream<Roaming>, mut pipe: pipe::Sender<Chunk>, shared: Arc<Shared>) {
    let mut held = None;
    let end = poll_fn(|cx| {
        loop {
            if pipe.is_closed() {
                return Poll::Ready(None);
            }
            if pipe.poll_push(cx, &mut held).is_pending() {
                return Poll::Pending;
            }
            match stream.poll_read_chunk(cx, usize::MAX) {
                Poll::Ready(Ok(Some(chunk))) => held = Some(chunk),
                Poll::Ready(Ok(None)) => return Poll::Ready(Some(Ok(()))),
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => {
                    pipe.flush();
                    // The receiver may go while nothing arrives.
                    pipe.register(cx);
                    return if pipe.is_closed() { Poll::Ready(None) } else { Poll::Pending };
                }
            }
        }
    })
    .await;
    match end {
        Some(end) => {
            // Only the pump says how the stream ended, and once.
            let _ = shared.end.set(end);
        }
        None => {
            let code = match shared.stop.load(Ordering::Acquire) {
                NO_STOP => 0,
                code => code,
            };
            // An error says that the stream is over already.
            let _ = stream.stop(code);
        }
    }
}
