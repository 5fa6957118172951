//! Where frames begin and how long they are (RFC 9114 section 7.1), to refuse those that nobody should hold in memory.
//!
//! `h3` gathers a frame that is not DATA until it is whole, and gives flow control back meanwhile: without a bound a peer
//! fills the memory with one HEADERS frame.

use h3::error::Code;

use crate::error::Violation;
use crate::limits::FRAME_MAX;

const DATA: u64 = 0x00;
/// The signal of a bidirectional WebTransport stream: no length follows, and no further frame.
const WEBTRANSPORT_STREAM: u64 = 0x41;
/// The longest variable-length integer (RFC 9000 section 16).
const VARINT_MAX: usize = 8;

const TOO_LONG: Violation = Violation::new(Code::H3_EXCESSIVE_LOAD, "a frame is longer than this endpoint takes");

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
}

#[derive(Debug)]
enum At {
    /// In the type of the stream, which comes once on unidirectional streams.
    StreamType,
    Type,
    Length(u64),
    /// Bytes of the payload that are still to come.
    Payload(u64),
    /// No further frame.
    Raw,
}

impl FrameGuard {
    /// For a bidirectional stream.
    pub(crate) fn request() -> Self {
        Self { number: VarInt::default(), at: At::Type }
    }

    /// For a unidirectional stream, from its type on.
    pub(crate) fn unidirectional() -> Self {
        Self { number: VarInt::default(), at: At::StreamType }
    }

    /// Follows the next bytes.
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        loop {
            if let At::Payload(left) = &mut self.at {
                let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= skipped as u64;
                bytes = &bytes[skipped..];
                if *left == 0 {
                    self.at = At::Type;
                }
            }
            if matches!(self.at, At::Raw) {
                return Ok(());
            }
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
            if matches!(self.at, At::Payload(_)) {
                return Ok(());
            }
            bytes = rest;
            let Some(number) = self.number.push(byte) else { continue };
            self.at = match self.at {
                At::StreamType => At::Type,
                At::Type if number == WEBTRANSPORT_STREAM => At::Raw,
                At::Type => At::Length(number),
                At::Length(kind) if kind != DATA && number > FRAME_MAX => return Err(TOO_LONG),
                At::Length(_) | At::Payload(_) => At::Payload(number),
                At::Raw => At::Raw,
            };
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

    fn follow(guard: &mut FrameGuard, bytes: &[u8], piece: usize) -> Result<(), Violation> {
        bytes.chunks(piece).try_for_each(|piece| guard.follow(piece))
    }

    #[test]
    fn frames_in_pieces_of_any_size_are_followed() {
        let stream = [frame(0x01, 500), frame(0x00, 200_000), frame(0x21, FRAME_MAX as usize), frame(0x00, 0)].concat();
        let hostile = [stream.clone(), vec![0x01, 0xc0, 0, 0, 0, 0, 1, 0, 1]].concat();
        for piece in [1, 2, 3, 7, 1_000, hostile.len()] {
            assert_eq!(follow(&mut FrameGuard::request(), &stream, piece), Ok(()));
            assert_eq!(follow(&mut FrameGuard::request(), &hostile, piece), Err(TOO_LONG), "pieces of {piece}");
        }
    }

    #[test]
    fn a_type_precedes_the_frames_of_unidirectional_streams() {
        let stream = [vec![0x00], frame(0x04, 3), vec![0x07, 0x80, 0x01, 0, 1]].concat();
        assert_eq!(follow(&mut FrameGuard::unidirectional(), &stream, 1), Err(TOO_LONG));
    }

    #[test]
    fn webtransport_streams_have_no_frames() {
        let stream = [vec![0x40, 0x41], vec![0x01; 100], vec![0xff; 100]].concat();
        assert_eq!(follow(&mut FrameGuard::request(), &stream, 3), Ok(()));
    }
}
