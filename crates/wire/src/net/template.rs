//! The headers of everything that goes to one peer, ready to be written in front of a payload.

use core::net::{IpAddr, SocketAddr};

use super::{
    ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, HEADERS_MAX, IPV4_LEN, IPV6_LEN, MAC_LEN, Mac, PROTOCOL_UDP,
    UDP_CHECKSUM_AT, UDP_LEN, VLAN_LEN, VLAN_TAGS_MAX, VlanTag, fold, sum,
};

/// From whom to whom, and by which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The own MAC address.
    pub source_mac: Mac,
    /// The MAC address of the next hop.
    pub next_hop_mac: Mac,
    /// Tags, the outer one first.
    pub vlans: [Option<VlanTag>; VLAN_TAGS_MAX],
    /// The own address and port.
    pub source: SocketAddr,
    /// The peer's address. Of the same family as `source`; its port is given with each packet.
    pub destination: IpAddr,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// The IPv6 flow label (RFC 6437), 20 bits; ignored for IPv4.
    pub flow_label: u32,
}

/// Headers with everything filled in but the destination port, lengths, checksums and the ECN codepoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    bytes: [u8; HEADERS_MAX],
    len: usize,
    is_ipv4: bool,
    /// Sum of the IPv4 header as it stands.
    ip_sum: u64,
    /// Sum of the pseudo header (RFC 768, RFC 8200 section 8.1) without the length.
    pseudo_sum: u64,
}

impl Template {
    /// Headers for a peer; `None` if the addresses are of different families.
    pub fn new(peer: &Peer) -> Option<Template> {
        let mut bytes = [0; HEADERS_MAX];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(&peer.next_hop_mac);
        put(&peer.source_mac);
        for tag in peer.vlans.iter().flatten() {
            put(&tag.ethertype.to_be_bytes());
            put(&(tag.id & 0x0fff).to_be_bytes());
        }
        let mut pseudo_sum = sum(&[0, PROTOCOL_UDP]);
        let is_ipv4 = match (peer.source.ip(), peer.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                put(&ETHERTYPE_IPV4.to_be_bytes());
                // Version and header length, TOS, length, ID, "don't fragment" and offset. The ID of what is never cut
                // up means nothing (RFC 6864 section 4.1).
                put(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, peer.hop_limit, PROTOCOL_UDP, 0, 0]);
                put(&source.octets());
                put(&destination.octets());
                pseudo_sum += sum(&source.octets()) + sum(&destination.octets());
                true
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                put(&ETHERTYPE_IPV6.to_be_bytes());
                put(&(6 << 28 | peer.flow_label & 0xf_ffff).to_be_bytes());
                put(&[0, 0, PROTOCOL_UDP, peer.hop_limit]);
                put(&source.octets());
                put(&destination.octets());
                pseudo_sum += sum(&source.octets()) + sum(&destination.octets());
                false
            }
            _ => return None,
        };
        let port = peer.source.port().to_be_bytes();
        put(&port);
        put(&[0; 6]);
        let ip_at = at - UDP_LEN - if is_ipv4 { IPV4_LEN } else { IPV6_LEN };
        let ip_sum = sum(&bytes[ip_at..ip_at + IPV4_LEN]);
        Some(Template { bytes, len: at, is_ipv4, ip_sum, pseudo_sum })
    }

    /// Bytes of the headers.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no headers: never.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Bytes in front of the IP header.
    pub fn link_len(&self) -> usize {
        self.len - UDP_LEN - if self.is_ipv4 { IPV4_LEN } else { IPV6_LEN }
    }

    /// The same headers to another next hop.
    pub fn set_next_hop(&mut self, mac: Mac) {
        self.bytes[..MAC_LEN].copy_from_slice(&mac);
    }

    /// Writes the headers to the first [`len`](Self::len) bytes of `packet`, whose rest is the payload, with both
    /// checksums computed, to that port. `ecn` are the two bits of the ECN codepoint.
    ///
    /// # Panics
    /// If `packet` is shorter than the headers, or longer than an IP packet can be.
    #[inline]
    pub fn write(&self, packet: &mut [u8], port: u16, ecn: u8) {
        let pseudo = self.write_headers(packet, port, ecn);
        // The field itself is 0 so far.
        let checksum = match fold(pseudo + sum(&packet[self.udp_at()..])) {
            // 0 means that there is no checksum (RFC 768).
            0 => u16::MAX,
            checksum => checksum,
        };
        self.put_checksum(packet, checksum);
    }

    /// As [`write`](Self::write), but the UDP checksum is left to be finished by whoever sends the packet: its field holds the
    /// sum of the pseudo header, folded and not complemented, and what is from [`udp_at`](Self::udp_at) on is to be added.
    ///
    /// # Panics
    /// As [`write`](Self::write).
    #[inline]
    pub fn write_unfinished(&self, packet: &mut [u8], port: u16, ecn: u8) {
        let pseudo = self.write_headers(packet, port, ecn);
        self.put_checksum(packet, !fold(pseudo));
    }

    /// Where the UDP header begins.
    #[inline]
    pub fn udp_at(&self) -> usize {
        self.len - UDP_LEN
    }

    /// Writes everything but the UDP checksum; the sum of the pseudo header.
    #[inline]
    fn write_headers(&self, packet: &mut [u8], port: u16, ecn: u8) -> u64 {
        let udp = self.udp_at();
        let (header, payload) = packet.split_at_mut(self.len);
        let udp_len = u16::try_from(UDP_LEN + payload.len()).expect("a packet is shorter than 64 KiB");
        header.copy_from_slice(&self.bytes[..self.len]);
        let ecn = ecn & 0b11;
        if self.is_ipv4 {
            let ip = &mut header[udp - IPV4_LEN..udp];
            let total = udp_len.checked_add(IPV4_LEN as u16).expect("a packet is shorter than 64 KiB").to_be_bytes();
            ip[1] = ecn;
            ip[2..4].copy_from_slice(&total);
            // The octet before the codepoint is in the template's sum already.
            let ip_sum = fold(self.ip_sum + sum(&[0, ecn]) + sum(&total));
            ip[10..12].copy_from_slice(&ip_sum.to_ne_bytes());
        } else {
            let ip = &mut header[udp - IPV6_LEN..udp];
            ip[1] |= ecn << 4;
            ip[4..6].copy_from_slice(&udp_len.to_be_bytes());
        }
        let len = udp_len.to_be_bytes();
        header[udp + 2..udp + 4].copy_from_slice(&port.to_be_bytes());
        header[udp + 4..udp + 6].copy_from_slice(&len);
        self.pseudo_sum + sum(&len)
    }

    #[inline]
    fn put_checksum(&self, packet: &mut [u8], checksum: u16) {
        let at = self.udp_at() + UDP_CHECKSUM_AT;
        packet[at..at + 2].copy_from_slice(&checksum.to_ne_bytes());
    }
}

const _: () = assert!(HEADERS_MAX == ETHERNET_LEN + VLAN_TAGS_MAX * VLAN_LEN + IPV6_LEN + UDP_LEN);
