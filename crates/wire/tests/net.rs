//! Ethernet, IP and UDP headers: what is written is read again, and every check of the reader has its frame.

use std::net::SocketAddr;

use warpline_wire::net::{ETHERTYPE_QINQ, ETHERTYPE_VLAN, Malformed, Peer, Template, VlanTag, fold, parse, sum};

const V4: (&str, &str) = ("192.0.2.1:443", "198.51.100.7:50000");
const V6: (&str, &str) = ("[2001:db8::1]:443", "[2001:db8:1::7]:50000");

fn peer((source, destination): (&str, &str)) -> Peer {
    Peer {
        source_mac: [2, 0, 0, 0, 0, 1],
        next_hop_mac: [2, 0, 0, 0, 0, 2],
        vlans: [None, None],
        source: source.parse().expect("a literal"),
        destination: destination.parse::<SocketAddr>().expect("a literal").ip(),
        hop_limit: 64,
        flow_label: 0xabcde,
    }
}

/// The port that goes with the peer's address in these stories.
fn port(peer: &Peer) -> u16 {
    if peer.destination.to_string() == "10.0.0.2" { 2000 } else { 50_000 }
}

fn packet(peer: &Peer, payload: &[u8], ecn: u8) -> Vec<u8> {
    let template = Template::new(peer).expect("one family");
    let mut packet = vec![0xaa; template.len()];
    packet.extend_from_slice(payload);
    template.write(&mut packet, port(peer), ecn);
    packet
}

/// RFC 1071 section 3 adds the words 0001 f203 f4f5 f6f7 to ddf2.
#[test]
fn the_example_of_rfc_1071() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(fold(sum(&bytes)).to_ne_bytes(), (!0xddf2u16).to_be_bytes());
}

/// The straightforward sum of RFC 1071 section 4.1.
fn reference(bytes: &[u8]) -> [u8; 2] {
    let mut total: u32 = 0;
    for pair in bytes.chunks(2) {
        total += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        total = (total & 0xffff) + (total >> 16);
    }
    (!(total as u16)).to_be_bytes()
}

#[test]
fn sums_of_any_length_agree_with_the_simple_way() {
    let bytes: Vec<u8> = (0..9000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for len in (0..200).chain([1452, 1453, 8972, 9000]) {
        for start in 0..4.min(9000 - len + 1) {
            let part = &bytes[start..start + len];
            assert_eq!(fold(sum(part)).to_ne_bytes(), reference(part), "{len} bytes from {start}");
        }
    }
    assert_eq!(fold(sum(&[0xff; 65_535])).to_ne_bytes(), reference(&[0xff; 65_535]), "no carry is lost");
}

#[test]
fn what_is_written_is_read_again() {
    let tag = |ethertype, id| Some(VlanTag { ethertype, id });
    let stacks = [[None, None], [tag(ETHERTYPE_VLAN, 5), None], [tag(ETHERTYPE_QINQ, 100), tag(ETHERTYPE_VLAN, 4095)]];
    for addresses in [V4, V6] {
        for vlans in stacks {
            for (len, ecn) in [(1, 0), (2, 1), (1200, 2), (1453, 3), (9000, 2)] {
                let peer = Peer { vlans, ..peer(addresses) };
                let payload: Vec<u8> = (0..len).map(|n| (n * 7) as u8).collect();
                let packet = packet(&peer, &payload, ecn);
                let udp = parse(&packet).unwrap();
                assert_eq!((udp.source, udp.destination.ip()), (peer.source, peer.destination));
                assert_eq!(udp.destination.port(), 50_000);
                assert_eq!((udp.traffic_class, udp.source_mac), (ecn, peer.source_mac));
                assert_eq!(packet[udp.payload.clone()], payload);
                let ip = Template::new(&peer).unwrap().link_len();
                assert_eq!(udp_checksum(&packet, ip, udp.payload.start - 8), [0, 0], "the sum over all is 0");
            }
        }
    }
}

/// The checksum over pseudo header, header and payload: 0 when the packet is right.
fn udp_checksum(packet: &[u8], ip: usize, udp: usize) -> [u8; 2] {
    let addresses = if packet[ip] >> 4 == 4 { &packet[ip + 12..ip + 20] } else { &packet[ip + 8..ip + 40] };
    let mut all = addresses.to_vec();
    all.extend_from_slice(&[0, 17, packet[udp + 4], packet[udp + 5]]);
    all.extend_from_slice(&packet[udp..]);
    reference(&all)
}

#[test]
fn a_known_packet_comes_out_byte_for_byte() {
    let peer = peer(("10.0.0.1:1000", "10.0.0.2:2000"));
    let expected = [
        &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00][..],
        &[0x45, 0x02, 0x00, 0x20, 0, 0, 0x40, 0, 64, 17, 0x26, 0xc9, 10, 0, 0, 1, 10, 0, 0, 2],
        &[0x03, 0xe8, 0x07, 0xd0, 0x00, 0x0c, 0x0f, 0x49, 0x68, 0x69, 0x68, 0x69],
    ];
    assert_eq!(packet(&peer, b"hihi", 2), expected.concat());
}

