//! From a frame to a UDP datagram.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ops::Range;

use super::{
    ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, IPV4_LEN, IPV6_LEN, Mac,
    PROTOCOL_UDP, UDP_LEN, VLAN_LEN, VLAN_TAGS_MAX, fold, sum,
};

/// A UDP datagram in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Udp {
    /// Who sent it.
    pub source: SocketAddr,
    /// Where it was sent to.
    pub destination: SocketAddr,
    /// The TOS or traffic class octet; its two low bits are the ECN codepoint (RFC 3168 section 5).
    pub traffic_class: u8,
    /// Where the payload lies in the frame.
    pub payload: Range<usize>,
    /// The MAC address that it came from.
    pub source_mac: Mac,
}

/// Why a frame holds no datagram that can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// A header is cut off.
    Truncated,
    /// Neither IPv4 nor IPv6, or more VLAN tags than are understood.
    EtherType,
    /// The version or length of the IP header is wrong, or it has options or extension headers.
    IpHeader,
    /// The checksum of the IPv4 header is wrong.
    IpChecksum,
    /// A fragment.
    Fragment,
    /// Not UDP.
    Protocol,
    /// The lengths in the headers contradict each other or the frame.
    Length,
}

fn bytes<const N: usize>(frame: &[u8], at: usize) -> Result<&[u8; N], Malformed> {
    frame.get(at..).and_then(<[u8]>::first_chunk).ok_or(Malformed::Truncated)
}

fn be16(frame: &[u8], at: usize) -> Result<u16, Malformed> {
    bytes(frame, at).map(|two| u16::from_be_bytes(*two))
}

/// What the IP header says.
struct Ip {
    source: IpAddr,
    destination: IpAddr,
    traffic_class: u8,
    /// Where the UDP header begins, and where the packet ends.
    payload: Range<usize>,
}

/// Reads a frame. The UDP checksum is not verified: hardware does that where there is some, kernels on virtual links
/// leave it unfinished, and QUIC authenticates every packet.
#[inline]
pub fn parse(frame: &[u8]) -> Result<Udp, Malformed> {
    let source_mac = *bytes(frame, 6)?;
    let mut ethertype = be16(frame, ETHERNET_LEN - 2)?;
    let mut at = ETHERNET_LEN;
    for _ in 0..VLAN_TAGS_MAX {
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
            break;
        }
        ethertype = be16(frame, at + 2)?;
        at += VLAN_LEN;
    }
    let ip = match ethertype {
        ETHERTYPE_IPV4 => ipv4(frame, at)?,
        ETHERTYPE_IPV6 => ipv6(frame, at)?,
        _ => return Err(Malformed::EtherType),
    };
    let udp = ip.payload.start;
    let header: &[u8; UDP_LEN] = bytes(&frame[..ip.payload.end], udp)?;
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if len < UDP_LEN || udp + len > ip.payload.end {
        return Err(Malformed::Length);
    }
    Ok(Udp {
        source: SocketAddr::new(ip.source, u16::from_be_bytes([header[0], header[1]])),
        destination: SocketAddr::new(ip.destination, u16::from_be_bytes([header[2], header[3]])),
        traffic_class: ip.traffic_class,
        payload: udp + UDP_LEN..udp + len,
        source_mac,
    })
}

/// RFC 791 section 3.1.
#[inline]
fn ipv4(frame: &[u8], at: usize) -> Result<Ip, Malformed> {
    let header: &[u8; IPV4_LEN] = bytes(frame, at)?;
    if header[0] != 0x45 {
        return Err(Malformed::IpHeader);
    }
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if len < IPV4_LEN || at + len > frame.len() {
        return Err(Malformed::Length);
    }
    // More fragments, or not the first one; "don't fragment" is the bit above.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Err(Malformed::Fragment);
    }
    if header[9] != PROTOCOL_UDP {
        return Err(Malformed::Protocol);
    }
    if fold(sum(header)) != 0 {
        return Err(Malformed::IpChecksum);
    }
    let address = |at| bytes::<4>(header, at).map(|four| IpAddr::V4(Ipv4Addr::from(*four)));
    Ok(Ip {
        source: address(12)?,
        destination: address(16)?,
        traffic_class: header[1],
        payload: at + IPV4_LEN..at + len,
    })
}

/// RFC 8200 section 3.
#[inline]
fn ipv6(frame: &[u8], at: usize) -> Result<Ip, Malformed> {
    let header: &[u8; IPV6_LEN] = bytes(frame, at)?;
    if header[0] >> 4 != 6 {
        return Err(Malformed::IpHeader);
    }
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if at + IPV6_LEN + len > frame.len() {
        return Err(Malformed::Length);
    }
    if header[6] != PROTOCOL_UDP {
        return Err(Malformed::Protocol);
    }
    let address = |at| bytes::<16>(header, at).map(|sixteen| IpAddr::V6(Ipv6Addr::from(*sixteen)));
    Ok(Ip {
        source: address(8)?,
        destination: address(24)?,
        traffic_class: header[0] << 4 | header[1] >> 4,
        payload: at + IPV6_LEN..at + IPV6_LEN + len,
    })
}
