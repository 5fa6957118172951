//! Frames of streams and of flow control (RFC 9000 sections 19.4, 19.5, 19.8 to 19.14) and DATAGRAM (RFC 9221).

use super::{FrameError, counted, kind};
use crate::{Dir, Reader, StreamId, Writer, varint};

const OFFSET_BIT: u8 = 0x04;
const LENGTH_BIT: u8 = 0x02;
const FIN_BIT: u8 = 0x01;

/// Stream data (section 19.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream<'a> {
    /// The stream.
    pub id: StreamId,
    /// Where the data belongs.
    pub offset: u64,
    /// The stream ends behind the data.
    pub fin: bool,
    /// The data.
    pub data: &'a [u8],
}

impl Stream<'_> {
    /// All but the data, with its length.
    #[inline]
    pub const fn header(&self) -> StreamHeader {
        StreamHeader { id: self.id, offset: self.offset, fin: self.fin, len: Some(self.data.len()) }
    }
}

#[inline]
pub(super) fn decode_stream<'a>(r: &mut Reader<'a>, first: u8) -> Result<Stream<'a>, FrameError> {
    let id = StreamId(r.varint()?);
    let offset = if first & OFFSET_BIT != 0 { r.varint()? } else { 0 };
    let data = if first & LENGTH_BIT != 0 { counted(r)? } else { r.rest() };
    if offset + data.len() as u64 > varint::MAX {
        return Err(FrameError::Invalid("stream data beyond offset 2^62 - 1"));
    }
    Ok(Stream { id, offset, fin: first & FIN_BIT != 0, data })
}

/// A STREAM frame without its data, which the caller copies behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamHeader {
    /// The stream.
    pub id: StreamId,
    /// Where the data belongs.
    pub offset: u64,
    /// The stream ends behind the data.
    pub fin: bool,
    /// Length of the data; `None` when it reaches to the packet's end.
    pub len: Option<usize>,
}

impl StreamHeader {
    /// Bytes that the header takes.
    #[inline]
    pub const fn encoded_len(&self) -> usize {
        let offset = if self.offset == 0 { 0 } else { varint::len(self.offset) };
        let len = match self.len {
            Some(len) => varint::len(len as u64),
            None => 0,
        };
        1 + varint::len(self.id.0) + offset + len
    }

    /// Writes the header.
    #[inline]
    pub fn encode(&self, w: &mut Writer<'_>) {
        let mut first = kind::STREAM as u8;
        if self.offset != 0 {
            first |= OFFSET_BIT;
        }
        if self.len.is_some() {
            first |= LENGTH_BIT;
        }
        if self.fin {
            first |= FIN_BIT;
        }
        w.u8(first);
        w.varint(self.id.0);
        if self.offset != 0 {
            w.varint(self.offset);
        }
        if let Some(len) = self.len {
            w.varint(len as u64);
        }
    }
}

/// The sender gives a stream up (section 19.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetStream {
    /// The stream.
    pub id: StreamId,
    /// The application's code.
    pub code: u64,
    /// Bytes that were sent on it.
    pub final_size: u64,
}

pub(super) fn decode_reset(r: &mut Reader<'_>) -> Result<ResetStream, FrameError> {
    Ok(ResetStream { id: StreamId(r.varint()?), code: r.varint()?, final_size: r.varint()? })
}

impl ResetStream {
    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u8(kind::RESET_STREAM as u8);
        w.varint(self.id.0);
        w.varint(self.code);
        w.varint(self.final_size);
    }
}

/// RESET_STREAM_AT: as RESET_STREAM, but the front of the stream is still delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetStreamAt {
    /// The stream.
    pub id: StreamId,
    /// The application's code.
    pub code: u64,
    /// Bytes that were sent on it.
    pub final_size: u64,
    /// Bytes that are delivered.
    pub reliable_size: u64,
}

pub(super) fn decode_reset_at(r: &mut Reader<'_>) -> Result<ResetStreamAt, FrameError> {
    let frame = ResetStreamAt {
        id: StreamId(r.varint()?),
        code: r.varint()?,
        final_size: r.varint()?,
        reliable_size: r.varint()?,
    };
    if frame.reliable_size > frame.final_size {
        return Err(FrameError::Invalid("RESET_STREAM_AT delivers more than was sent"));
    }
    Ok(frame)
}

impl ResetStreamAt {
    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.varint(kind::RESET_STREAM_AT);
        w.varint(self.id.0);
        w.varint(self.code);
        w.varint(self.final_size);
        w.varint(self.reliable_size);
    }
}

/// The receiver wants no more of a stream (section 19.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSending {
    /// The stream.
    pub id: StreamId,
    /// The application's code.
    pub code: u64,
}

pub(super) fn decode_stop(r: &mut Reader<'_>) -> Result<StopSending, FrameError> {
    Ok(StopSending { id: StreamId(r.varint()?), code: r.varint()? })
}

impl StopSending {
    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u8(kind::STOP_SENDING as u8);
        w.varint(self.id.0);
        w.varint(self.code);
    }
}

/// A number of streams, at most 2^60 (sections 19.11 and 19.14).
pub(super) fn decode_count(r: &mut Reader<'_>) -> Result<u64, FrameError> {
    let count = r.varint()?;
    if count > 1 << 60 {
        return Err(FrameError::Invalid("a stream count above 2^60"));
    }
    Ok(count)
}

/// Writes a MAX_DATA frame.
pub fn encode_max_data(w: &mut Writer<'_>, max: u64) {
    w.u8(kind::MAX_DATA as u8);
    w.varint(max);
}

/// Writes a MAX_STREAM_DATA frame.
pub fn encode_max_stream_data(w: &mut Writer<'_>, id: StreamId, max: u64) {
    w.u8(kind::MAX_STREAM_DATA as u8);
    w.varint(id.0);
    w.varint(max);
}

/// Writes a MAX_STREAMS frame.
pub fn encode_max_streams(w: &mut Writer<'_>, dir: Dir, max: u64) {
    w.u8(if dir == Dir::Bi { kind::MAX_STREAMS_BIDI } else { kind::MAX_STREAMS_UNI } as u8);
    w.varint(max);
}

/// Writes a DATA_BLOCKED frame.
pub fn encode_data_blocked(w: &mut Writer<'_>, limit: u64) {
    w.u8(kind::DATA_BLOCKED as u8);
    w.varint(limit);
}

/// Writes a STREAM_DATA_BLOCKED frame.
pub fn encode_stream_data_blocked(w: &mut Writer<'_>, id: StreamId, limit: u64) {
    w.u8(kind::STREAM_DATA_BLOCKED as u8);
    w.varint(id.0);
    w.varint(limit);
}

/// Writes a STREAMS_BLOCKED frame.
pub fn encode_streams_blocked(w: &mut Writer<'_>, dir: Dir, limit: u64) {
    w.u8(if dir == Dir::Bi { kind::STREAMS_BLOCKED_BIDI } else { kind::STREAMS_BLOCKED_UNI } as u8);
    w.varint(limit);
}

/// Writes the front of a DATAGRAM frame with `len` bytes of data, which the caller copies behind it.
pub fn encode_datagram_header(w: &mut Writer<'_>, len: usize) {
    w.u8(kind::DATAGRAM_LEN as u8);
    w.varint(len as u64);
}
