//! Variable-length integers, packet numbers, stream IDs and connection IDs: the examples of RFC 9000 and the laws that
//! hold for all values.

mod common;

use common::{hex, number};
use proptest::prelude::*;
use std::collections::HashMap;
use warpline_wire::{
    ConnectionId, Dir, PacketNumber, Reader, ResetToken, Side, StreamId, TransportErrorCode, Truncated, Version,
    Writer, cid, varint,
};

/// RFC 9000 appendix A.1.
#[test]
fn the_examples_of_variable_length_integers() {
    for (bytes, value) in [
        ("c2197c5eff14e88c", 151_288_809_941_952_652),
        ("9d7f3e7d", 494_878_333),
        ("7bbd", 15_293),
        ("25", 37),
        ("4025", 37),
    ] {
        let bytes = hex(bytes);
        assert_eq!(varint::decode(&bytes), Some((value, bytes.len())));
        for len in 0..bytes.len() {
            assert_eq!(varint::decode(&bytes[..len]), None);
        }
    }
}

#[test]
fn the_edges_of_each_length() {
    for (value, len) in
        [(0, 1), (63, 1), (64, 2), (16_383, 2), (16_384, 4), ((1 << 30) - 1, 4), (1 << 30, 8), (varint::MAX, 8)]
    {
        assert_eq!(varint::len(value), len, "{value}");
    }
}

/// RFC 9000 appendix A.2.
#[test]
fn the_examples_of_packet_number_lengths() {
    assert_eq!(PacketNumber(0xac_5c02).truncated_len(Some(0xab_e8b3)), 2);
    assert_eq!(PacketNumber(0xac_e8fe).truncated_len(Some(0xab_e8b3)), 3);
    assert_eq!(PacketNumber(0).truncated_len(None), 1);
}

/// RFC 9000 appendix A.3.
#[test]
fn the_example_of_packet_number_decoding() {
    assert_eq!(PacketNumber::expand(0x9b32, 2, Some(0xa82f_30ea)), PacketNumber(0xa82f_9b32));
}

#[test]
fn packet_numbers_at_both_ends_of_their_space() {
    assert_eq!(PacketNumber::expand(0, 1, None), PacketNumber(0));
    assert_eq!(PacketNumber::expand(255, 1, None), PacketNumber(255));
    let last = varint::MAX;
    assert_eq!(PacketNumber::expand(last & 0xff, 1, Some(last - 1)), PacketNumber(last));
    assert_eq!(PacketNumber::expand(0, 1, Some(last - 1)).0, last - 255, "never beyond 2^62 - 1");
}

/// RFC 9000 table 1.
#[test]
fn the_types_of_streams() {
    for (id, side, dir) in [
        (0, Side::Client, Dir::Bi),
        (1, Side::Server, Dir::Bi),
        (2, Side::Client, Dir::Uni),
        (3, Side::Server, Dir::Uni),
    ] {
        let id = StreamId(id);
        assert_eq!((id.initiator(), id.dir(), id.index()), (side, dir, 0));
        assert_eq!(StreamId::new(side, dir, 0), id);
        assert_eq!(StreamId::new(side, dir, 7).0, 28 + id.0);
    }
    assert_eq!(!Side::Client, Side::Server);
    assert_eq!(!Side::Server, Side::Client);
}

#[test]
fn versions_that_are_spoken_and_those_that_are_greased() {
    assert!(Version::V1.is_supported() && Version::V2.is_supported());
    assert!(!Version::NEGOTIATION.is_supported() && !Version(0x709a_50c4).is_supported());
    assert!(Version(0x1a2a_3a4a).is_greased() && Version(0xfafa_fafa).is_greased());
    assert!(!Version::V1.is_greased() && !Version::V2.is_greased());
}

#[test]
fn connection_ids_have_at_most_twenty_bytes() {
    assert_eq!(ConnectionId::new(&[7; 21]), None);
    assert_eq!(ConnectionId::new(&[7; 300]), None, "not by the low byte of the length either");
    assert_eq!(ConnectionId::new(&[]), Some(ConnectionId::EMPTY));
    assert_eq!(&*ConnectionId::new(&[7; 20]).unwrap(), &[7; 20]);
    assert_ne!(ConnectionId::new(&[0; 3]), ConnectionId::new(&[0; 4]));
    assert_eq!(format!("{:?}", ConnectionId::new(&[0x83, 0x94, 0x0c]).unwrap()), "83940c");
}

#[test]
fn a_map_of_connection_ids_takes_slices_of_packets() {
    let map: HashMap<ConnectionId, u8> = [(ConnectionId::new(&[1, 2, 3]).unwrap(), 9)].into();
    assert_eq!(map.get(&[1, 2, 3][..]), Some(&9));
    assert_eq!(map.get(&[1, 2, 3, 0][..]), None);
}

