//! Any frame, as what it is made of (so that it can be borrowed), and small helpers.
#![allow(dead_code, reason = "each test file uses a part")]

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use warpline_wire::frame::{
    AckFrequency, ConnectionClose, Crypto, Frame, NewConnectionId, ObservedAddress, ResetStream, ResetStreamAt,
    StopSending, Stream,
};
use warpline_wire::{ConnectionId, Dir, ResetToken, StreamId, TransportErrorCode, Writer, varint};

/// Bytes of hexadecimal text; spaces and line ends are ignored.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).expect("the text is hexadecimal") as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// What `write` writes into a buffer of 4096 bytes.
pub fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut buf = [0xee; 4096];
    let mut w = Writer::new(&mut buf);
    write(&mut w);
    w.written().to_vec()
}

/// Numbers with every length of encoding equally likely.
pub fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..64, 64u64..1 << 14, 1u64 << 14..1 << 30, 1u64 << 30..=varint::MAX, Just(varint::MAX)]
}

fn stream_count() -> impl Strategy<Value = u64> {
    number().prop_map(|n| n.min(1 << 60))
}

fn dir() -> impl Strategy<Value = Dir> {
    prop_oneof![Just(Dir::Bi), Just(Dir::Uni)]
}

pub fn cid(len: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = ConnectionId> {
    proptest::collection::vec(any::<u8>(), len)
        .prop_map(|bytes| ConnectionId::new(&bytes).expect("the callers ask for at most 20 bytes"))
}

/// An offset and data that do not reach beyond 2^62 - 1.
fn placed(data: &[u8], offset: u64) -> u64 {
    offset.min(varint::MAX - data.len() as u64)
}

/// A frame of any kind but ACK (which has no public fields), with `data` where it has bytes.
pub fn frame(data: &'static [u8]) -> impl Strategy<Value = Frame<'static>> {
    let small = prop_oneof![
        (1usize..200).prop_map(Frame::Padding),
        Just(Frame::Ping),
        Just(Frame::HandshakeDone),
        Just(Frame::ImmediateAck),
        any::<[u8; 8]>().prop_map(Frame::PathChallenge),
        any::<[u8; 8]>().prop_map(Frame::PathResponse),
        number().prop_map(Frame::RetireConnectionId),
    ];
    let flow = prop_oneof![
        number().prop_map(Frame::MaxData),
        number().prop_map(Frame::DataBlocked),
        (number(), number()).prop_map(|(id, max)| Frame::MaxStreamData { id: StreamId(id), max }),
        (number(), number()).prop_map(|(id, limit)| Frame::StreamDataBlocked { id: StreamId(id), limit }),
        (dir(), stream_count()).prop_map(|(dir, max)| Frame::MaxStreams { dir, max }),
        (dir(), stream_count()).prop_map(|(dir, limit)| Frame::StreamsBlocked { dir, limit }),
    ];
    prop_oneof![small, flow, with_bytes(data), of_streams(), of_connections()]
}

fn with_bytes(data: &'static [u8]) -> impl Strategy<Value = Frame<'static>> {
    let cut = (0..=data.len()).prop_map(|len| &data[..len]);
    prop_oneof![
        (number(), cut.clone()).prop_map(|(offset, data)| Frame::Crypto(Crypto { offset: placed(data, offset), data })),
        (number(), number(), any::<bool>(), cut.clone()).prop_map(|(id, offset, fin, data)| {
            Frame::Stream(Stream { id: StreamId(id), offset: placed(data, offset), fin, data })
        }),
        (1..=data.len()).prop_map(|len| Frame::NewToken(&data[..len])),
        cut.clone().prop_map(Frame::Datagram),
        (number(), number(), cut.clone()).prop_map(|(code, frame_type, reason)| {
            Frame::ConnectionClose(ConnectionClose::Transport { code: TransportErrorCode(code), frame_type, reason })
        }),
        (number(), cut)
            .prop_map(|(code, reason)| Frame::ConnectionClose(ConnectionClose::Application { code, reason })),
    ]
}

fn of_streams() -> impl Strategy<Value = Frame<'static>> {
    prop_oneof![
        (number(), number(), number()).prop_map(|(id, code, final_size)| {
            Frame::ResetStream(ResetStream { id: StreamId(id), code, final_size })
        }),
        (number(), number()).prop_map(|(id, code)| Frame::StopSending(StopSending { id: StreamId(id), code })),
        (number(), number(), number(), number()).prop_map(|(id, code, a, b)| {
            let (reliable_size, final_size) = (a.min(b), a.max(b));
            Frame::ResetStreamAt(ResetStreamAt { id: StreamId(id), code, final_size, reliable_size })
        }),
    ]
}

fn of_connections() -> impl Strategy<Value = Frame<'static>> {
    prop_oneof![
        (number(), number(), cid(1..=20), any::<[u8; 16]>()).prop_map(|(a, b, cid, token)| {
            let (retire_prior_to, sequence) = (a.min(b), a.max(b));
            let reset_token = ResetToken(token);
            Frame::NewConnectionId(NewConnectionId { sequence, retire_prior_to, cid, reset_token })
        }),
        (number(), number(), number(), number()).prop_map(|(sequence, threshold, max_ack_delay, reorder)| {
            let reordering_threshold = reorder;
            Frame::AckFrequency(AckFrequency { sequence, threshold, max_ack_delay, reordering_threshold })
        }),
        (number(), any::<IpAddr>(), any::<u16>()).prop_map(|(sequence, ip, port)| {
            Frame::ObservedAddress(ObservedAddress { sequence, address: SocketAddr::new(ip, port) })
        }),
    ]
}
