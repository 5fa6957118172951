//! Packet headers (RFC 8999, RFC 9000 section 17, RFC 9369 section 3.2).

mod encode;
mod parse;

use core::ops::Range;

pub use encode::{
    LongHeader, LongLayout, ShortFlags, encode_retry, encode_short, encode_version_negotiation, retry_pseudo_packet,
};
pub use parse::{decode_pn, negotiated_versions, parse, peek_dcid, short_dcid};

use crate::{ConnectionId, Version};

/// Set on long headers.
pub const LONG_FORM: u8 = 0x80;
/// The fixed bit.
pub const FIXED_BIT: u8 = 0x40;

/// Kinds of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// Carries the first CRYPTO data.
    Initial,
    /// Carries data before the handshake is complete.
    ZeroRtt,
    /// Carries the rest of the handshake.
    Handshake,
    /// Asks the client to prove its address.
    Retry,
    /// Lists the versions that a server speaks.
    VersionNegotiation,
    /// Carries everything else, under a short header.
    OneRtt,
}

/// A header before its protection is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedHeader {
    /// What kind of packet it is.
    pub kind: PacketKind,
    /// The version; [`Version::NEGOTIATION`] for short headers and version negotiation.
    pub version: Version,
    /// Destination connection ID.
    pub dcid: ConnectionId,
    /// Source connection ID; empty for short headers.
    pub scid: ConnectionId,
    /// Where the token of an Initial or Retry packet is.
    pub token: Range<usize>,
    /// Where the packet number begins.
    pub pn_offset: usize,
    /// Length of this packet; others may follow it in the datagram.
    pub packet_len: usize,
}

/// Why a header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// It is cut off, or a length in it exceeds the datagram.
    Truncated,
    /// A connection ID is longer than 20 bytes.
    CidTooLong,
    /// The version is not known; what the invariants tell (RFC 8999 section 5.1) is there.
    UnsupportedVersion {
        /// The version.
        version: Version,
        /// Destination connection ID.
        dcid: ConnectionId,
        /// Source connection ID.
        scid: ConnectionId,
    },
}

/// Long packet type bits of a kind in a version (RFC 9000 section 17.2, RFC 9369 section 3.2).
pub(crate) const fn long_type(kind: PacketKind, version: Version) -> u8 {
    let v1 = match kind {
        PacketKind::Initial => 0,
        PacketKind::ZeroRtt => 1,
        PacketKind::Handshake => 2,
        _ => 3,
    };
    if version.0 == Version::V2.0 { (v1 + 1) & 3 } else { v1 }
}
