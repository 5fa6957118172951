//! Frames as qlog names them (draft-ietf-quic-qlog-quic-events, "QuicFrame").
//!
//! Frames of extensions that the schema does not have are `unknown` with their type, as it says, and have their name and fields beside it:
//! readers that insist on the schema would otherwise leave out the whole packet.

use core::time::Duration;

use warpline_wire::frame::{self, Ack, Frame};
use warpline_wire::{Dir, Reader};

use super::json::{List, Object};

/// Writes the frames of a packet's payload. What cannot be read ends the list: the connection ends for it, too.
pub(super) fn write(payload: &[u8], ack_exponent: u8, list: &mut List<'_>) {
    let mut reader = Reader::new(payload);
    while reader.remaining() > 0 {
        match frame::decode(&mut reader) {
            Ok(next) => list.object(|o| describe(&next, ack_exponent, o)),
            Err(error) => {
                list.object(|o| {
                    o.text("frame_type", "unknown").shown("error", error);
                });
                return;
            }
        }
    }
}

fn kind<'o, 'a>(o: &'o mut Object<'a>, name: &str) -> &'o mut Object<'a> {
    o.text("frame_type", name)
}

/// A frame that the schema does not name.
fn extension<'o, 'a>(o: &'o mut Object<'a>, value: u64, name: &str) -> &'o mut Object<'a> {
    kind(o, "unknown").number("raw_frame_type", value).text("name", name)
}

fn stream_type(dir: Dir) -> &'static str {
    if dir == Dir::Bi { "bidirectional" } else { "unidirectional" }
}

fn describe(frame: &Frame<'_>, ack_exponent: u8, o: &mut Object<'_>) {
    match frame {
        Frame::Padding(len) => kind(o, "padding").number("payload_length", *len as u64),
        Frame::Ping => kind(o, "ping"),
        Frame::Ack(ack) => describe_ack(ack, ack_exponent, kind(o, "ack")),
        Frame::ResetStream(f) => kind(o, "reset_stream")
            .number("stream_id", f.id.0)
            .number("error_code", f.code)
            .number("final_size", f.final_size),
        Frame::ResetStreamAt(f) => extension(o, frame.frame_type(), "reset_stream_at")
            .number("stream_id", f.id.0)
            .number("error_code", f.code)
            .number("final_size", f.final_size)
            .number("reliable_size", f.reliable_size),
        Frame::StopSending(f) => kind(o, "stop_sending").number("stream_id", f.id.0).number("error_code", f.code),
        Frame::Crypto(f) => kind(o, "crypto").number("offset", f.offset).number("length", f.data.len() as u64),
        Frame::NewToken(token) => kind(o, "new_token").object("token", |o| {
            o.hex("data", token);
        }),
        Frame::Stream(f) => kind(o, "stream")
            .number("stream_id", f.id.0)
            .number("offset", f.offset)
            .number("length", f.data.len() as u64)
            .flag("fin", f.fin),
        Frame::MaxData(max) => kind(o, "max_data").number("maximum", *max),
        Frame::MaxStreamData { id, max } => {
            kind(o, "max_stream_data").number("stream_id", id.0).number("maximum", *max)
        }
        Frame::MaxStreams { dir, max } => {
            kind(o, "max_streams").text("stream_type", stream_type(*dir)).number("maximum", *max)
        }
        Frame::DataBlocked(limit) => kind(o, "data_blocked").number("limit", *limit),
        Frame::StreamDataBlocked { id, limit } => {
            kind(o, "stream_data_blocked").number("stream_id", id.0).number("limit", *limit)
        }
        Frame::StreamsBlocked { dir, limit } => {
            kind(o, "streams_blocked").text("stream_type", stream_type(*dir)).number("limit", *limit)
        }
        Frame::NewConnectionId(f) => kind(o, "new_connection_id")
            .number("sequence_number", f.sequence)
            .number("retire_prior_to", f.retire_prior_to)
            .number("connection_id_length", f.cid.len() as u64)
            .hex("connection_id", &f.cid),
        Frame::RetireConnectionId(sequence) => kind(o, "retire_connection_id").number("sequence_number", *sequence),
        Frame::PathChallenge(data) => kind(o, "path_challenge").hex("data", data),
        Frame::PathResponse(data) => kind(o, "path_response").hex("data", data),
        Frame::ConnectionClose(close) => kind(o, "connection_close").text("reason", &format!("{close:?}")),
        Frame::HandshakeDone => kind(o, "handshake_done"),
        Frame::Datagram(data) => kind(o, "datagram").number("length", data.len() as u64),
        Frame::AckFrequency(f) => extension(o, frame.frame_type(), "ack_frequency")
            .number("sequence_number", f.sequence)
            .number("ack_eliciting_threshold", f.threshold)
            .number("requested_max_ack_delay", f.max_ack_delay)
            .number("reordering_threshold", f.reordering_threshold),
        Frame::ImmediateAck => extension(o, frame.frame_type(), "immediate_ack"),
        Frame::ObservedAddress(f) => {
            let v6 = f.address.is_ipv6();
            let value = if v6 { frame::kind::OBSERVED_ADDRESS_V6 } else { frame::kind::OBSERVED_ADDRESS_V4 };
            extension(o, value, "observed_address").number("sequence_number", f.sequence).shown("address", f.address)
        }
    };
}

fn describe_ack<'o, 'a>(ack: &Ack<'_>, exponent: u8, o: &'o mut Object<'a>) -> &'o mut Object<'a> {
    let delay = Duration::from_micros(ack.delay().saturating_mul(1 << exponent.min(20)));
    o.millis("ack_delay", delay).list("acked_ranges", |list| {
        for range in ack.ranges() {
            list.range(*range.start(), *range.end());
        }
    });
    if let Some(counts) = ack.ecn() {
        o.number("ect0", counts.ect0).number("ect1", counts.ect1).number("ce", counts.ce);
    }
    o
}