#[test]
fn a_checksum_of_zero_is_sent_as_ones() {
    let peer = peer(V4);
    let found = (0..=u16::MAX).map(|n| packet(&peer, &n.to_be_bytes(), 0)).find(|p| p[40..42] == [0xff, 0xff]);
    let packet = found.expect("one of all two-byte payloads has that sum");
    assert_eq!(udp_checksum(&packet, 14, 34), [0, 0]);
}

/// What finishes a packet adds up everything from the UDP header on, the sum of the pseudo header in the field included, as
/// `skb_checksum_help` of Linux and devices do.
#[test]
fn an_unfinished_packet_needs_only_its_own_bytes_to_be_finished() {
    for addresses in [V4, V6] {
        for len in [1, 2, 99, 1200, 1453] {
            let peer = peer(addresses);
            let payload: Vec<u8> = (0..len).map(|n| (n * 11) as u8).collect();
            let finished = packet(&peer, &payload, 2);
            let template = Template::new(&peer).unwrap();
            let mut packet = [vec![0xaa; template.len()], payload].concat();
            template.write_unfinished(&mut packet, port(&peer), 2);
            let udp = template.udp_at();
            assert_ne!(packet, finished);
            let checksum = reference(&packet[udp..]);
            packet[udp + 6..udp + 8].copy_from_slice(&checksum);
            assert_eq!(packet, finished, "{len} bytes");
        }
    }
}

#[test]
fn addresses_of_two_families_have_no_headers() {
    let destination = V6.1.parse::<SocketAddr>().unwrap().ip();
    assert!(Template::new(&Peer { destination, ..peer(V4) }).is_none());
}

#[test]
fn trailing_bytes_of_short_frames_are_not_payload() {
    let mut packet = packet(&peer(V4), b"x", 0);
    packet.resize(60, 0);
    assert_eq!(parse(&packet).unwrap().payload, 42..43);
}

#[test]
fn every_truncation_is_refused() {
    for addresses in [V4, V6] {
        let packet = packet(&peer(addresses), b"payload", 0);
        for len in 0..packet.len() {
            let error = parse(&packet[..len]).unwrap_err();
            assert!(matches!(error, Malformed::Truncated | Malformed::Length), "{len}: {error:?}");
        }
    }
}

#[test]
fn every_malformation_has_its_name() {
    type Change = fn(&mut Vec<u8>);
    let v4: [(Change, Malformed); 9] = [
        (|p| p[12] = 0x86, Malformed::EtherType),
        (|p| p[13] = 0x06, Malformed::EtherType),
        (|p| p[14] = 0x46, Malformed::IpHeader),
        (|p| p[14] = 0x65, Malformed::IpHeader),
        (|p| p[20] |= 0x20, Malformed::Fragment),
        (|p| p[21] = 1, Malformed::Fragment),
        (|p| p[23] = 6, Malformed::Protocol),
        (|p| p[24] ^= 1, Malformed::IpChecksum),
        (|p| p[16..18].copy_from_slice(&[0, 19]), Malformed::Length),
    ];
    for (n, (change, expected)) in v4.into_iter().enumerate() {
        let mut packet = packet(&peer(V4), b"payload", 0);
        change(&mut packet);
        assert_eq!(parse(&packet).unwrap_err(), expected, "case {n}");
    }
    let v6: [(Change, Malformed); 5] = [
        (|p| p[14] = 0x45, Malformed::IpHeader),
        (|p| p[20] = 44, Malformed::Protocol),
        (|p| p[18] = 0xff, Malformed::Length),
        (|p| p[58..60].copy_from_slice(&[0, 7]), Malformed::Length),
        (|p| p[58..60].copy_from_slice(&[0xff, 0xff]), Malformed::Length),
    ];
    for (n, (change, expected)) in v6.into_iter().enumerate() {
        let mut packet = packet(&peer(V6), b"payload", 0);
        change(&mut packet);
        assert_eq!(parse(&packet).unwrap_err(), expected, "case {n}");
    }
}

#[test]
fn a_third_vlan_tag_is_not_understood() {
    let tag = Some(VlanTag { ethertype: ETHERTYPE_VLAN, id: 1 });
    let packet = packet(&Peer { vlans: [tag, tag], ..peer(V4) }, b"x", 0);
    let mut deeper = packet[..12].to_vec();
    deeper.extend_from_slice(&[0x81, 0, 0, 9]);
    deeper.extend_from_slice(&packet[12..]);
    assert_eq!(parse(&deeper).unwrap_err(), Malformed::EtherType);
}
