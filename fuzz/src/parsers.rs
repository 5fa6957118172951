//! Parsers of what comes from the network: what they accept is checked against what writes it.

use warpline_wire::client_hello::{self, Scan};
use warpline_wire::frame::{self, Frame};
use warpline_wire::header::{self, HeaderError, LongHeader, PacketKind};
use warpline_wire::net::{self, Peer, Template};
use warpline_wire::{Reader, Side, TransportParameters, Version, Writer};

/// Packet headers: whatever is accepted lies within the datagram, the ways to read one agree, and a long header that is
/// written again reads back the same.
pub fn packet_header(data: &[u8]) {
    let parsed = header::parse(data, 8);
    if let Some(invariants) = header::invariants(data) {
        assert_eq!(header::peek_dcid(data, 8), Some(invariants.dcid));
        if let Err(HeaderError::UnsupportedVersion { version, dcid, scid }) = &parsed {
            assert!(!version.is_supported());
            assert_eq!((*version, &**dcid, &**scid), (invariants.version, invariants.dcid, invariants.scid));
        }
    }
    if let Ok(parsed) = parsed {
        assert_eq!(header::peek_dcid(data, 8), Some(&*parsed.dcid));
        assert_eq!(header::short_dcid(data, 8).is_some(), parsed.kind == PacketKind::OneRtt);
        assert!(parsed.packet_len <= data.len(), "a packet ends within its datagram");
        assert!(parsed.pn_offset <= data.len(), "a packet number begins within its datagram");
        assert!(data.get(parsed.token.clone()).is_some(), "a token lies within its datagram");
        assert!(header::negotiated_versions(data, &parsed).count() <= data.len());
        assert_eq!(parsed.sample(data).is_some(), parsed.pn_offset + 4 + header::SAMPLE_LEN <= parsed.packet_len);
        if matches!(parsed.kind, PacketKind::Initial | PacketKind::ZeroRtt | PacketKind::Handshake) {
            long_header(data, &parsed);
        }
    }
    if let Some(dcid) = header::peek_dcid(data, 8) {
        assert!(dcid.len() < data.len());
    }
}

/// Writes a parsed long header again, with a packet number and no payload, and reads that.
fn long_header(data: &[u8], parsed: &header::ProtectedHeader) {
    let (kind, version, dcid, scid) = (parsed.kind, parsed.version, parsed.dcid, parsed.scid);
    let token = data.get(parsed.token.clone()).unwrap_or_default();
    let again = LongHeader { kind, version, dcid, scid, token };
    let mut room = vec![0; again.encoded_len(2)];
    let mut w = Writer::new(&mut room);
    let layout = again.encode(&mut w, 0x0102, 2);
    w.patch_varint2(layout.length_at, 2);
    assert_eq!(w.remaining(), 0, "the header is as long as it said");
    let read = header::parse(w.written(), 8);
    assert!(read.is_ok_and(|read| {
        (read.kind, read.version, read.dcid, read.scid) == (kind, version, dcid, scid)
            && w.written().get(read.token) == Some(token)
            && (read.pn_offset, read.packet_len) == (layout.pn_at, layout.pn_at + 2)
    }));
}

/// A packet's payload: every frame makes progress, the ranges of an ACK descend, and each frame that is written again
/// reads back the same.
pub fn frames(data: &[u8]) {
    let mut reader = Reader::new(data);
    while !reader.is_empty() {
        let before = reader.position();
        let Ok(parsed) = frame::decode(&mut reader) else { return };
        assert!(reader.position() > before, "a frame has at least one byte");
        if let Frame::Ack(ack) = &parsed {
            acknowledgement(ack);
        }
        let mut room = vec![0; parsed.encoded_len()];
        let mut w = Writer::new(&mut room);
        parsed.encode(&mut w);
        assert_eq!(w.remaining(), 0, "a frame is as long as it said");
        assert_eq!(frame::decode(&mut Reader::new(w.written())), Ok(parsed));
    }
}

