//! Frames (RFC 9000 section 19) and those of extensions.

mod ack;
mod close;
mod connection;
mod encode;
mod stream;

pub use ack::{Ack, EcnCounts, encode_ack};
pub use close::{ConnectionClose, encode_application_close, encode_transport_close};
pub use connection::{
    AckFrequency, Crypto, NewConnectionId, ObservedAddress, encode_crypto, encode_handshake_done, encode_immediate_ack,
    encode_new_token, encode_path_challenge, encode_path_response, encode_ping, encode_retire_connection_id,
};
pub use stream::{
    ResetStream, ResetStreamAt, StopSending, Stream, StreamHeader, encode_data_blocked, encode_datagram_header,
    encode_max_data, encode_max_stream_data, encode_max_streams, encode_stream_data_blocked, encode_streams_blocked,
};

use crate::header::PacketKind;
use crate::{Dir, Reader, StreamId, Truncated};

/// Frame types (RFC 9000 section 12.4 and the extensions' registrations).
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of the registry")]
    pub const PADDING: u64 = 0x00;
    pub const PING: u64 = 0x01;
    pub const ACK: u64 = 0x02;
    pub const ACK_ECN: u64 = 0x03;
    pub const RESET_STREAM: u64 = 0x04;
    pub const STOP_SENDING: u64 = 0x05;
    pub const CRYPTO: u64 = 0x06;
    pub const NEW_TOKEN: u64 = 0x07;
    pub const STREAM: u64 = 0x08;
    pub const STREAM_LAST: u64 = 0x0f;
    pub const MAX_DATA: u64 = 0x10;
    pub const MAX_STREAM_DATA: u64 = 0x11;
    pub const MAX_STREAMS_BIDI: u64 = 0x12;
    pub const MAX_STREAMS_UNI: u64 = 0x13;
    pub const DATA_BLOCKED: u64 = 0x14;
    pub const STREAM_DATA_BLOCKED: u64 = 0x15;
    pub const STREAMS_BLOCKED_BIDI: u64 = 0x16;
    pub const STREAMS_BLOCKED_UNI: u64 = 0x17;
    pub const NEW_CONNECTION_ID: u64 = 0x18;
    pub const RETIRE_CONNECTION_ID: u64 = 0x19;
    pub const PATH_CHALLENGE: u64 = 0x1a;
    pub const PATH_RESPONSE: u64 = 0x1b;
    pub const CONNECTION_CLOSE: u64 = 0x1c;
    pub const CONNECTION_CLOSE_APP: u64 = 0x1d;
    pub const HANDSHAKE_DONE: u64 = 0x1e;
    pub const IMMEDIATE_ACK: u64 = 0x1f;
    pub const RESET_STREAM_AT: u64 = 0x24;
    pub const DATAGRAM: u64 = 0x30;
    pub const DATAGRAM_LEN: u64 = 0x31;
    pub const ACK_FREQUENCY: u64 = 0xaf;
    pub const OBSERVED_ADDRESS_V4: u64 = 0x9f_81a6;
    pub const OBSERVED_ADDRESS_V6: u64 = 0x9f_81a7;
}

