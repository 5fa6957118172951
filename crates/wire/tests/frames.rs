//! Frames: every one comes back as it was sent, none is read from a part of itself, and the tables of RFC 9000.

mod common;

use common::{frame, hex, number, written};
use proptest::prelude::*;
use warpline_wire::frame::{self, Crypto, EcnCounts, Frame, FrameError, Stream, StreamHeader, encode_ack, kind};
use warpline_wire::header::PacketKind;
use warpline_wire::{Dir, Reader, StreamId, Writer, varint};

/// 1,200 bytes, so that lengths take one byte or two.
static DATA: [u8; 1200] = {
    let mut data = [0; 1200];
    let mut i = 0;
    while i < data.len() {
        data[i] = (i % 251) as u8;
        i += 1;
    }
    data
};

fn decode_all(bytes: &[u8]) -> Result<Vec<Frame<'_>>, FrameError> {
    let mut r = Reader::new(bytes);
    let mut frames = Vec::new();
    while !r.is_empty() {
        frames.push(frame::decode(&mut r)?);
    }
    Ok(frames)
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let bytes = written(|w| frame.encode(w));
    assert_eq!(bytes.len(), frame.encoded_len(), "{frame:?}");
    bytes
}

fn error(text: &str) -> FrameError {
    decode_all(&hex(text)).expect_err("the bytes are no frames")
}

proptest! {
    #[test]
    fn every_frame_comes_back(frame in frame(&DATA)) {
        let bytes = encoded(&frame);
        prop_assert_eq!(decode_all(&bytes), Ok(vec![frame.clone()]));
    }

    #[test]
    fn frames_follow_each_other(frames in proptest::collection::vec(frame(&DATA[..100]), 1..8)) {
        let bytes = written(|w| frames.iter().for_each(|frame| frame.encode(w)));
        let mut expected: Vec<Frame<'_>> = Vec::new();
        for frame in frames {
            match (expected.last_mut(), frame) {
                (Some(Frame::Padding(run)), Frame::Padding(more)) => *run += more,
                (_, frame) => expected.push(frame),
            }
        }
        prop_assert_eq!(decode_all(&bytes), Ok(expected));
    }

    /// A frame that is cut off at any byte is an error and no panic, save that a run of padding may end anywhere.
    #[test]
    fn no_frame_is_read_from_a_part_of_it(frame in frame(&DATA[..70])) {
        let bytes = encoded(&frame);
        for cut in 1..bytes.len() {
            let result = decode_all(&bytes[..cut]);
            match frame {
                Frame::Padding(_) => prop_assert_eq!(result, Ok(vec![Frame::Padding(cut)])),
                _ => prop_assert_eq!(result, Err(FrameError::Truncated), "{} of {} bytes", cut, bytes.len()),
            }
        }
    }

    #[test]
    fn any_bytes_are_frames_or_are_not(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(frames) = decode_all(&bytes) {
            let again: Vec<u8> = frames.iter().flat_map(encoded).collect();
            prop_assert_eq!(decode_all(&again), Ok(frames));
        }
    }

    /// A header without a length takes all that is left of the packet.
    #[test]
    fn stream_data_may_reach_to_the_end(id in number(), offset in 0..1u64 << 61, fin: bool, len in 0..DATA.len()) {
        let header = StreamHeader { id: StreamId(id), offset, fin, len: None };
        let bytes = written(|w| {
            header.encode(w);
            assert_eq!(w.position(), header.encoded_len());
            w.slice(&DATA[..len]);
        });
        let stream = Stream { id: StreamId(id), offset, fin, data: &DATA[..len] };
        prop_assert_eq!(decode_all(&bytes), Ok(vec![Frame::Stream(stream)]));
    }

    /// Whatever the room, an ACK frame has the newest ranges that fit, and never more room than there is.
    #[test]
    fn acknowledgements_drop_the_oldest_ranges(
        steps in proptest::collection::vec((0u64..300, 0u64..20_000), 1..120),
        delay in number(),
        counts in proptest::option::of((number(), number(), number())),
        room in 0usize..700,
    ) {
        let mut next = 1u64 << 40;
        let ranges: Vec<_> = steps.iter().map(|(len, gap)| {
            let (start, end) = (next - len, next);
            next = start - gap - 2;
            start..=end
        }).collect();
        let ecn = counts.map(|(ect0, ect1, ce)| EcnCounts { ect0, ect1, ce });
        // What a frame of so many of the ranges takes, by the format of section 19.3.
        let size = |count: usize| {
            let lens: usize = ranges[..count].iter().map(|r| varint::len(r.end() - r.start())).sum();
            let gaps: usize = ranges[..count].windows(2).map(|w| varint::len(w[0].start() - w[1].end() - 2)).sum();
            let marks = ecn.map_or(0, |c| varint::len(c.ect0) + varint::len(c.ect1) + varint::len(c.ce));
            1 + varint::len(1 << 40) + varint::len(delay) + varint::len(count as u64 - 1) + lens + gaps + marks
        };
        let mut buf = vec![0xee; room];
        let mut w = Writer::new(&mut buf);
        if !encode_ack(&mut w, delay, ranges.iter().cloned(), ecn) {
            prop_assert_eq!(w.position(), 0);
            prop_assert!(size(1) > room, "one range would have fitted");
            return Ok(());
        }
        let frames = decode_all(w.written()).unwrap();
        let [Frame::Ack(ack)] = &frames[..] else { panic!("not an ACK: {frames:?}") };
        let decoded: Vec<_> = ack.ranges().collect();
        let count = decoded.len();
        prop_assert_eq!((ack.largest(), ack.delay(), ack.ecn()), (1 << 40, delay, ecn));
        prop_assert_eq!(&decoded[..], &ranges[..count]);
        prop_assert_eq!((w.position(), encoded(&frames[0]).len()), (size(count), size(count)));
        prop_assert!(count == ranges.len() || size(count + 1) > room, "one more range would have fitted");
    }
}

