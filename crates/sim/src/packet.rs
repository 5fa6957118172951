//! What travels: one UDP datagram with its addresses and its ECN codepoint.

use std::net::SocketAddr;

/// The ECN field of the IP header (RFC 3168, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Codepoint {
    /// Not ECN-capable.
    #[default]
    NotEct = 0b00,
    /// ECN-capable, codepoint 1 (L4S).
    Ect1 = 0b01,
    /// ECN-capable, codepoint 0.
    Ect0 = 0b10,
    /// Congestion was experienced.
    Ce = 0b11,
}

impl Codepoint {
    /// Whether a queue may mark this packet instead of dropping it.
    pub fn is_capable(self) -> bool {
        self != Self::NotEct
    }
}

/// One datagram under way.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Where it says that it comes from.
    pub src: SocketAddr,
    /// Where it goes.
    pub dst: SocketAddr,
    /// Its ECN codepoint.
    pub ecn: Codepoint,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

impl Packet {
    /// Bytes that the packet takes on a link: payload, UDP header and IP header.
    pub fn wire_len(&self) -> usize {
        let ip = if self.dst.is_ipv4() { 20 } else { 40 };
        self.payload.len() + 8 + ip
    }
}