/// The ranges of an ACK descend with gaps between them, and encoded from them it is the same frame.
fn acknowledgement(ack: &frame::Ack<'_>) {
    let mut last = None;
    for range in ack.ranges() {
        assert!(range.start() <= range.end());
        assert!(last.is_none_or(|smallest| *range.end() + 1 < smallest), "ranges descend with gaps between");
        last = Some(*range.start());
    }
    let mut room = vec![0; ack.encoded_len()];
    let mut w = Writer::new(&mut room);
    assert!(frame::encode_ack(&mut w, ack.delay(), ack.ranges(), ack.ecn()), "it fits in the room that it came in");
    let Ok(Frame::Ack(again)) = frame::decode(&mut Reader::new(w.written())) else {
        panic!("what was written is an ACK");
    };
    assert!(again.ranges().eq(ack.ranges()), "and has all ranges");
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

/// What a server reads of a ClientHello: until the message is whole more must come, what follows it changes nothing, and the version
/// that is chosen is one that both sides speak or the one that the client began with.
pub fn client_hello(data: &[u8]) {
    const LEN_MAX: u64 = 64 * 1024;
    let scan = |bytes| client_hello::scan(bytes, LEN_MAX);
    let whole = scan(data);
    let mut longer = data.to_vec();
    longer.push(0);
    match &whole {
        Scan::Incomplete => {}
        Scan::Foreign => assert_eq!(scan(&longer), Scan::Foreign),
        Scan::Hello(offer) => {
            let len = 4 + u32::from_be_bytes([0, data[1], data[2], data[3]]) as usize;
            for cut in [0, 1, 3, 4, len / 2, len - 1] {
                assert_eq!(scan(&data[..cut.min(len - 1)]), Scan::Incomplete, "{cut} of {len}");
            }
            assert_eq!(scan(&longer), whole);
            let spoken = [Version::V2, Version::V1];
            let chosen = offer.choose(data, Version::V1, &spoken);
            let offered = offer.versions(data).map(|info| info.available).unwrap_or_default();
            assert!(chosen == Version::V1 || offered.contains(&chosen) && spoken.contains(&chosen));
            assert!(!offer.early_data || chosen == Version::V1, "early data stays in its version");
            assert!(offered.is_empty() || offer.has_params());
        }
    }
}

/// Ethernet, IP and UDP headers: the payload of what is accepted lies within the frame, and headers written for the same addresses
/// read back the same.
pub fn net_headers(data: &[u8]) {
    let Ok(parsed) = net::parse(data) else { return };
    let Some(payload) = data.get(parsed.payload.clone()) else { panic!("a payload lies within its frame") };
    let template = Template::new(&Peer {
        source_mac: parsed.source_mac,
        next_hop_mac: [2; net::MAC_LEN],
        vlans: [None; net::VLAN_TAGS_MAX],
        source: parsed.source,
        destination: parsed.destination.ip(),
        hop_limit: 64,
        flow_label: 0,
    })
    .expect("both addresses are of the family that the header has");
    let mut packet = vec![0; template.len()];
    packet.extend_from_slice(payload);
    template.write(&mut packet, parsed.destination.port(), parsed.traffic_class & 3);
    let again = net::parse(&packet).expect("what is written can be read");
    assert_eq!((again.source, again.destination), (parsed.source, parsed.destination));
    assert_eq!((again.source_mac, again.traffic_class), (parsed.source_mac, parsed.traffic_class & 3));
    assert_eq!(packet.get(again.payload), Some(payload));
}

/// Frames and fields of HTTP/3: what the checks say of a stream does not depend on the pieces that it comes in.
pub fn http3_stream(data: &[u8]) {
    for side in [Side::Client, Side::Server] {
        let whole = warpline_h3::check_stream(side, data, data.len());
        for piece in [1, 2, 3, 7, 64] {
            assert_eq!(warpline_h3::check_stream(side, data, piece), whole, "in pieces of {piece}");
        }
    }
}
