//! Packet headers: the bytes of RFC 9001 and RFC 9369, and what must hold for any bytes.

mod common;

use common::{cid, hex, written};
use proptest::prelude::*;
use warpline_wire::header::{
    self, HeaderError, LongHeader, PacketKind, ProtectedHeader, ShortFlags, encode_retry, encode_short,
    encode_version_negotiation, retry_pseudo_packet,
};
use warpline_wire::{ConnectionId, Version, Writer};

fn id(text: &str) -> ConnectionId {
    ConnectionId::new(&hex(text)).expect("the examples have at most 20 bytes")
}

/// The long header of `kind`, and the rest of a packet with `payload` bytes behind the packet number.
fn long_packet(header: &LongHeader<'_>, pn: u64, pn_len: usize, payload: usize) -> Vec<u8> {
    written(|w| {
        let layout = header.encode(w, pn, pn_len);
        assert_eq!(w.position(), header.encoded_len(pn_len));
        assert_eq!(layout.pn_at, layout.length_at + 2);
        w.zeros(payload);
        w.patch_varint2(layout.length_at, (pn_len + payload) as u64);
    })
}

/// RFC 9001 appendix A.2 and A.3, RFC 9369 appendix A.2 and A.3.
#[test]
fn the_initial_headers_of_the_examples() {
    let client = |version| LongHeader {
        kind: PacketKind::Initial,
        version,
        dcid: id("8394c8f03e515708"),
        scid: ConnectionId::EMPTY,
        token: &[],
    };
    let server = |version| LongHeader { dcid: ConnectionId::EMPTY, scid: id("f067a5502a4262b5"), ..client(version) };
    for (header, pn, pn_len, payload, expected) in [
        (client(Version::V1), 2, 4, 1178, "c300000001088394c8f03e5157080000449e00000002"),
        (server(Version::V1), 1, 2, 115, "c1000000010008f067a5502a4262b50040750001"),
        (client(Version::V2), 2, 4, 1178, "d36b3343cf088394c8f03e5157080000449e00000002"),
        (server(Version::V2), 1, 2, 115, "d16b3343cf0008f067a5502a4262b50040750001"),
    ] {
        let packet = long_packet(&header, pn, pn_len, payload);
        assert_eq!(packet[..header.encoded_len(pn_len)], hex(expected));

        let parsed = header::parse(&packet, 8).unwrap();
        assert_eq!((parsed.kind, parsed.version, parsed.fixed_bit), (PacketKind::Initial, header.version, true));
        assert_eq!((parsed.dcid, parsed.scid), (header.dcid, header.scid));
        assert!(parsed.token.is_empty());
        assert_eq!(parsed.pn_offset, header.encoded_len(pn_len) - pn_len);
        assert_eq!(parsed.packet_len, packet.len());
        assert_eq!(header::decode_pn(&packet[parsed.pn_offset..], pn_len), pn);
    }
}

