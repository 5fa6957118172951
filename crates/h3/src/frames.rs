//! Where frames begin and how long they are (RFC 9114 section 7.1), to refuse those that nobody should hold in memory.
//!
//! `h3` gathers a frame that is not DATA until it is whole, and gives flow control back meanwhile: without a bound a peer
//! fills the memory with one HEADERS frame.

use h3::error::Code;
use warpline::Side;

use crate::error::{Malformed, Violation};
use crate::fields::Message;
use crate::limits::FRAME_MAX;

const DATA: u64 = 0x00;
const HEADERS: u64 = 0x01;
/// The signal of a bidirectional WebTransport stream: no length follows, and no further frame.
const WEBTRANSPORT_STREAM: u64 = 0x41;
/// The longest variable-length integer (RFC 9000 section 16).
const VARINT_MAX: usize = 8;

const TOO_LONG: Violation = Violation::new(Code::H3_EXCESSIVE_LOAD, "a frame is longer than this endpoint takes");

/// What is wrong with what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection is to be closed.
    Connection(Violation),
    /// The stream is to be reset.
    Stream(Malformed),
}

/// A variable-length integer that arrives in pieces.
#[derive(Debug, Default)]
pub(crate) struct VarInt {
    bytes: [u8; VARINT_MAX],
    len: usize,
}

impl VarInt {
    /// Takes one more byte; the value once it is whole, after which the next one can begin.
    pub(crate) fn push(&mut self, byte: u8) -> Option<u64> {
        self.bytes[self.len] = byte;
        self.len += 1;
        let whole = 1usize << (self.bytes[0] >> 6);
        if self.len < whole {
            return None;
        }
        let first = u64::from(self.bytes[0] & 0x3f);
        let value = self.bytes[1..whole].iter().fold(first, |value, byte| value << 8 | u64::from(*byte));
        self.len = 0;
        Some(value)
    }
}

/// Follows the frames of one stream.
#[derive(Debug)]
pub(crate) struct FrameGuard {
    number: VarInt,
    at: At,
    /// Of a bidirectional stream.
    message: Option<Message>,
}

#[derive(Debug)]
enum At {
    /// In the type of the stream, which comes once on unidirectional streams.
    StreamType,
    Type,
    Length(u64),
    /// In a payload, with so many bytes still to come.
    Payload {
        kind: u64,
        left: u64,
    },
    /// No further frame.
    Raw,
}

impl FrameGuard {
    /// For a bidirectional stream, by which a message comes to `side`.
    pub(crate) fn message(side: Side) -> Self {
        Self { number: VarInt::default(), at: At::Type, message: Some(Message::to(side)) }
    }

    /// For a unidirectional stream, from its type on.
    pub(crate) fn unidirectional() -> Self {
        Self { number: VarInt::default(), at: At::StreamType, message: None }
    }

    /// Follows the next bytes.
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        loop {
            if let At::Payload { kind, left } = self.at {
                let (payload, rest) = bytes.split_at(usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()));
                bytes = rest;
                let left = left - payload.len() as u64;
                self.at = if left == 0 { At::Type } else { At::Payload { kind, left } };
                self.note(kind, payload, left == 0).map_err(Fault::Stream)?;
                if left > 0 {
                    return Ok(());
                }
            }
            if matches!(self.at, At::Raw) {
                return Ok(());
            }
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            let Some(number) = self.number.push(byte) else { continue };
            self.at = match self.at {
                At::StreamType => At::Type,
                At::Type if number == WEBTRANSPORT_STREAM => At::Raw,
                At::Type => At::Length(number),
                At::Length(kind) if kind != DATA && number > FRAME_MAX => return Err(Fault::Connection(TOO_LONG)),
                At::Length(kind) | At::Payload { kind, .. } => At::Payload { kind, left: number },
                At::Raw => At::Raw,
            };
        }
    }

    /// The stream has ended.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        self.message.as_ref().map_or(Ok(()), Message::end)
    }

    /// A piece of a frame's payload.
    fn note(&mut self, kind: u64, payload: &[u8], is_last: bool) -> Result<(), Malformed> {
        match (&mut self.message, kind) {
            (Some(message), HEADERS) => message.fields(payload, is_last),
            (Some(message), DATA) => message.body(payload.len()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of a type below 64, with its length in four bytes.
    fn frame(kind: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&(0x8000_0000_u32 | len as u32).to_be_bytes());
        bytes.resize(bytes.len() + len, 0xff);
        bytes
    }

    fn follow(guard: &mut FrameGuard, bytes: &[u8], piece: usize) -> Result<(), Fault> {
        bytes.chunks(piece).try_for_each(|piece| guard.follow(piece))
    }

    #[test]
    fn frames_in_pieces_of_any_size_are_followed() {
        let stream = [frame(0x01, 500), frame(0x00, 200_000), frame(0x21, FRAME_MAX as usize), frame(0x00, 0)].concat();
        let hostile = [stream.clone(), vec![0x01, 0xc0, 0, 0, 0, 0, 1, 0, 1]].concat();
        for piece in [1, 2, 3, 7, 1_000, hostile.len()] {
            assert_eq!(follow(&mut FrameGuard::message(Side::Server), &stream, piece), Ok(()));
            assert_eq!(
                follow(&mut FrameGuard::message(Side::Server), &hostile, piece),
                Err(Fault::Connection(TOO_LONG)),
                "pieces of {piece}"
            );
        }
    }

    #[test]
    fn a_type_precedes_the_frames_of_unidirectional_streams() {
        let stream = [vec![0x00], frame(0x04, 3), vec![0x07, 0x80, 0x01, 0, 1]].concat();
        assert_eq!(follow(&mut FrameGuard::unidirectional(), &stream, 1), Err(Fault::Connection(TOO_LONG)));
    }

    #[test]
    fn webtransport_streams_have_no_frames() {
        let stream = [vec![0x40, 0x41], vec![0x01; 100], vec![0xff; 100]].concat();
        assert_eq!(follow(&mut FrameGuard::message(Side::Server), &stream, 3), Ok(()));
    }
}
