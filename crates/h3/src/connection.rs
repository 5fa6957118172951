//! A connection as `h3` wants it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming};
use warpline::{OperationError, Side};

use crate::error::{self, Violation};
use crate::peer_streams::{ConnectionError, PeerStreams};
use crate::stream::{BidiStream, RecvStream, SendStream};
use crate::transport::{Pair, Transport};

/// A connection for `h3::server::builder().build(…)` or `h3::client::builder().build(…)`.
///
/// Over [`warpline::Connection`] it can be used on any thread, over [`warpline::local::Connection`] inside its worker.
pub struct Connection<T: Transport = warpline::Connection> {
    transport: T,
    side: Side,
    open: OpenStreams<T>,
    peer_streams: PeerStreams<T>,
    /// What the connection was closed for.
    violation: Option<Violation>,
}

impl<T: Transport> Connection<T> {
    /// Takes a connection whose handshake is done, and which agreed on [`ALPN`](crate::ALPN).
    ///
    /// # Errors
    /// If a handle inside a worker names a connection that has ended.
    pub fn new(transport: T) -> Result<Self, OperationError> {
        let side = transport.side()?;
        let open = OpenStreams::new(transport.clone(), side);
        Ok(Self { transport, side, open, peer_streams: PeerStreams::new(side), violation: None })
    }

    fn violated(&mut self, violation: Violation) -> ConnectionErrorIncoming {
        self.transport.close(violation.code.value(), violation.reason.as_bytes());
        self.violation = Some(violation);
        violation.incoming()
    }
}

impl<T: Transport, B: Buf> quic::Connection<B> for Connection<T> {
    type RecvStream = RecvStream<T>;
    type OpenStreams = OpenStreams<T>;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::RecvStream, ConnectionErrorIncoming>> {
        if let Some(violation) = self.violation {
            return Poll::Ready(Err(violation.incoming()));
        }
        Poll::Ready(ready!(self.peer_streams.poll(&self.transport, cx)).map_err(|error| match error {
            ConnectionError::Lost(error) => error,
            ConnectionError::Violation(violation) => self.violated(violation),
        }))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::BidiStream, ConnectionErrorIncoming>> {
        if let Some(violation) = self.violation {
            return Poll::Ready(Err(violation.incoming()));
        }
        let pair = ready!(self.transport.poll_accept_bi(cx)).map_err(error::operation)?;
        Poll::Ready(Ok(BidiStream::new(pair, self.transport.clone(), self.side)))
    }

    fn opener(&self) -> Self::OpenStreams {
        self.open.clone()
    }
}

impl<T: Transport, B: Buf> quic::OpenStreams<B> for Connection<T> {
    type BidiStream = BidiStream<T, B>;
    type SendStream = SendStream<T, B>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::BidiStream, StreamErrorIncoming>> {
        self.open.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        self.open.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.transport.close(code.value(), reason);
    }
}

/// Opens streams on a connection.
pub struct OpenStreams<T: Transport = warpline::Connection> {
    transport: T,
    side: Side,
    opening_bidi: Option<T::Opening<Pair<T>>>,
    opening_send: Option<T::Opening<T::Send>>,
}

impl<T: Transport> OpenStreams<T> {
    fn new(transport: T, side: Side) -> Self {
        Self { transport, side, opening_bidi: None, opening_send: None }
    }
}

impl<T: Transport> Clone for OpenStreams<T> {
    fn clone(&self) -> Self {
        Self::new(self.transport.clone(), self.side)
    }
}

/// Goes on with what was begun, so that a poll that was given up opens no second stream.
fn poll_opening<S, F>(
    opening: &mut Option<F>,
    begin: impl FnOnce() -> F,
    cx: &mut Context<'_>,
) -> Poll<Result<S, StreamErrorIncoming>>
where
    F: Future<Output = Result<S, OperationError>> + Unpin,
{
    let opened = ready!(Pin::new(opening.get_or_insert_with(begin)).poll(cx));
    *opening = None;
    Poll::Ready(opened.map_err(|failed| error::lost(error::operation(failed))))
}

impl<T: Transport, B: Buf> quic::OpenStreams<B> for OpenStreams<T> {
    type BidiStream = BidiStream<T, B>;
    type SendStream = SendStream<T, B>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::BidiStream, StreamErrorIncoming>> {
        let pair = ready!(poll_opening(&mut self.opening_bidi, || self.transport.open_bi(), cx))?;
        Poll::Ready(Ok(BidiStream::new(pair, self.transport.clone(), self.side)))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        let stream = ready!(poll_opening(&mut self.opening_send, || self.transport.open_uni(), cx))?;
        Poll::Ready(Ok(SendStream::unidirectional(stream)))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.transport.close(code.value(), reason);
    }
}
