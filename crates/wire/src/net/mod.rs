//! Ethernet, VLAN, IPv4, IPv6 and UDP headers, for packet I/O that does without the kernel's stack.
//!
//! [`parse`] reads a frame as it came from the wire and says why if it is not a datagram that can be taken;
//! [`Template`] holds the headers of everything that goes to one peer and writes them in front of a payload.
//! What is refused on the way in (fragments, IPv4 options, IPv6 extension headers) is left to the kernel.

mod checksum;
mod parse;
mod template;

pub use checksum::{fold, sum};
pub use parse::{Malformed, Udp, parse};
pub use template::{Peer, Template};

/// Bytes of a MAC address.
pub const MAC_LEN: usize = 6;
/// A MAC address (IEEE 802).
pub type Mac = [u8; MAC_LEN];

/// Bytes of an Ethernet header without tags.
pub const ETHERNET_LEN: usize = 14;
/// Bytes of a VLAN tag (IEEE 802.1Q).
pub const VLAN_LEN: usize = 4;
/// VLAN tags that are understood: a customer's inside a provider's (IEEE 802.1ad).
pub const VLAN_TAGS_MAX: usize = 2;
/// Bytes of an IPv4 header without options (RFC 791 section 3.1).
pub const IPV4_LEN: usize = 20;
/// Bytes of an IPv6 header (RFC 8200 section 3).
pub const IPV6_LEN: usize = 40;
/// Bytes of a UDP header (RFC 768).
pub const UDP_LEN: usize = 8;
/// Where a UDP header has its checksum.
pub const UDP_CHECKSUM_AT: usize = 6;
/// The longest headers that are read or written.
pub const HEADERS_MAX: usize = ETHERNET_LEN + VLAN_TAGS_MAX * VLAN_LEN + IPV6_LEN + UDP_LEN;

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of a VLAN tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// EtherType of a provider's VLAN tag.
pub const ETHERTYPE_QINQ: u16 = 0x88a8;
/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;

/// A VLAN tag: which kind (the EtherType that announces it) and which network, 0 to 4,095.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VlanTag {
    /// [`ETHERTYPE_VLAN`] or [`ETHERTYPE_QINQ`].
    pub ethertype: u16,
    /// The VLAN identifier; the priority bits are sent as 0.
    pub id: u16,
}