/// A frame, borrowing from the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// So many zero bytes in a row.
    Padding(usize),
    /// Elicits an acknowledgement and nothing else.
    Ping,
    /// Packets that were received.
    Ack(Ack<'a>),
    /// The sender gives a stream up.
    ResetStream(ResetStream),
    /// The receiver wants no more of a stream.
    StopSending(StopSending),
    /// Handshake bytes.
    Crypto(Crypto<'a>),
    /// A token for a later connection.
    NewToken(&'a [u8]),
    /// Stream data.
    Stream(Stream<'a>),
    /// Window of the connection.
    MaxData(u64),
    /// Window of a stream.
    MaxStreamData {
        /// The stream.
        id: StreamId,
        /// Offset up to which data may be sent.
        max: u64,
    },
    /// How many streams may be opened in all.
    MaxStreams {
        /// Of which kind.
        dir: Dir,
        /// The number.
        max: u64,
    },
    /// The connection's window is used up.
    DataBlocked(u64),
    /// A stream's window is used up.
    StreamDataBlocked {
        /// The stream.
        id: StreamId,
        /// At this offset.
        limit: u64,
    },
    /// The number of streams is used up.
    StreamsBlocked {
        /// Of which kind.
        dir: Dir,
        /// At this number.
        limit: u64,
    },
    /// A connection ID of the peer.
    NewConnectionId(NewConnectionId),
    /// The peer will not use this ID of ours any more.
    RetireConnectionId(u64),
    /// Wants a response on the same path.
    PathChallenge([u8; 8]),
    /// That response.
    PathResponse([u8; 8]),
    /// The connection ends.
    ConnectionClose(ConnectionClose<'a>),
    /// The server has confirmed the handshake.
    HandshakeDone,
    /// Unreliable data (RFC 9221).
    Datagram(&'a [u8]),
    /// How often to acknowledge (draft-ietf-quic-ack-frequency).
    AckFrequency(AckFrequency),
    /// Wants an acknowledgement at once.
    ImmediateAck,
    /// RESET_STREAM that keeps the front of the stream (draft-ietf-quic-reliable-stream-reset).
    ResetStreamAt(ResetStreamAt),
    /// The address that the peer sees (draft-ietf-quic-address-discovery).
    ObservedAddress(ObservedAddress),
}

/// Why a frame cannot be read. All of them are FRAME_ENCODING_ERROR on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// No frame of this type is known.
    UnknownType(u64),
    /// The packet ends within the frame.
    Truncated,
    /// A field has a value that the frame does not permit.
    Invalid(&'static str),
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::UnknownType(t) => write!(f, "frame type {t:#x} is not known"),
            Self::Truncated => f.write_str("a frame is cut off"),
            Self::Invalid(what) => f.write_str(what),
        }
    }
}

impl core::error::Error for FrameError {}

impl From<Truncated> for FrameError {
    #[inline]
    fn from(_: Truncated) -> Self {
        Self::Truncated
    }
}

/// The next frame of a packet's payload.
#[inline]
pub fn decode<'a>(r: &mut Reader<'a>) -> Result<Frame<'a>, FrameError> {
    // STREAM first: in bulk transfer nearly every frame is one.
    match r.peek() {
        Some(first @ 0x08..=0x0f) => {
            r.u8()?;
            stream::decode_stream(r, first).map(Frame::Stream)
        }
        _ => decode_other(r),
    }
}

fn decode_other<'a>(r: &mut Reader<'a>) -> Result<Frame<'a>, FrameError> {
    let start = r.position();
    let frame_type = r.varint()?;
    if r.position() - start != crate::varint::len(frame_type) {
        // RFC 9000 section 12.4: the shortest encoding must be used.
        return Err(FrameError::Invalid("a frame type is not in its shortest form"));
    }
    Ok(match frame_type {
        kind::PADDING => Frame::Padding(1 + r.skip_zeros()),
        kind::PING => Frame::Ping,
        kind::ACK | kind::ACK_ECN => Frame::Ack(ack::decode(r, frame_type == kind::ACK_ECN)?),
        kind::RESET_STREAM => Frame::ResetStream(stream::decode_reset(r)?),
        kind::STOP_SENDING => Frame::StopSending(stream::decode_stop(r)?),
        kind::CRYPTO => Frame::Crypto(connection::decode_crypto(r)?),
        kind::NEW_TOKEN => Frame::NewToken(connection::decode_new_token(r)?),
        kind::STREAM..=kind::STREAM_LAST => Frame::Stream(stream::decode_stream(r, frame_type as u8)?),
        kind::MAX_DATA => Frame::MaxData(r.varint()?),
        kind::MAX_STREAM_DATA => Frame::MaxStreamData { id: StreamId(r.varint()?), max: r.varint()? },
        kind::MAX_STREAMS_BIDI => Frame::MaxStreams { dir: Dir::Bi, max: stream::decode_count(r)? },
        kind::MAX_STREAMS_UNI => Frame::MaxStreams { dir: Dir::Uni, max: stream::decode_count(r)? },
        kind::DATA_BLOCKED => Frame::DataBlocked(r.varint()?),
        kind::STREAM_DATA_BLOCKED => Frame::StreamDataBlocked { id: StreamId(r.varint()?), limit: r.varint()? },
        kind::STREAMS_BLOCKED_BIDI => Frame::StreamsBlocked { dir: Dir::Bi, limit: stream::decode_count(r)? },
        kind::STREAMS_BLOCKED_UNI => Frame::StreamsBlocked { dir: Dir::Uni, limit: stream::decode_count(r)? },
        kind::NEW_CONNECTION_ID => Frame::NewConnectionId(connection::decode_new_connection_id(r)?),
        kind::RETIRE_CONNECTION_ID => Frame::RetireConnectionId(r.varint()?),
        kind::PATH_CHALLENGE => Frame::PathChallenge(r.array()?),
        kind::PATH_RESPONSE => Frame::PathResponse(r.array()?),
        kind::CONNECTION_CLOSE => Frame::ConnectionClose(close::decode_transport(r)?),
        kind::CONNECTION_CLOSE_APP => Frame::ConnectionClose(close::decode_application(r)?),
        kind::HANDSHAKE_DONE => Frame::HandshakeDone,
        kind::IMMEDIATE_ACK => Frame::ImmediateAck,
        kind::RESET_STREAM_AT => Frame::ResetStreamAt(stream::decode_reset_at(r)?),
        kind::DATAGRAM => Frame::Datagram(r.rest()),
        kind::DATAGRAM_LEN => Frame::Datagram(counted(r)?),
        kind::ACK_FREQUENCY => Frame::AckFrequency(connection::decode_ack_frequency(r)?),
        kind::OBSERVED_ADDRESS_V4 => Frame::ObservedAddress(connection::decode_observed(r, false)?),
        kind::OBSERVED_ADDRESS_V6 => Frame::ObservedAddress(connection::decode_observed(r, true)?),
        unknown => return Err(FrameError::UnknownType(unknown)),
    })
}