/// RFC 9000 table 3. 0-RTT does without RETIRE_CONNECTION_ID, as section 12.5 says against the table; the rows of
/// extensions are from their own texts.
#[test]
fn the_packets_that_each_frame_may_be_in() {
    for (bytes, expected) in [
        ("00", "IH01"),
        ("01", "IH01"),
        ("02 00 00 00 00", "IH_1"),
        ("03 00 00 00 00 00 00 00", "IH_1"),
        ("04 00 00 00", "__01"),
        ("05 00 00", "__01"),
        ("06 00 00", "IH_1"),
        ("07 01 aa", "___1"),
        ("08 00", "__01"),
        ("0f 00 00 00", "__01"),
        ("10 00", "__01"),
        ("11 00 00", "__01"),
        ("12 00", "__01"),
        ("13 00", "__01"),
        ("14 00", "__01"),
        ("15 00 00", "__01"),
        ("16 00", "__01"),
        ("17 00", "__01"),
        ("18 00 00 01 aa 00000000000000000000000000000000", "__01"),
        ("19 00", "___1"),
        ("1a 0000000000000000", "__01"),
        ("1b 0000000000000000", "___1"),
        ("1c 00 00 00", "IH01"),
        ("1d 00 00", "__01"),
        ("1e", "___1"),
        ("1f", "___1"),
        ("24 00 00 00 00", "__01"),
        ("30", "__01"),
        ("31 00", "__01"),
        ("40af 00 00 00 00", "___1"),
        ("809f81a6 00 7f000001 1151", "__01"),
        ("809f81a7 00 00000000000000000000000000000001 1151", "__01"),
    ] {
        let bytes = hex(bytes);
        let frames = decode_all(&bytes).unwrap();
        let kinds = [PacketKind::Initial, PacketKind::Handshake, PacketKind::ZeroRtt, PacketKind::OneRtt];
        let row: String =
            kinds.iter().zip("IH01".chars()).map(|(k, c)| if frames[0].allowed_in(*k) { c } else { '_' }).collect();
        assert_eq!(row, expected, "{:?}", frames[0]);
        assert!(!frames[0].allowed_in(PacketKind::Retry) && !frames[0].allowed_in(PacketKind::VersionNegotiation));

        let first = Reader::new(&bytes).varint().unwrap();
        let of_family = match first {
            kind::ACK_ECN => kind::ACK,
            kind::STREAM..=kind::STREAM_LAST => kind::STREAM,
            kind::DATAGRAM_LEN => kind::DATAGRAM,
            kind::OBSERVED_ADDRESS_V6 => kind::OBSERVED_ADDRESS_V4,
            other => other,
        };
        assert_eq!(frames[0].frame_type(), of_family);
        let silent = matches!(first, 0x00 | 0x02 | 0x03 | 0x1c | 0x1d);
        assert_eq!(frames[0].is_ack_eliciting(), !silent, "{:?}", frames[0]);
        let probing =
            matches!(first, 0x00 | 0x18 | 0x1a | 0x1b | kind::OBSERVED_ADDRESS_V4 | kind::OBSERVED_ADDRESS_V6);
        assert_eq!(frames[0].is_probing(), probing, "{:?}", frames[0]);
    }
}

