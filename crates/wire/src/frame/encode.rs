//! Any frame to bytes: the way back from [`decode`](super::decode). Packet builders write most frames by the functions
//! beside each frame; here is one for them all, for control frames, tests and tools.

use super::{ConnectionClose, Frame, kind};
use super::{
    encode_application_close, encode_data_blocked, encode_datagram_header, encode_handshake_done, encode_immediate_ack,
    encode_max_data, encode_max_stream_data, encode_max_streams, encode_new_token, encode_path_challenge,
    encode_path_response, encode_ping, encode_retire_connection_id, encode_stream_data_blocked, encode_streams_blocked,
    encode_transport_close,
};
use crate::Writer;
use crate::varint::len;

impl Frame<'_> {
    /// Bytes that [`encode`](Self::encode) writes.
    pub fn encoded_len(&self) -> usize {
        let counted = |bytes: &[u8]| len(bytes.len() as u64) + bytes.len();
        match self {
            Frame::Padding(n) => *n,
            Frame::Ping | Frame::HandshakeDone | Frame::ImmediateAck => 1,
            Frame::Ack(f) => f.encoded_len(),
            Frame::ResetStream(f) => 1 + len(f.id.0) + len(f.code) + len(f.final_size),
            Frame::StopSending(f) => 1 + len(f.id.0) + len(f.code),
            Frame::Crypto(f) => 1 + len(f.offset) + counted(f.data),
            Frame::NewToken(bytes) | Frame::Datagram(bytes) => 1 + counted(bytes),
            Frame::Stream(f) => f.header().encoded_len() + f.data.len(),
            Frame::MaxData(n) | Frame::DataBlocked(n) | Frame::RetireConnectionId(n) => 1 + len(*n),
            Frame::MaxStreamData { id, max: n } | Frame::StreamDataBlocked { id, limit: n } => 1 + len(id.0) + len(*n),
            Frame::MaxStreams { max: n, .. } | Frame::StreamsBlocked { limit: n, .. } => 1 + len(*n),
            Frame::NewConnectionId(f) => 1 + len(f.sequence) + len(f.retire_prior_to) + 1 + f.cid.len() + 16,
            Frame::PathChallenge(_) | Frame::PathResponse(_) => 9,
            Frame::ConnectionClose(ConnectionClose::Transport { code, frame_type, reason }) => {
                1 + len(code.0) + len(*frame_type) + counted(reason)
            }
            Frame::ConnectionClose(ConnectionClose::Application { code, reason }) => 1 + len(*code) + counted(reason),
            Frame::AckFrequency(f) => {
                let fields = [kind::ACK_FREQUENCY, f.sequence, f.threshold, f.max_ack_delay, f.reordering_threshold];
                fields.into_iter().map(len).sum()
            }
            Frame::ResetStreamAt(f) => 1 + len(f.id.0) + len(f.code) + len(f.final_size) + len(f.reliable_size),
            Frame::ObservedAddress(f) => {
                let ip = if f.address.is_ipv6() { 16 } else { 4 };
                len(f.frame_type()) + len(f.sequence) + ip + 2
            }
        }
    }

    /// Writes the frame, with its length where that is optional. What [`decode`](super::decode) makes of it is the frame
    /// again.
    ///
    /// # Panics
    /// When there is no room for [`encoded_len`](Self::encoded_len) bytes.
    pub fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Frame::Padding(n) => w.zeros(*n),
            Frame::Ping => encode_ping(w),
            Frame::Ack(f) => f.encode(w),
            Frame::ResetStream(f) => f.encode(w),
            Frame::StopSending(f) => f.encode(w),
            Frame::Crypto(f) => {
                w.u8(kind::CRYPTO as u8);
                w.varint(f.offset);
                w.varint(f.data.len() as u64);
                w.slice(f.data);
            }
            Frame::NewToken(token) => encode_new_token(w, token),
            Frame::Stream(f) => {
                f.header().encode(w);
                w.slice(f.data);
            }
            Frame::MaxData(max) => encode_max_data(w, *max),
            Frame::MaxStreamData { id, max } => encode_max_stream_data(w, *id, *max),
            Frame::MaxStreams { dir, max } => encode_max_streams(w, *dir, *max),
            Frame::DataBlocked(limit) => encode_data_blocked(w, *limit),
            Frame::StreamDataBlocked { id, limit } => encode_stream_data_blocked(w, *id, *limit),
            Frame::StreamsBlocked { dir, limit } => encode_streams_blocked(w, *dir, *limit),
            Frame::NewConnectionId(f) => f.encode(w),
            Frame::RetireConnectionId(sequence) => encode_retire_connection_id(w, *sequence),
            Frame::PathChallenge(data) => encode_path_challenge(w, *data),
            Frame::PathResponse(data) => encode_path_response(w, *data),
            Frame::ConnectionClose(ConnectionClose::Transport { code, frame_type, reason }) => {
                encode_transport_close(w, *code, *frame_type, reason);
            }
            Frame::ConnectionClose(ConnectionClose::Application { code, reason }) => {
                encode_application_close(w, *code, reason);
            }
            Frame::HandshakeDone => encode_handshake_done(w),
            Frame::Datagram(data) => {
                encode_datagram_header(w, data.len());
                w.slice(data);
            }
            Frame::AckFrequency(f) => f.encode(w),
            Frame::ImmediateAck => encode_immediate_ack(w),
            Frame::ResetStreamAt(f) => f.encode(w),
            Frame::ObservedAddress(f) => f.encode(w),
        }
    }
}
