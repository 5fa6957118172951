//! The sending part of a stream, usable on any thread.

use crate::engine::{EngineError, OperationError, WriteError};
use crate::limits::{SEND_CHUNKS, WRITE_BYTES_MAX};
use crate::local::{self, Roaming};
use crate::{Chunk, StreamId};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use warpline_ring::{AtomicWaker, pipe};

/// What has become of the stream, said once by the worker.
#[derive(Clone, Debug)]
enum Settled {
    /// Everything is acknowledged, or this side reset the stream.
    Delivered,
    /// The peer asked to stop.
    Stopped(u64),
    /// The connection or the engine ended first.
    Failed(WriteError),
}

/// No reset is wanted. Codes are below 2^62.
const NO_RESET: u64 = u64::MAX;

/// The priority is as it was. Priorities have 32 bits.
const SAME_PRIORITY: i64 = i64::MAX;

/// What both sides of a stream share beside the pipe.
struct Shared {
    settled: OnceLock<Settled>,
    /// Wakes whoever waits for `settled`.
    waiting: AtomicWaker,
    /// Wakes the pump for what follows, all of which overtakes the data in the pipe.
    pump: AtomicWaker,
    /// The code of a reset that is wanted.
    reset: AtomicU64,
    /// The code of a reset that is wanted, and the bytes that it keeps.
    reset_at: OnceLock<(u64, u64)>,
    /// A priority that is wanted.
    priority: AtomicI64,
    /// Nobody holds the stream any more.
    dropped: AtomicBool,
}

/// The sending part of a stream, usable on any thread and under any runtime.
///
/// What is written goes through a ring to the connection's worker. The ring is bounded: a writer that is faster than
/// the path waits. Dropping the stream finishes it: what was written will be delivered, followed by the end.
pub struct SendStream {
    id: StreamId,
    /// `None` once the stream is finished or reset.
    pipe: Option<pipe::Sender<Chunk>>,
    shared: Arc<Shared>,
}

/// Starts the worker's half, on the worker.
pub(super) fn export(stream: local::SendStream<Roaming>) -> Result<SendStream, EngineError> {
    let (sender, receiver) = pipe::pipe(SEND_CHUNKS);
    let shared = Arc::new(Shared {
        settled: OnceLock::new(),
        waiting: AtomicWaker::new(),
        pump: AtomicWaker::new(),
        reset: AtomicU64::new(NO_RESET),
        reset_at: OnceLock::new(),
        priority: AtomicI64::new(SAME_PRIORITY),
        dropped: AtomicBool::new(false),
    });
    let remote = SendStream { id: stream.id(), pipe: Some(sender), shared: Arc::clone(&shared) };
    let connection = stream.connection();
    let pump = Pump { stream, pipe: receiver, shared: Guard(shared) };
    local::spawn_roaming(connection, pump.run())?;
    Ok(remote)
}

impl SendStream {
    /// The stream's ID.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Hands the chunk to the worker without copying it; waits while the ring to the worker is full. The memory is
    /// released once the peer has acknowledged it. Cancelled before it is ready, the chunk was not written.
    ///
    /// # Errors
    /// [`WriteError`], after which nothing more can be written. What was written just before may be lost then too.
    pub async fn write_chunk(&mut self, chunk: Chunk) -> Result<(), WriteError> {
        let mut chunk = chunk;
        poll_fn(|cx| self.poll_write_chunk(cx, &mut chunk)).await
    }

    /// Takes the whole chunk, and leaves an empty one, or waits. See [`write_chunk`](Self::write_chunk).
    ///
    /// # Errors
    /// As there.
    pub fn poll_write_chunk(&mut self, cx: &mut Context<'_>, chunk: &mut Chunk) -> Poll<Result<(), WriteError>> {
        self.poll_push(cx, || Some(std::mem::take(chunk)))
    }

    /// Writes the whole slice; its bytes are copied once. Cancelled, it may have written a part.
    ///
    /// # Errors
    /// As [`write_chunk`](Self::write_chunk).
    pub async fn write_all(&mut self, data: &[u8]) -> Result<(), WriteError> {
        for piece in data.chunks(WRITE_BYTES_MAX) {
            self.write_chunk(Chunk::copy_from_slice(piece)).await?;
        }
        Ok(())
    }

