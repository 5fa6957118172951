//! Fuzz targets as plain functions.
//!
//! Each takes any bytes, must not panic, and checks a property of what it parsed. The corpora under `fuzz/corpus` are replayed
//! by an ordinary test with an ordinary toolchain; `fuzz/libfuzzer` runs the same functions under coverage guidance
//! (nightly, `cargo run --release --bin frames -- ../corpus/frames` with the flags in its README).
#![forbid(unsafe_code)]

use warpline_share::manifest::{OrderCheck, decode_entry, encode_entry};
use warpline_wire::frame::{self, Frame, StreamHeader};
use warpline_wire::{Reader, Side, TransportParameters, Writer, header};

/// Packet headers: whatever is accepted lies within the datagram.
pub fn packet_header(data: &[u8]) {
    if let Ok(parsed) = header::parse(data, 8) {
        assert!(parsed.packet_len <= data.len(), "a packet ends within its datagram");
        assert!(parsed.pn_offset <= data.len(), "a packet number begins within its datagram");
        assert!(data.get(parsed.token.clone()).is_some(), "a token lies within its datagram");
        assert!(header::negotiated_versions(data, &parsed).count() <= data.len());
    }
    if let Some(dcid) = header::peek_dcid(data, 8) {
        assert!(dcid.len() < data.len());
    }
}

/// A packet's payload: every frame makes progress, and STREAM headers read back as they were written.
pub fn frames(data: &[u8]) {
    let mut reader = Reader::new(data);
    while !reader.is_empty() {
        let before = reader.position();
        let Ok(parsed) = frame::decode(&mut reader) else { return };
        assert!(reader.position() > before, "a frame has at least one byte");
        match parsed {
            Frame::Ack(ack) => {
                let mut last = None;
                for range in ack.ranges() {
                    assert!(range.start() <= range.end());
                    assert!(last.is_none_or(|smallest| *range.end() + 1 < smallest), "ranges descend with gaps between");
                    last = Some(*range.start());
                }
            }
            Frame::Stream(s) => {
                let written = StreamHeader { id: s.id, offset: s.offset, fin: s.fin, len: Some(s.data.len()) };
                let mut room = vec![0; 32 + s.data.len()];
                let mut w = Writer::new(&mut room);
                written.encode(&mut w);
                w.slice(s.data);
                assert_eq!(frame::decode(&mut Reader::new(w.written())), Ok(Frame::Stream(s)));
            }
            _ => {}
        }
    }
}

/// Transport parameters: what is accepted is written and read back the same.
pub fn transport_parameters(data: &[u8]) {
    for from in [Side::Client, Side::Server] {
        let Ok(parsed) = TransportParameters::decode(data, from) else { continue };
        let mut bytes = Vec::new();
        parsed.encode(&mut bytes, from);
        assert_eq!(TransportParameters::decode(&bytes, from).as_ref(), Ok(&parsed));
    }
}

/// A manifest: entries that are accepted stay below the root, in order, and read back the same.
pub fn manifest(data: &[u8]) {
    let mut reader = Reader::new(data);
    let (mut order, mut previous) = (OrderCheck::default(), Vec::new());
    while !reader.is_empty() {
        let Ok(entry) = decode_entry(&mut reader, &previous) else { return };
        assert!(!entry.path.starts_with(b"/"));
        assert!(entry.path.split(|b| *b == b'/').all(|name| name != b".." && name != b"."));
        let mut bytes = Vec::new();
        encode_entry(&mut bytes, &entry, &previous);
        assert!(decode_entry(&mut Reader::new(&bytes), &previous).is_ok_and(|again| again == entry));
        if order.check(&entry).is_err() {
            return;
        }
        previous = entry.path;
    }
}
