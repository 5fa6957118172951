//! The two kinds of handles that Warpline has, under one trait: those for any thread, and those inside a worker.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use warpline::{Chunk, OperationError, ReadError, Side, StreamId, WriteError, local};

/// Both parts of a bidirectional stream.
pub type Pair<T> = (<T as Transport>::Send, <T as Transport>::Recv);

/// A connection's handle. Implemented by [`warpline::Connection`] and [`warpline::local::Connection`]; closed to others.
pub trait Transport: Clone + sealed::Sealed + 'static {
    /// The sending part of its streams.
    type Send: SendHalf;
    /// The receiving part of its streams.
    type Recv: RecvHalf;
    /// A stream on the way to being opened.
    type Opening<S: 'static>: Future<Output = Result<S, OperationError>> + Unpin;

    /// Which side this is.
    fn side(&self) -> Result<Side, OperationError>;
    /// The next bidirectional stream of the peer.
    fn poll_accept_bi(&self, cx: &Context<'_>) -> Poll<Result<Pair<Self>, OperationError>>;
    /// The next unidirectional stream of the peer.
    fn poll_accept_uni(&self, cx: &Context<'_>) -> Poll<Result<Self::Recv, OperationError>>;
    /// Opens a bidirectional stream.
    fn open_bi(&self) -> Self::Opening<Pair<Self>>;
    /// Opens a unidirectional stream.
    fn open_uni(&self) -> Self::Opening<Self::Send>;
    /// Closes the connection at once.
    fn close(&self, code: u64, reason: &[u8]);
}

/// The sending part of a stream.
pub trait SendHalf: sealed::Sealed {
    /// The stream's ID.
    fn id(&self) -> StreamId;
    /// Takes the chunk, in whole before it is ready.
    fn poll_write_chunk(&mut self, cx: &mut Context<'_>, chunk: &mut Chunk) -> Poll<Result<(), WriteError>>;
    /// Nothing more will be written.
    fn finish(&mut self) -> Result<(), WriteError>;
    /// Abandons the stream.
    fn reset(&mut self, code: u64) -> Result<(), WriteError>;
    /// Everything is acknowledged, or the peer's code if it asked to stop.
    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<u64>, WriteError>>;
}

/// The receiving part of a stream.
pub trait RecvHalf: sealed::Sealed {
    /// The stream's ID.
    fn id(&self) -> StreamId;
    /// The next bytes in order.
    fn poll_read_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Chunk>, ReadError>>;
    /// Asks the peer to stop.
    fn stop(&mut self, code: u64) -> Result<(), ReadError>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for warpline::Connection {}
    impl Sealed for warpline::SendStream {}
    impl Sealed for warpline::RecvStream {}
    impl Sealed for warpline::local::Connection {}
    impl Sealed for warpline::local::SendStream {}
    impl Sealed for warpline::local::RecvStream {}
}

impl Transport for warpline::Connection {
    type Send = warpline::SendStream;
    type Recv = warpline::RecvStream;
    type Opening<S: 'static> = Pin<Box<dyn Future<Output = Result<S, OperationError>> + Send>>;

    fn side(&self) -> Result<Side, OperationError> {
        Ok(Self::side(self))
    }

    fn poll_accept_bi(&self, cx: &Context<'_>) -> Poll<Result<Pair<Self>, OperationError>> {
        Self::poll_accept_bi(self, cx)
    }

    fn poll_accept_uni(&self, cx: &Context<'_>) -> Poll<Result<Self::Recv, OperationError>> {
        Self::poll_accept_uni(self, cx)
    }

    fn open_bi(&self) -> Self::Opening<Pair<Self>> {
        let connection = self.clone();
        Box::pin(async move { Self::open_bi(&connection).await })
    }

    fn open_uni(&self) -> Self::Opening<Self::Send> {
        let connection = self.clone();
        Box::pin(async move { Self::open_uni(&connection).await })
    }

    fn close(&self, code: u64, reason: &[u8]) {
        Self::close(self, code, reason);
    }
}

impl Transport for local::Connection {
    type Send = local::SendStream;
    type Recv = local::RecvStream;
    type Opening<S: 'static> = Pin<Box<dyn Future<Output = Result<S, OperationError>>>>;

    fn side(&self) -> Result<Side, OperationError> {
        Self::side(self)
    }

    fn poll_accept_bi(&self, cx: &Context<'_>) -> Poll<Result<Pair<Self>, OperationError>> {
        Self::poll_accept_bi(self, cx)
    }

    fn poll_accept_uni(&self, cx: &Context<'_>) -> Poll<Result<Self::Recv, OperationError>> {
        Self::poll_accept_uni(self, cx)
    }

    fn open_bi(&self) -> Self::Opening<Pair<Self>> {
        let connection = self.clone();
        Box::pin(async move { Self::open_bi(&connection).await })
    }

    fn open_uni(&self) -> Self::Opening<Self::Send> {
        let connection = self.clone();
        Box::pin(async move { Self::open_uni(&connection).await })
    }

    fn close(&self, code: u64, reason: &[u8]) {
        Self::close(self, code, reason);
    }
}

impl SendHalf for warpline::SendStream {
    fn id(&self) -> StreamId {
        Self::id(self)
    }

    fn poll_write_chunk(&mut self, cx: &mut Context<'_>, chunk: &mut Chunk) -> Poll<Result<(), WriteError>> {
        Self::poll_write_chunk(self, cx, chunk)
    }

    fn finish(&mut self) -> Result<(), WriteError> {
        Self::finish(self)
    }

    fn reset(&mut self, code: u64) -> Result<(), WriteError> {
        Self::reset(self, code)
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<u64>, WriteError>> {
        // The future keeps nothing between two polls.
        pin!(Self::stopped(self)).poll(cx)
    }
}

impl SendHalf for local::SendStream {
    fn id(&self) -> StreamId {
        Self::id(self)
    }

    fn poll_write_chunk(&mut self, cx: &mut Context<'_>, chunk: &mut Chunk) -> Poll<Result<(), WriteError>> {
        Self::poll_write_chunk(self, cx, chunk)
    }

    fn finish(&mut self) -> Result<(), WriteError> {
        Self::finish(self)
    }

    fn reset(&mut self, code: u64) -> Result<(), WriteError> {
        Self::reset(self, code)
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<u64>, WriteError>> {
        // The future keeps nothing between two polls.
        pin!(Self::stopped(self)).poll(cx).map_err(WriteError::from)
    }
}

impl RecvHalf for warpline::RecvStream {
    fn id(&self) -> StreamId {
        Self::id(self)
    }

    fn poll_read_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Chunk>, ReadError>> {
        Self::poll_read_chunk(self, cx, max)
    }

    fn stop(&mut self, code: u64) -> Result<(), ReadError> {
        Self::stop(self, code)
    }
}

impl RecvHalf for local::RecvStream {
    fn id(&self) -> StreamId {
        Self::id(self)
    }

    fn poll_read_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Chunk>, ReadError>> {
        Self::poll_read_chunk(self, cx, max)
    }

    fn stop(&mut self, code: u64) -> Result<(), ReadError> {
        Self::stop(self, code)
    }
}