#[test]
fn a_run_of_padding_is_one_frame_of_any_length() {
    for len in (1..70).chain([1162]) {
        let mut bytes = vec![0; len];
        bytes.push(kind::PING as u8);
        assert_eq!(decode_all(&bytes), Ok(vec![Frame::Padding(len), Frame::Ping]));
    }
}

/// RFC 9000 sections 12.4 and 19.21.
#[test]
fn unknown_and_overlong_types_are_errors() {
    assert_eq!(error("20"), FrameError::UnknownType(0x20));
    assert_eq!(error("40ae"), FrameError::UnknownType(0xae));
    assert_eq!(error("ffffffffffffffff"), FrameError::UnknownType(varint::MAX));
    assert!(matches!(error("4001"), FrameError::Invalid(_)));
    assert!(matches!(error("4008 00"), FrameError::Invalid(_)), "a STREAM frame, too");
    assert!(matches!(error("800000af 00 00 00 00"), FrameError::Invalid(_)));
    assert_eq!(error("40"), FrameError::Truncated);
    assert_eq!(frame::decode(&mut Reader::new(&[])), Err(FrameError::Truncated));
}

/// The values that each section of RFC 9000 section 19 and each extension forbids.
#[test]
fn values_that_no_frame_may_have_are_errors() {
    let token = "00000000000000000000000000000000";
    for text in [
        "02 04 00 00 05",                     // 19.3: the first range goes below 0
        "02 0a 00 01 02 08 00",               // 19.3.1: a gap goes below 0
        "02 0a 00 01 02 03 04",               // 19.3.1: a range goes below 0
        "02 0a 00 01 02 ffffffffffffffff 00", // and does not wrap
        "06 ffffffffffffffff 01 aa",          // 19.6: beyond 2^62 - 1
        "07 00",                              // 19.7: an empty token
        "0e 00 ffffffffffffffff 01 aa",       // 19.8: beyond 2^62 - 1
        "12 d000000000000001",                // 19.11: over 2^60
        "13 d000000000000001",
        "16 d000000000000001", // 19.14: over 2^60
        "17 d000000000000001",
        &format!("18 00 00 00 {token}"),                     // 19.15: no connection ID
        &format!("18 00 00 15 {} {token}", "aa".repeat(21)), // 19.15: 21 bytes
        &format!("18 01 02 01 aa {token}"),                  // 19.15: retires itself
        "24 00 00 01 02",                                    // reliable size over final size
    ] {
        assert!(matches!(error(text), FrameError::Invalid(_)), "{text}: {:?}", error(text));
    }
}

#[test]
fn the_largest_values_that_are_allowed() {
    for text in ["06 fffffffffffffffe 01 aa", "0e 00 fffffffffffffffe 01 aa", "12 d000000000000000", "24 00 00 02 02"] {
        assert!(decode_all(&hex(text)).is_ok(), "{text}");
    }
}