    /// Hands over the chunk that `make` gives; asks for it only when there is room.
    fn poll_push(&mut self, cx: &Context<'_>, make: impl FnMut() -> Option<Chunk>) -> Poll<Result<(), WriteError>> {
        if let Some(settled) = self.shared.settled.get() {
            return Poll::Ready(Err(match settled {
                Settled::Delivered => WriteError::Ended,
                Settled::Stopped(code) => WriteError::Stopped(*code),
                Settled::Failed(error) => error.clone(),
            }));
        }
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Err(WriteError::Ended)) };
        ready!(pipe.poll_push_with(cx, make));
        pipe.flush();
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more will be written: the peer reads the end after the last byte. Does not wait for delivery;
    /// [`stopped`](Self::stopped) does.
    ///
    /// # Errors
    /// [`WriteError::Ended`] if the stream was finished or reset before.
    pub fn finish(&mut self) -> Result<(), WriteError> {
        // The end of the pipe is the end of the stream.
        self.pipe.take().map(drop).ok_or(WriteError::Ended)
    }

    /// Abandons the stream: what was not delivered may never be, and the peer is told `code` (below 2^62).
    ///
    /// # Errors
    /// [`WriteError::Ended`] if the stream was reset or settled before.
    pub fn reset(&mut self, code: u64) -> Result<(), WriteError> {
        let wanted = self.shared.reset.compare_exchange(NO_RESET, code, Ordering::Release, Ordering::Relaxed);
        if wanted.is_err() || self.shared.settled.get().is_some() {
            return Err(WriteError::Ended);
        }
        self.pipe = None;
        self.shared.pump.wake();
        Ok(())
    }

    /// Abandons the stream behind its first `reliable` bytes, at most those written: the peer reads them, then `code` (below
    /// 2^62). Does not wait for delivery; [`stopped`](Self::stopped) does. From a peer that does not understand
    /// RESET_STREAM_AT the stream is taken back as a whole, and `stopped` says [`WriteError::Unsupported`].
    ///
    /// # Errors
    /// [`WriteError::Ended`] if the stream was reset or settled before.
    pub fn reset_at(&mut self, code: u64, reliable: u64) -> Result<(), WriteError> {
        let is_over = self.shared.settled.get().is_some() || self.pipe.is_none();
        if is_over || self.shared.reset_at.set((code, reliable)).is_err() {
            return Err(WriteError::Ended);
        }
        self.pipe = None;
        self.shared.pump.wake();
        Ok(())
    }

    /// Streams with a higher priority are sent first; 0 at the start. Takes effect for all that is not sent yet.
    pub fn set_priority(&self, priority: i32) {
        self.shared.priority.store(priority.into(), Ordering::Release);
        self.shared.pump.wake();
    }

    /// Waits until the stream is settled: `None` if the peer has acknowledged everything including the end (or this
    /// side reset the stream), the peer's code if it asked to stop.
    ///
    /// # Errors
    /// If the connection or the engine ends first.
    pub async fn stopped(&mut self) -> Result<Option<u64>, WriteError> {
        poll_fn(|cx| {
            self.shared.waiting.register(cx.waker());
            match self.shared.settled.get() {
                None => Poll::Pending,
                Some(Settled::Delivered) => Poll::Ready(Ok(None)),
                Some(Settled::Stopped(code)) => Poll::Ready(Ok(Some(*code))),
                Some(Settled::Failed(error)) => Poll::Ready(Err(error.clone())),
            }
        })
        .await
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        self.shared.dropped.store(true, Ordering::Release);
        self.shared.pump.wake();
    }
}

impl fmt::Debug for SendStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendStream").field("id", &self.id).field("open", &self.pipe.is_some()).finish_non_exhaustive()
    }
}

