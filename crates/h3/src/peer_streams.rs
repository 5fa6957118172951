//! The unidirectional streams that the peer opens (RFC 9114 section 6.2).
//!
//! `h3` takes the control stream and those of unknown types. The streams of QPACK stay here: `h3` accepts them and never
//! reads them, so that a peer could say anything on them, or close them. Neither side uses a dynamic table, since `h3`
//! announces none, which leaves next to nothing that the peer may say.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h3::error::Code;
use h3::quic::ConnectionErrorIncoming;
use warpline::{ReadError, Side};

use crate::error::{self, Violation};
use crate::frames::VarInt;
use crate::stream::RecvStream;
use crate::transport::{RecvHalf, Transport};

const PUSH: u64 = 0x01;
const ENCODER: u64 = 0x02;
const DECODER: u64 = 0x03;

const ENCODER_INSTRUCTION: Violation = Violation::new(
    Code::QPACK_ENCODER_STREAM_ERROR,
    "an instruction for a dynamic table, of which this endpoint allows no bytes",
);
const DECODER_INSTRUCTION: Violation =
    Violation::new(Code::QPACK_DECODER_STREAM_ERROR, "an acknowledgement of dynamic entries that were never sent");
const CLOSED: Violation = Violation::new(Code::H3_CLOSED_CRITICAL_STREAM, "a stream of QPACK was closed");
const SECOND: Violation = Violation::new(Code::H3_STREAM_CREATION_ERROR, "a second stream of QPACK of one kind");
const PUSH_BY_CLIENT: Violation = Violation::new(Code::H3_STREAM_CREATION_ERROR, "a client opened a push stream");
const PUSH_UNASKED: Violation = Violation::new(Code::H3_ID_ERROR, "a push stream, of which this client allows none");

/// What the peer may say to an endpoint without a dynamic table (RFC 9204 sections 4.3 and 4.4).
#[derive(Debug)]
enum Instructions {
    /// Set Dynamic Table Capacity to 0; everything else needs a table.
    Encoder,
    /// Stream Cancellation; everything else needs a table. True within the number of a cancelled stream.
    Decoder(bool),
}

impl Instructions {
    fn follow(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        for &byte in bytes {
            match self {
                Self::Encoder if byte == 0b0010_0000 => {}
                Self::Encoder => return Err(ENCODER_INSTRUCTION),
                // The number goes on while the first bit is set.
                Self::Decoder(within) if *within => *within = byte & 0x80 != 0,
                Self::Decoder(within) if byte >> 6 == 0b01 => *within = byte & 0x3f == 0x3f,
                Self::Decoder(_) => return Err(DECODER_INSTRUCTION),
            }
        }
        Ok(())
    }
}

/// One of the peer's two streams of QPACK.
struct Critical<R> {
    stream: R,
    instructions: Instructions,
}

impl<R: RecvHalf> Critical<R> {
    /// Reads what is there. Never ready but with an error.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        loop {
            let violation = match ready!(self.stream.poll_read_chunk(cx, usize::MAX)) {
                Ok(Some(chunk)) => match self.instructions.follow(&chunk) {
                    Ok(()) => continue,
                    Err(violation) => violation,
                },
                Ok(None) | Err(ReadError::Reset(_) | ReadError::Ended) => CLOSED,
                Err(ReadError::Closed(error)) => return Poll::Ready(ConnectionError::Lost(error::connection(error))),
                Err(ReadError::Engine(error)) => {
                    return Poll::Ready(ConnectionError::Lost(error::operation(error.into())));
                }
            };
            return Poll::Ready(ConnectionError::Violation(violation));
        }
    }
}

/// A stream whose type has not arrived yet.
struct Unknown<R> {
    stream: R,
    kind: VarInt,
    head: Vec<u8>,
}

impl<R: RecvHalf> Unknown<R> {
    /// The type; `None` if the stream ended before, which the receiver has to tolerate.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        loop {
            // Byte by byte: what follows the type belongs to whoever takes the stream.
            match ready!(self.stream.poll_read_chunk(cx, 1)) {
                Ok(Some(chunk)) => {
                    for &byte in &chunk[..] {
                        self.head.push(byte);
                        if let Some(kind) = self.kind.push(byte) {
                            return Poll::Ready(Some(kind));
                        }
                    }
                }
                // If the connection has ended, accepting the next stream says so.
                Ok(None) | Err(_) => return Poll::Ready(None),
            }
        }
    }
}