/// A count of ranges that the packet cannot hold costs no more than the packet has.
#[test]
fn a_huge_count_of_ranges_is_truncated() {
    assert_eq!(error("02 ffffffffffffffff 00 ffffffffffffffff 00 00 00 00 00"), FrameError::Truncated);
}

/// RFC 9001 appendix A.2 and A.3: the payloads of both Initial packets.
#[test]
fn the_payloads_of_the_examples() {
    let hello = "010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000c00
        0000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e00050005010000
        00000033002600240 01d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d00
        10000e0403050306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff
        0801100104800075300901100f088394c8f03e51570806048000ffff";
    let mut payload = hex(&format!("060040f1{hello}"));
    payload.resize(1162, 0);
    let data = hex(hello);
    let crypto = Frame::Crypto(Crypto { offset: 0, data: &data });
    assert_eq!(decode_all(&payload), Ok(vec![crypto, Frame::Padding(1162 - 245)]));

    let payload = hex("02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf73988cfc79825df566dc5430b9a045a12
        00130100002e00330024001d00209d3c940d89690b84d08a60993c144eca684d1081287c834d5311bcf32bb9da1a002b00020304");
    let frames = decode_all(&payload).unwrap();
    let [Frame::Ack(ack), Frame::Crypto(crypto)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!(ack.ranges().collect::<Vec<_>>(), [0..=0]);
    assert_eq!((crypto.offset, crypto.data.len()), (0, 0x5a));
}

#[test]
fn ranges_of_an_acknowledgement_descend() {
    // Largest 20, then 18 to 20, a gap of 15 to 17, 12 to 14, a gap of 11, 10, a gap of 1 to 9, 0.
    let bytes = hex("03 14 05 03 02 02 02 00 00 08 00 07 08 09");
    let frames = decode_all(&bytes).unwrap();
    let [Frame::Ack(ack)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!(ack.ranges().collect::<Vec<_>>(), [18..=20, 12..=14, 10..=10, 0..=0]);
    assert_eq!(ack.ecn(), Some(EcnCounts { ect0: 7, ect1: 8, ce: 9 }));
    assert_eq!(encoded(&frames[0]), bytes);
}

/// The count of ranges takes one byte up to 63 further ones and two from there; no byte is kept back for it.
#[test]
fn an_acknowledgement_fits_to_the_byte() {
    for ranges in [1, 2, 64, 65, 200] {
        let packets = (0..ranges).map(|i| 1000 - 2 * i..=1000 - 2 * i);
        // Type, largest in two bytes, delay, count, the first range; then two bytes for each other.
        let exact = 6 + usize::from(ranges > 64) + 2 * (ranges as usize - 1);
        for (room, expected) in [(exact, ranges as usize), (exact - 1, ranges as usize - 1)] {
            let mut buf = vec![0; room];
            let mut w = Writer::new(&mut buf);
            assert_eq!(encode_ack(&mut w, 0, packets.clone(), None), expected > 0);
            let frames = decode_all(w.written()).unwrap();
            let count = frames.iter().map(|f| if let Frame::Ack(ack) = f { ack.ranges().count() } else { 0 }).sum();
            assert_eq!(expected, count, "{ranges} ranges in {room} bytes");
        }
    }
}

#[test]
fn nothing_to_acknowledge_is_no_frame() {
    let mut buf = [0; 64];
    assert!(!encode_ack(&mut Writer::new(&mut buf), 0, std::iter::empty(), None));
}

#[test]
fn the_directions_of_stream_limits_are_their_types() {
    assert_eq!(encoded(&Frame::MaxStreams { dir: Dir::Bi, max: 1 })[0], 0x12);
    assert_eq!(encoded(&Frame::MaxStreams { dir: Dir::Uni, max: 1 })[0], 0x13);
    assert_eq!(encoded(&Frame::StreamsBlocked { dir: Dir::Bi, limit: 1 })[0], 0x16);
    assert_eq!(encoded(&Frame::StreamsBlocked { dir: Dir::Uni, limit: 1 })[0], 0x17);
}