/// Bytes behind their length.
fn counted<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], FrameError> {
    let len = r.varint()?;
    Ok(r.bytes(usize::try_from(len).map_err(|_| FrameError::Truncated)?)?)
}

impl Frame<'_> {
    /// The type on the wire; for families of types, their first.
    pub const fn frame_type(&self) -> u64 {
        match self {
            Frame::Padding(_) => kind::PADDING,
            Frame::Ping => kind::PING,
            Frame::Ack(_) => kind::ACK,
            Frame::ResetStream(_) => kind::RESET_STREAM,
            Frame::StopSending(_) => kind::STOP_SENDING,
            Frame::Crypto(_) => kind::CRYPTO,
            Frame::NewToken(_) => kind::NEW_TOKEN,
            Frame::Stream(_) => kind::STREAM,
            Frame::MaxData(_) => kind::MAX_DATA,
            Frame::MaxStreamData { .. } => kind::MAX_STREAM_DATA,
            Frame::MaxStreams { dir: Dir::Bi, .. } => kind::MAX_STREAMS_BIDI,
            Frame::MaxStreams { dir: Dir::Uni, .. } => kind::MAX_STREAMS_UNI,
            Frame::DataBlocked(_) => kind::DATA_BLOCKED,
            Frame::StreamDataBlocked { .. } => kind::STREAM_DATA_BLOCKED,
            Frame::StreamsBlocked { dir: Dir::Bi, .. } => kind::STREAMS_BLOCKED_BIDI,
            Frame::StreamsBlocked { dir: Dir::Uni, .. } => kind::STREAMS_BLOCKED_UNI,
            Frame::NewConnectionId(_) => kind::NEW_CONNECTION_ID,
            Frame::RetireConnectionId(_) => kind::RETIRE_CONNECTION_ID,
            Frame::PathChallenge(_) => kind::PATH_CHALLENGE,
            Frame::PathResponse(_) => kind::PATH_RESPONSE,
            Frame::ConnectionClose(ConnectionClose::Transport { .. }) => kind::CONNECTION_CLOSE,
            Frame::ConnectionClose(ConnectionClose::Application { .. }) => kind::CONNECTION_CLOSE_APP,
            Frame::HandshakeDone => kind::HANDSHAKE_DONE,
            Frame::Datagram(_) => kind::DATAGRAM,
            Frame::AckFrequency(_) => kind::ACK_FREQUENCY,
            Frame::ImmediateAck => kind::IMMEDIATE_ACK,
            Frame::ResetStreamAt(_) => kind::RESET_STREAM_AT,
            Frame::ObservedAddress(_) => kind::OBSERVED_ADDRESS_V4,
        }
    }

    /// Everything but ACK, PADDING and CONNECTION_CLOSE (RFC 9000 section 13.2).
    #[inline]
    pub const fn is_ack_eliciting(&self) -> bool {
        !matches!(self, Frame::Ack(_) | Frame::Padding(_) | Frame::ConnectionClose(_))
    }

    /// PATH_CHALLENGE, PATH_RESPONSE, NEW_CONNECTION_ID and PADDING (RFC 9000 section 9.1), and OBSERVED_ADDRESS
    /// (draft-ietf-quic-address-discovery section 4.1).
    #[inline]
    pub const fn is_probing(&self) -> bool {
        matches!(
            self,
            Frame::PathChallenge(_)
                | Frame::PathResponse(_)
                | Frame::NewConnectionId(_)
                | Frame::Padding(_)
                | Frame::ObservedAddress(_)
        )
    }

    /// Whether a packet of this kind may carry the frame (RFC 9000 section 12.4, table 3). Table 3 lets 0-RTT carry
    /// RETIRE_CONNECTION_ID, but section 12.5 says that it cannot: a client has no ID of the server to retire yet.
    pub const fn allowed_in(&self, packet: PacketKind) -> bool {
        match packet {
            PacketKind::OneRtt => true,
            PacketKind::Initial | PacketKind::Handshake => matches!(
                self,
                Frame::Padding(_)
                    | Frame::Ping
                    | Frame::Ack(_)
                    | Frame::Crypto(_)
                    | Frame::ConnectionClose(ConnectionClose::Transport { .. })
            ),
            PacketKind::ZeroRtt => !matches!(
                self,
                Frame::Ack(_)
                    | Frame::Crypto(_)
                    | Frame::NewToken(_)
                    | Frame::PathResponse(_)
                    | Frame::RetireConnectionId(_)
                    | Frame::HandshakeDone
                    | Frame::AckFrequency(_)
                    | Frame::ImmediateAck
            ),
            PacketKind::Retry | PacketKind::VersionNegotiation => false,
        }
    }
}