#[test]
fn reset_tokens_differ_in_any_bit_and_are_not_shown() {
    let token = ResetToken([0x5a; 16]);
    assert_eq!(token, ResetToken([0x5a; 16]));
    for bit in 0..128 {
        let mut other = token;
        other.0[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(token, other);
    }
    assert!(!format!("{token:?}").contains("5a"));
}

#[test]
fn a_layout_finds_the_key_by_the_length_of_the_id() {
    let layout = cid::Layout { len: 10, key_offset: 8 };
    assert_eq!(layout.partition_key(&[0, 1, 2, 3, 4, 5, 6, 7, 0x12, 0x34]), Some(0x1234));
    // What a client chose itself.
    assert_eq!(layout.partition_key(&[0, 1, 2, 3, 4, 5, 0x56, 0x78]), Some(0x5678));
    assert_eq!(layout.partition_key(&[0; 7]), None);
    let plain = cid::Layout::PLAIN;
    assert_eq!(plain.partition_key(&[0, 1, 2, 3, 4, 5, 0x12, 0x34]), Some(0x1234));
}

#[test]
fn the_partition_key_is_the_seventh_and_eighth_byte() {
    assert_eq!(cid::partition_key(&[0, 1, 2, 3, 4, 5, 0x12, 0x34]), Some(0x1234));
    assert_eq!(cid::partition_key(&[0, 1, 2, 3, 4, 5, 0x12, 0x34, 9, 9]), Some(0x1234));
    assert_eq!(cid::partition_key(&[0; 7]), None);
    assert_eq!(cid::partition_key(&[]), None);
    assert_eq!((cid::slot(0), cid::slot(1020), cid::slot(1021)), (0, 1020, 0));
    assert!((2..32).all(|n| !cid::PARTITION_SLOTS.is_multiple_of(n)), "a prime");
}

#[test]
fn error_codes_have_names_and_carry_alerts() {
    assert_eq!(TransportErrorCode::PROTOCOL_VIOLATION.to_string(), "PROTOCOL_VIOLATION");
    assert_eq!(TransportErrorCode::crypto(120), TransportErrorCode(0x178));
    assert_eq!(TransportErrorCode::crypto(120).alert(), Some(120));
    assert_eq!(TransportErrorCode::NO_VIABLE_PATH.alert(), None);
    assert_eq!(TransportErrorCode(0x200).alert(), None);
}

#[test]
fn a_reader_stays_where_it_was_when_a_read_fails() {
    let mut r = Reader::new(&[0xc0, 1, 2]);
    assert_eq!(r.varint(), Err(Truncated));
    assert_eq!(r.u32(), Err(Truncated));
    assert_eq!(r.bytes(4), Err(Truncated));
    assert_eq!(r.bytes(usize::MAX), Err(Truncated));
    assert_eq!((r.position(), r.remaining()), (0, 3));
    assert_eq!(r.u16(), Ok(0xc001));
    assert_eq!((r.position(), r.rest(), r.position()), (2, &[2][..], 3));
    assert!(r.is_empty());
    assert_eq!((r.u8(), r.rest()), (Err(Truncated), &[][..]));
}

#[test]
fn a_length_is_patched_in_its_two_bytes() {
    let mut buf = [0; 8];
    let mut w = Writer::new(&mut buf);
    w.u8(1);
    w.varint2(0);
    w.skip(2);
    w.patch_varint2(1, 16_383);
    assert_eq!((w.written(), w.remaining()), (&[1, 0x7f, 0xff, 0, 0][..], 3));
}

proptest! {
    #[test]
    fn integers_come_back(value in number(), rest in any::<[u8; 3]>()) {
        let mut buf = [0; 11];
        let len = varint::encode(value, &mut buf);
        prop_assert_eq!(len, varint::len(value));
        buf[len..len + 3].copy_from_slice(&rest);
        prop_assert_eq!(varint::decode(&buf[..len + 3]), Some((value, len)));
    }

    /// What a sender truncates, a receiver restores, if it has seen what the sender knows to be acknowledged and at
    /// most what was sent.
    #[test]
    fn packet_numbers_come_back(
        acked in proptest::option::of(0..1u64 << 61),
        // All lengths from one to four bytes, as far as four bytes tell packets apart.
        ahead in prop_oneof![0u64..1 << 7, 0u64..1 << 15, 0u64..1 << 23, 0u64..(1 << 31) - 1],
        seen in any::<u64>(),
    ) {
        let pn = acked.map_or(ahead, |acked| acked + 1 + ahead);
        let first = acked.unwrap_or(0);
        let largest = (pn > first).then(|| first + seen % (pn - first)).or(acked);
        let len = PacketNumber(pn).truncated_len(acked);
        let truncated = pn & ((1 << (8 * len)) - 1);
        prop_assert_eq!(PacketNumber::expand(truncated, len, largest), PacketNumber(pn));
    }

    #[test]
    fn stream_ids_come_apart(id in number()) {
        let id = StreamId(id);
        prop_assert_eq!(StreamId::new(id.initiator(), id.dir(), id.index()), id);
    }
}