/// Why no stream comes any more.
pub(crate) enum ConnectionError {
    /// The transport ended.
    Lost(ConnectionErrorIncoming),
    /// The peer broke a rule; the connection is still to be closed.
    Violation(Violation),
}

/// All of them.
pub(crate) struct PeerStreams<T: Transport> {
    side: Side,
    /// At most as many as the transport lets the peer open.
    unknown: Vec<Unknown<T::Recv>>,
    encoder: Option<Critical<T::Recv>>,
    decoder: Option<Critical<T::Recv>>,
}

impl<T: Transport> PeerStreams<T> {
    pub(crate) fn new(side: Side) -> Self {
        Self { side, unknown: Vec::new(), encoder: None, decoder: None }
    }

    /// The next stream for `h3`.
    pub(crate) fn poll(&mut self, transport: &T, cx: &mut Context<'_>) -> Poll<Result<RecvStream<T>, ConnectionError>> {
        for critical in [&mut self.encoder, &mut self.decoder].into_iter().flatten() {
            if let Poll::Ready(error) = critical.poll(cx) {
                return Poll::Ready(Err(error));
            }
        }
        let mut ended = None;
        loop {
            match transport.poll_accept_uni(cx) {
                Poll::Ready(Ok(stream)) => {
                    self.unknown.push(Unknown { stream, kind: VarInt::default(), head: Vec::new() });
                }
                Poll::Ready(Err(error)) => {
                    ended = Some(error);
                    break;
                }
                Poll::Pending => break,
            }
        }
        let mut index = 0;
        while let Some(unknown) = self.unknown.get_mut(index) {
            let Poll::Ready(kind) = unknown.poll(cx) else {
                index += 1;
                continue;
            };
            let Unknown { stream, head, .. } = self.unknown.swap_remove(index);
            let Some(kind) = kind else { continue };
            match self.sort(kind, stream, cx) {
                Ok(None) => {}
                Ok(Some(stream)) => {
                    let head = Bytes::from(head);
                    return Poll::Ready(Ok(RecvStream::unidirectional(stream, head, transport.clone(), self.side)));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        match ended {
            Some(error) => Poll::Ready(Err(ConnectionError::Lost(error::operation(error)))),
            None => Poll::Pending,
        }
    }

    /// Keeps a stream of QPACK; gives others back.
    fn sort(&mut self, kind: u64, stream: T::Recv, cx: &mut Context<'_>) -> Result<Option<T::Recv>, ConnectionError> {
        let (slot, instructions) = match kind {
            ENCODER => (&mut self.encoder, Instructions::Encoder),
            DECODER => (&mut self.decoder, Instructions::Decoder(false)),
            PUSH => {
                return Err(ConnectionError::Violation(match self.side {
                    Side::Server => PUSH_BY_CLIENT,
                    Side::Client => PUSH_UNASKED,
                }));
            }
            _ => return Ok(Some(stream)),
        };
        if slot.is_some() {
            return Err(ConnectionError::Violation(SECOND));
        }
        // What came with the type is read at once, and the task is woken for the rest.
        match slot.insert(Critical { stream, instructions }).poll(cx) {
            Poll::Ready(error) => Err(error),
            Poll::Pending => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_table_an_encoder_can_only_say_that_there_is_none() {
        assert_eq!(Instructions::Encoder.follow(&[0x20, 0x20]), Ok(()));
        // A capacity of 1, one of 31 or more, an insertion by static name, by literal name, a duplicate.
        for byte in [0x21, 0x3f, 0xc0, 0x80, 0x40, 0x00] {
            assert_eq!(Instructions::Encoder.follow(&[byte]), Err(ENCODER_INSTRUCTION), "{byte:#x}");
        }
    }

    #[test]
    fn without_a_table_a_decoder_can_only_cancel_streams() {
        let mut instructions = Instructions::Decoder(false);
        // Stream 4, then stream 1,000 in pieces, then stream 0.
        assert_eq!(instructions.follow(&[0x44, 0x7f, 0xa9]), Ok(()));
        assert_eq!(instructions.follow(&[0x07, 0x40]), Ok(()));
        // An insert count increment of 0 and of 1, a section acknowledgement.
        for byte in [0x00, 0x01, 0x80] {
            assert_eq!(Instructions::Decoder(false).follow(&[0x44, byte]), Err(DECODER_INSTRUCTION), "{byte:#x}");
        }
    }
}