/// RFC 9001 appendix A.3: the protected packet, and the sample that the RFC takes of it.
#[test]
fn the_sample_of_the_server_initial() {
    let packet = hex("cf000000010008f067a5502a4262b500 4075c0d95a482cd0991cd25b0aac406a
        5816b6394100f37a1c69797554780bb3 8cc5a99f5ede4cf73c3ec2493a1839b3
        dbcba3f6ea46c5b7684df3548e7ddeb9 c3bf9c73cc3f3bded74b562bfb19fb84
        022f8ef4cdd93795d77d06edbb7aaf2f 58891850abbdca3d20398c276456cbc4
        2158407dd074ee");
    let header = header::parse(&packet, 0).unwrap();
    assert_eq!(header.sample(&packet).unwrap()[..], hex("2cd0991cd25b0aac406a5816b6394100"));
    assert_eq!(header.packet_len, packet.len());
    assert_eq!(header.packet_len - header.pn_offset, 0x75);
}

/// RFC 9001 appendix A.4.
#[test]
fn the_retry_of_the_example() {
    let packet = hex("ff000000010008f067a5502a4262b574 6f6b656e04a265ba2eff4d829058fb3f 0f2496ba");
    let header = header::parse(&packet, 8).unwrap();
    assert_eq!((header.kind, header.scid), (PacketKind::Retry, id("f067a5502a4262b5")));
    assert_eq!(packet[header.token.clone()], *b"token");

    let without_tag = written(|w| encode_retry(w, Version::V1, &ConnectionId::EMPTY, &header.scid, b"token"));
    assert_eq!(without_tag, packet[..packet.len() - header::RETRY_TAG_LEN]);
    let pseudo = retry_pseudo_packet(&id("8394c8f03e515708"), &without_tag);
    assert_eq!(pseudo, [&hex("088394c8f03e515708")[..], &without_tag].concat());

    for short in 0..without_tag.len() - 5 + header::RETRY_TAG_LEN {
        assert_eq!(header::parse(&packet[..short], 8), Err(HeaderError::Truncated), "{short} bytes");
    }
}

/// RFC 9369 appendix A.4: the type bits of Retry are 0b00 in version 2.
#[test]
fn the_retry_of_version_2() {
    let retry = written(|w| encode_retry(w, Version::V2, &ConnectionId::EMPTY, &id("f067a5502a4262b5"), b"token"));
    assert_eq!(retry, hex("cf6b3343cf0008f067a5502a4262b574 6f6b656e"));
}

/// RFC 9001 appendix A.5: a packet with an empty connection ID.
#[test]
fn the_short_header_of_the_example() {
    let flags = ShortFlags { spin: false, key_phase: false, fixed_bit: true };
    let bytes = written(|w| assert_eq!(encode_short(w, &ConnectionId::EMPTY, flags, 654_360_564, 3), 1));
    assert_eq!(bytes, hex("4200bff4"));
    let packet = hex("4cfe4189655e5cd55c41f69080575d7999c25a5bfb");
    let header = header::parse(&packet, 0).unwrap();
    assert_eq!((header.kind, header.pn_offset, header.packet_len), (PacketKind::OneRtt, 1, 21));
    assert_eq!(header.sample(&packet).unwrap()[..], hex("5e5cd55c41f69080575d7999c25a5bfb"));
}

/// RFC 9000 section 17.2 and RFC 9369 section 3.2, as one table.
#[test]
fn the_type_bits_of_both_versions() {
    let dcid = id("0102030405060708");
    for (kind, v1, v2) in [
        (PacketKind::Initial, 0b00, 0b01),
        (PacketKind::ZeroRtt, 0b01, 0b10),
        (PacketKind::Handshake, 0b10, 0b11),
        (PacketKind::Retry, 0b11, 0b00),
    ] {
        for (version, bits) in [(Version::V1, v1), (Version::V2, v2)] {
            let packet = match kind {
                PacketKind::Retry => written(|w| {
                    encode_retry(w, version, &dcid, &dcid, b"t");
                    w.zeros(header::RETRY_TAG_LEN);
                }),
                _ => long_packet(&LongHeader { kind, version, dcid, scid: dcid, token: &[] }, 0, 1, 20),
            };
            assert_eq!(packet[0] >> 4 & 3, bits, "{kind:?} in {version:?}");
            assert_eq!(header::parse(&packet, 8).map(|h| h.kind), Ok(kind));
        }
    }
}

#[test]
fn the_flags_of_short_headers() {
    let dcid = id("0102030405060708");
    for bits in 0..8 {
        let flags = ShortFlags { spin: bits & 1 != 0, key_phase: bits & 2 != 0, fixed_bit: bits & 4 != 0 };
        for pn_len in 1..=4 {
            let bytes = written(|w| assert_eq!(encode_short(w, &dcid, flags, 0x0102_0304, pn_len), 9));
            let expected = (bits & 1) << 5 | (bits & 2) << 1 | (bits & 4) << 4 | (pn_len as u8 - 1);
            assert_eq!(bytes[0], expected);
            assert_eq!(bytes[9..], [1, 2, 3, 4][4 - pn_len..]);
            let header = header::parse(&bytes, 8).unwrap();
            assert_eq!((header.fixed_bit, header.dcid, header.pn_offset), (flags.fixed_bit, dcid, 9));
        }
    }
}

/// RFC 9000 section 12.2.
#[test]
fn coalesced_packets_follow_each_other() {
    let (dcid, scid) = (id("0102030405060708"), id("aabb"));
    let long = |kind, token| long_packet(&LongHeader { kind, version: Version::V1, dcid, scid, token }, 1, 2, 40);
    let flags = ShortFlags { spin: false, key_phase: false, fixed_bit: true };
    let short = written(|w| {
        encode_short(w, &dcid, flags, 3, 2);
        w.zeros(30);
    });
    let datagram = [long(PacketKind::Initial, b"a token"), long(PacketKind::Handshake, b""), short].concat();

    let mut rest = &datagram[..];
    let mut kinds = Vec::new();
    while !rest.is_empty() {
        let ProtectedHeader { kind, dcid: to, packet_len, token, .. } = header::parse(rest, 8).unwrap();
        assert_eq!(to, dcid);
        kinds.push((kind, rest[token].to_vec()));
        rest = &rest[packet_len..];
    }
    let none = Vec::new;
    let expected =
        [(PacketKind::Initial, b"a token".to_vec()), (PacketKind::Handshake, none()), (PacketKind::OneRtt, none())];
    assert_eq!(kinds, expected);
}

/// RFC 8999 section 5.1 and RFC 9000 section 17.2: connection IDs of unknown versions, also long ones.
#[test]
fn unknown_versions_still_tell_whose_they_are() {
    let packet = hex("8f 12345678 03 010203 02 0405 ffff");
    let (version, dcid, scid) = (Version(0x1234_5678), id("010203"), id("0405"));
    assert_eq!(header::parse(&packet, 8), Err(HeaderError::UnsupportedVersion { version, dcid, scid }));

    let long = [&hex("80 12345678 ff")[..], &[7; 255], &[20], &[9; 20]].concat();
    assert_eq!(header::parse(&long, 8), Err(HeaderError::CidTooLong));
    assert_eq!(header::peek_dcid(&long, 8), Some(&[7; 255][..]));
    let invariants = header::invariants(&long).unwrap();
    assert_eq!((invariants.version, invariants.dcid, invariants.scid), (version, &[7; 255][..], &[9; 20][..]));
    for short in 0..long.len() {
        assert_eq!(header::invariants(&long[..short]), None);
    }
    assert_eq!(header::invariants(&[0x40; 40]), None);
}

#[test]
fn version_negotiation_lists_versions() {
    let (dcid, scid) = (id("aabb"), id("0102030405060708"));
    let versions = [Version::V1, Version::V2, Version(0x1a2a_3a4a)];
    let packet = written(|w| encode_version_negotiation(w, 0x2b, &dcid, &scid, versions.into_iter()));
    assert_eq!(packet[0], 0xeb);
    let header = header::parse(&packet, 8).unwrap();
    assert_eq!((header.kind, header.dcid, header.scid), (PacketKind::VersionNegotiation, dcid, scid));
    assert_eq!(header::negotiated_versions(&packet, &header).collect::<Vec<_>>(), versions);

    let without_list = &packet[..packet.len() - 12];
    assert_eq!(header::parse(without_list, 8), Err(HeaderError::Truncated));
    assert_eq!(header::parse(&packet[..packet.len() - 1], 8), Err(HeaderError::Truncated));
}

/// RFC 9001 section 5.4.2: what is too short for a sample is told, and is no panic.
#[test]
fn packets_without_a_sample() {
    let packet = [&[0x40][..], &[7; 8], &[1; 19]].concat();
    let header = header::parse(&packet, 8).unwrap();
    assert_eq!(header.sample(&packet), None);
    assert!(header.sample(&[&packet[..], &[1]].concat()).is_none(), "the length is that of the header");
    assert_eq!(header::parse(&packet[..8], 8), Err(HeaderError::Truncated));
    assert_eq!(header::parse(&packet, 21), Err(HeaderError::CidTooLong));
}

proptest! {
    #[test]
    fn long_headers_come_back(
        kind in prop_oneof![Just(PacketKind::Initial), Just(PacketKind::ZeroRtt), Just(PacketKind::Handshake)],
        version in prop_oneof![Just(Version::V1), Just(Version::V2)],
        (dcid, scid) in (cid(0..=20), cid(0..=20)),
        token in proptest::collection::vec(any::<u8>(), 0..200),
        (pn, pn_len, payload) in (any::<u32>(), 1usize..=4, 16usize..1200),
    ) {
        let token = if kind == PacketKind::Initial { &token[..] } else { &[] };
        let packet = long_packet(&LongHeader { kind, version, dcid, scid, token }, u64::from(pn), pn_len, payload);
        let header = header::parse(&packet, 8).unwrap();
        prop_assert_eq!((header.kind, header.version, header.dcid, header.scid), (kind, version, dcid, scid));
        prop_assert_eq!(&packet[header.token.clone()], token);
        prop_assert_eq!(header.packet_len, packet.len());
        let mask = if pn_len == 4 { u32::MAX } else { (1 << (8 * pn_len)) - 1 };
        prop_assert_eq!(header::decode_pn(&packet[header.pn_offset..], pn_len), u64::from(pn & mask));
        prop_assert_eq!(header::peek_dcid(&packet, 8), Some(&*dcid));
        prop_assert_eq!(header::short_dcid(&packet, 8), None);
        for cut in 0..packet.len() {
            prop_assert_eq!(header::parse(&packet[..cut], 8), Err(HeaderError::Truncated));
        }
    }

    /// All offsets that a parsed header gives lie within the datagram, whatever that is.
    #[test]
    fn any_bytes_parse_or_do_not(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..100),
        version in 0usize..4,
        len in 0usize..24,
    ) {
        let versions = [Version::V1, Version::V2, Version(0)];
        if let (Some(at), Some(Version(v))) = (bytes.get_mut(1..5), versions.get(version)) {
            at.copy_from_slice(&v.to_be_bytes());
        }
        if let Ok(header) = header::parse(&bytes, len) {
            prop_assert!(header.token.start <= header.token.end && header.token.end <= header.packet_len);
            prop_assert!(header.pn_offset <= header.packet_len && header.packet_len <= bytes.len());
            prop_assert_eq!(header::peek_dcid(&bytes, len), Some(&*header.dcid));
            let _ = header.sample(&bytes);
            let _ = header::negotiated_versions(&bytes, &header).count();
        }
    }
}

#[test]
#[should_panic(expected = "range")]
fn writing_beyond_the_room_panics() {
    Writer::new(&mut [0; 4]).slice(&[0; 5]);
}