#[cfg(feature = "tokio")]
impl tokio::io::AsyncWrite for SendStream {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let piece = &data[..data.len().min(WRITE_BYTES_MAX)];
        ready!(self.poll_push(cx, || Some(Chunk::copy_from_slice(piece))))?;
        Poll::Ready(Ok(piece.len()))
    }

    /// What was written is with the worker already, which sends it by itself.
    fn poll_flush(self: std::pin::Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Finishes the stream; does not wait for delivery.
    fn poll_shutdown(mut self: std::pin::Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.finish() {
            Ok(()) | Err(WriteError::Ended) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

/// The worker's side of what is shared. However the pump ends, the other side learns of it.
struct Guard(Arc<Shared>);

impl Guard {
    fn settle(&self, settled: Settled) {
        // Only the pump settles, and once.
        let _ = self.0.settled.set(settled);
        self.0.waiting.wake();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.settle(Settled::Failed(WriteError::Engine(EngineError::Stopped)));
    }
}

/// The worker's half of a stream: takes from the ring and writes, until the end or an error.
///
/// The fields are dropped in their order: a writer that waits for room is woken by the end of the pipe, and finds how
/// the stream was settled.
struct Pump {
    shared: Guard,
    pipe: pipe::Receiver<Chunk>,
    stream: local::SendStream<Roaming>,
}

impl Pump {
    async fn run(mut self) {
        let settled = match self.relay().await {
            Ok(()) => self.await_delivery().await,
            Err(settled) => settled,
        };
        self.shared.settle(settled);
    }

    /// Writes what comes through the pipe, and its end.
    async fn relay(&mut self) -> Result<(), Settled> {
        while !self.shared.0.has_kept_part(&self.stream)
            && let Some(mut chunk) = self.next_chunk().await?
        {
            let Self { stream, shared, .. } = self;
            poll_fn(|cx| {
                ready_err(shared.0.poll_wishes(cx, stream))?;
                if shared.0.has_kept_part(stream) {
                    return Poll::Ready(Ok(()));
                }
                stream.poll_write_chunk(cx, &mut chunk).map_err(settled_by)
            })
            .await?;
        }
        let Some((code, reliable)) = self.shared.0.reset_at.get() else {
            return self.stream.finish().map_err(settled_by);
        };
        self.stream.reset_at(*code, *reliable).map_err(|error| {
            if error == WriteError::Unsupported {
                // An error says that the stream is over already.
                let _ = self.stream.reset(*code);
            }
            settled_by(error)
        })
    }

    /// The next chunk; `None` at the end of the pipe. Looks out for the peer meanwhile, which may ask to stop.
    async fn next_chunk(&mut self) -> Result<Option<Chunk>, Settled> {
        if let Some(chunk) = self.pipe.pop() {
            return Ok(Some(chunk));
        }
        let Self { stream, shared, pipe } = self;
        poll_fn(|cx| {
            ready_err(shared.0.poll_wishes(cx, stream))?;
            match pipe.poll_pop(cx) {
                // A reset comes with the end of the pipe, and is told apart from it only by the wish.
                Poll::Ready(None) => match shared.0.poll_wishes(cx, stream) {
                    Poll::Ready(settled) => Poll::Ready(Err(settled)),
                    Poll::Pending => Poll::Ready(Ok(None)),
                },
                Poll::Ready(chunk) => Poll::Ready(Ok(chunk)),
                Poll::Pending => pin!(stream.stopped()).poll(cx).map(|outcome| Err(settled_as(outcome))),
            }
        })
        .await
    }

    /// Waits until the finished stream is settled, as long as anybody holds the other side.
    async fn await_delivery(&mut self) -> Settled {
        let Self { stream, shared, .. } = self;
        poll_fn(|cx| {
            if let Poll::Ready(settled) = shared.0.poll_wishes(cx, stream) {
                return Poll::Ready(settled);
            }
            if shared.0.dropped.load(Ordering::Acquire) {
                // Nobody is left to be told; the connection delivers the rest by itself.
                return Poll::Ready(Settled::Delivered);
            }
            pin!(stream.stopped()).poll(cx).map(settled_as)
        })
        .await
    }
}

impl Shared {
    /// The stream is to be reset behind a part, and that part was written.
    fn has_kept_part(&self, stream: &local::SendStream<Roaming>) -> bool {
        self.reset_at.get().is_some_and(|(_, reliable)| stream.written() >= *reliable)
    }

    /// Carries out what is wanted beside the data. Ready if that ends the stream.
    fn poll_wishes(&self, cx: &Context<'_>, stream: &mut local::SendStream<Roaming>) -> Poll<Settled> {
        self.pump.register(cx.waker());
        if self.priority.load(Ordering::Relaxed) != SAME_PRIORITY {
            let priority = self.priority.swap(SAME_PRIORITY, Ordering::Acquire);
            if let Ok(priority) = i32::try_from(priority) {
                // An error says that the connection is over; the next step finds that too.
                let _ = stream.set_priority(priority);
            }
        }
        match self.reset.load(Ordering::Acquire) {
            NO_RESET => Poll::Pending,
            code => {
                // An error says that the stream is over already.
                let _ = stream.reset(code);
                Poll::Ready(Settled::Delivered)
            }
        }
    }
}

/// For `?`: an outcome that is there ends what is done, as an error.
fn ready_err(outcome: Poll<Settled>) -> Result<(), Settled> {
    match outcome {
        Poll::Ready(settled) => Err(settled),
        Poll::Pending => Ok(()),
    }
}

fn settled_by(error: WriteError) -> Settled {
    match error {
        WriteError::Stopped(code) => Settled::Stopped(code),
        error => Settled::Failed(error),
    }
}

fn settled_as(outcome: Result<Option<u64>, OperationError>) -> Settled {
    match outcome {
        Ok(None) => Settled::Delivered,
        Ok(Some(code)) => Settled::Stopped(code),
        Err(error) => Settled::Failed(error.into()),
    }
}
