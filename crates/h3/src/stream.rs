//! Streams as `h3` wants them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use warpline::{Chunk, Side};

use crate::error::{self, Malformed, Violation};
use crate::frames::{Fault, FrameGuard};
use crate::limits::PIECE;
use crate::transport::{Pair, RecvHalf, SendHalf, Transport};

/// The first byte of a DATA frame (RFC 9114 section 7.2.1).
const DATA: u8 = 0x00;

fn stream_id(id: warpline::StreamId) -> StreamId {
    StreamId::try_from(id.0).expect("stream IDs of QUIC are below 2^62, as those of h3 are")
}

const REFUSED: Malformed = Malformed("found in the other direction of the stream");

/// Whether the message that came on a stream was malformed, for the half that sends: it is to say so (RFC 9114 section 4.1.2).
#[derive(Clone, Default)]
struct Refusal(Arc<AtomicBool>);

impl Refusal {
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How far a message has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// At most header sections.
    Headers,
    /// A part of the body.
    Body,
    /// The end was said, or the stream was reset.
    Over,
}

/// The sending part of a stream.
///
/// Finishing the response to a request is done when the client has acknowledged all of it, so that a server which closes
/// the connection after its last response cuts nothing off. Finishing anything else does not wait.
///
/// Dropped before its end, the message is abandoned: a request is cancelled (H3_REQUEST_CANCELLED), a response of which a
/// part of the body was sent is reset (H3_INTERNAL_ERROR), so that nobody takes a part for the whole (RFC 9114 section
/// 4.1.1). A response of headers alone is finished: `h3` leaves its answer to too long headers like that.
pub struct SendStream<T: Transport, B: Buf> {
    inner: T::Send,
    writing: Option<WriteBuf<B>>,
    /// The part of `writing` that the stream has not taken yet.
    piece: Chunk,
    progress: Progress,
    /// `None` for unidirectional streams.
    role: Option<Side>,
    /// Of the other direction.
    refusal: Refusal,
}

impl<T: Transport, B: Buf> SendStream<T, B> {
    pub(crate) fn unidirectional(inner: T::Send) -> Self {
        Self::new(inner, None, Refusal::default())
    }

    fn message(inner: T::Send, side: Side, refusal: Refusal) -> Self {
        Self::new(inner, Some(side), refusal)
    }

    fn new(inner: T::Send, role: Option<Side>, refusal: Refusal) -> Self {
        Self { inner, writing: None, piece: Chunk::new(), progress: Progress::Headers, role, refusal }
    }

    /// Resets the stream if what came on it was malformed.
    fn heed(&mut self) -> Result<(), StreamErrorIncoming> {
        if !self.refusal.is_set() {
            return Ok(());
        }
        if self.progress != Progress::Over {
            quic::SendStream::<B>::reset(self, Code::H3_MESSAGE_ERROR.value());
        }
        Err(REFUSED.incoming())
    }

    /// Hands the current piece to the stream.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if self.piece.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_write_chunk(cx, &mut self.piece).map_err(error::write)
    }

    /// The code with which a stream that is dropped now is to be reset.
    fn abandonment(&self) -> Option<Code> {
        match (self.role?, self.progress) {
            (_, Progress::Over) => None,
            _ if self.refusal.is_set() => Some(Code::H3_MESSAGE_ERROR),
            (Side::Server, Progress::Headers) => None,
            (Side::Client, _) => Some(Code::H3_REQUEST_CANCELLED),
            (Side::Server, Progress::Body) => Some(Code::H3_INTERNAL_ERROR),
        }
    }
}

impl<T: Transport, B: Buf> quic::SendStream<B> for SendStream<T, B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.heed()?;
        loop {
            ready!(self.poll_piece(cx))?;
            let Some(data) = self.writing.as_mut().filter(|data| data.has_remaining()) else {
                self.writing = None;
                return Poll::Ready(Ok(()));
            };
            // The frame's header and the front of its payload in one piece.
            self.piece = Chunk::from(data.copy_to_bytes(data.remaining().min(PIECE)));
        }
    }

    fn send_data<D: Into<WriteBuf<B>>>(&mut self, data: D) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            let misuse = "send_data before poll_ready was ready".to_owned();
            return Err(error::lost(ConnectionErrorIncoming::InternalError(misuse)));
        }
        let data = data.into();
        if data.chunk().first() == Some(&DATA) && self.progress == Progress::Headers {
            self.progress = Progress::Body;
        }
        self.writing = Some(data);
        Ok(())
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.heed()?;
        if self.progress != Progress::Over {
            self.inner.finish().map_err(error::write)?;
            self.progress = Progress::Over;
        }
        if self.role != Some(Side::Server) {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(match ready!(self.inner.poll_stopped(cx)).map_err(error::write)? {
            None => Ok(()),
            Some(error_code) => Err(StreamErrorIncoming::StreamTerminated { error_code }),
        })
    }

    fn reset(&mut self, reset_code: u64) {
        self.progress = Progress::Over;
        // An error says that the stream is over already.
        let _ = self.inner.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        stream_id(self.inner.id())
    }
}

impl<T: Transport, B: Buf> quic::SendStreamUnframed<B> for SendStream<T, B> {
    fn poll_send<D: Buf>(&mut self, cx: &mut Context<'_>, buf: &mut D) -> Poll<Result<usize, StreamErrorIncoming>> {
        ready!(quic::SendStream::<B>::poll_ready(self, cx))?;
        if !buf.has_remaining() {
            return Poll::Ready(Ok(0));
        }
        self.progress = Progress::Body;
        let len = buf.chunk().len().min(PIECE);
        self.piece = Chunk::copy_from_slice(&buf.chunk()[..len]);
        // Taken: what the stream does not accept at once goes with the next call.
        buf.advance(len);
        match self.poll_piece(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(len)),
        }
    }
}

impl<T: Transport, B: Buf> Drop for SendStream<T, B> {
    fn drop(&mut self) {
        if let Some(code) = self.abandonment() {
            // An error says that the stream is over already.
            let _ = self.inner.reset(code.value());
        }
    }
}

/// The receiving part of a stream.
///
/// Dropped before its end, the peer is asked to stop: a client says H3_REQUEST_CANCELLED, a server H3_NO_ERROR, which
/// leaves its response valid (RFC 9114 section 4.1).
pub struct RecvStream<T: Transport> {
    inner: T::Recv,
    /// To close the connection if the peer breaks its rules.
    transport: T,
    /// What was read before `h3` got the stream.
    head: Bytes,
    guard: FrameGuard,
    side: Side,
    /// For the other direction.
    refusal: Refusal,
    /// The end was read, or an error, or the peer was asked to stop.
    over: bool,
}

impl<T: Transport> RecvStream<T> {
    /// A unidirectional stream of which `head`, the type, was read.
    pub(crate) fn unidirectional(inner: T::Recv, head: Bytes, transport: T, side: Side) -> Self {
        let guard = FrameGuard::unidirectional();
        Self { inner, transport, head, guard, side, refusal: Refusal::default(), over: false }
    }

    fn message(inner: T::Recv, transport: T, side: Side, refusal: Refusal) -> Self {
        Self { inner, transport, head: Bytes::new(), guard: FrameGuard::message(side), side, refusal, over: false }
    }

    fn check(&mut self, data: Bytes) -> Result<Option<Bytes>, StreamErrorIncoming> {
        match self.guard.follow(&data) {
            Ok(()) => Ok(Some(data)),
            Err(Fault::Connection(violation)) => {
                self.over = true;
                Err(close(&self.transport, violation))
            }
            Err(Fault::Stream(malformed)) => Err(self.refuse(malformed)),
        }
    }

    /// Both directions say that the message is malformed.
    fn refuse(&mut self, malformed: Malformed) -> StreamErrorIncoming {
        self.refusal.set();
        quic::RecvStream::stop_sending(self, Code::H3_MESSAGE_ERROR.value());
        malformed.incoming()
    }
}

/// Closes the connection because of what the peer did.
fn close<T: Transport>(transport: &T, violation: Violation) -> StreamErrorIncoming {
    transport.close(violation.code.value(), violation.reason.as_bytes());
    error::lost(violation.incoming())
}

impl<T: Transport> quic::RecvStream for RecvStream<T> {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        if !self.head.is_empty() {
            let head = std::mem::take(&mut self.head);
            return Poll::Ready(self.check(head));
        }
        match ready!(self.inner.poll_read_chunk(cx, usize::MAX)) {
            Ok(Some(chunk)) => Poll::Ready(self.check(chunk.into_bytes())),
            Ok(None) => {
                self.over = true;
                Poll::Ready(self.guard.end().map(|()| None).map_err(|malformed| self.refuse(malformed)))
            }
            Err(failed) => {
                self.over = true;
                Poll::Ready(Err(error::read(failed)))
            }
        }
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.over = true;
        // An error says that the stream is over already.
        let _ = self.inner.stop(error_code);
    }

    fn recv_id(&self) -> StreamId {
        stream_id(self.inner.id())
    }
}

impl<T: Transport> Drop for RecvStream<T> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let code = match self.side {
            Side::Client => Code::H3_REQUEST_CANCELLED,
            Side::Server => Code::H3_NO_ERROR,
        };
        // An error says that the stream is over already.
        let _ = self.inner.stop(code.value());
    }
}

/// A stream for a request and its response.
pub struct BidiStream<T: Transport, B: Buf> {
    send: SendStream<T, B>,
    recv: RecvStream<T>,
}

impl<T: Transport, B: Buf> BidiStream<T, B> {
    pub(crate) fn new((send, recv): Pair<T>, transport: T, side: Side) -> Self {
        let refusal = Refusal::default();
        let recv = RecvStream::message(recv, transport, side, refusal.clone());
        Self { send: SendStream::message(send, side, refusal), recv }
    }
}

impl<T: Transport, B: Buf> quic::BidiStream<B> for BidiStream<T, B> {
    type SendStream = SendStream<T, B>;
    type RecvStream = RecvStream<T>;

    fn split(self) -> (Self::SendStream, Self::RecvStream) {
        (self.send, self.recv)
    }
}

impl<T: Transport, B: Buf> quic::RecvStream for BidiStream<T, B> {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let polled = self.recv.poll_data(cx);
        if matches!(polled, Poll::Ready(Err(_))) {
            // The error of reading is the one that says more.
            let _ = self.send.heed();
        }
        polled
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.recv.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.recv_id()
    }
}

impl<T: Transport, B: Buf> quic::SendStream<B> for BidiStream<T, B> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<D: Into<WriteBuf<B>>>(&mut self, data: D) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, reset_code: u64) {
        self.send.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

impl<T: Transport, B: Buf> quic::SendStreamUnframed<B> for BidiStream<T, B> {
    fn poll_send<D: Buf>(&mut self, cx: &mut Context<'_>, buf: &mut D) -> Poll<Result<usize, StreamErrorIncoming>> {
        self.send.poll_send(cx, buf)
    }
}
