//! Packet headers (RFC 8999, RFC 9000 section 17, RFC 9369 section 3.2).

mod encode;
mod parse;

use core::ops::Range;

pub use encode::{
    LongHeader, LongLayout, ShortFlags, encode_retry, encode_short, encode_version_negotiation, retry_pseudo_packet,
};
pub use parse::{decode_pn, invariants, negotiated_versions, parse, peek_dcid, short_dcid};

use crate::{ConnectionId, Version};

/// Set on long headers.
pub const LONG_FORM: u8 = 0x80;
/// The fixed bit.
pub const FIXED_BIT: u8 = 0x40;
/// Length of the sample that header protection takes of a packet's ciphertext (RFC 9001 section 5.4.2).
pub const SAMPLE_LEN: usize = 16;
/// Length of the tag at the end of a Retry packet (RFC 9001 section 5.8).
pub const RETRY_TAG_LEN: usize = 16;

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
    /// The fixed bit: unless this endpoint announced `grease_quic_bit` (RFC 9287), packets without it are dropped, save
    /// Version Negotiation (RFC 9000 section 17.2.1).
    pub fixed_bit: bool,
    /// Destination connection ID.
    pub dcid: ConnectionId,
    /// Source connection ID; empty for short headers.
    pub scid: ConnectionId,
    /// Where the token of an Initial or Retry packet is; empty for others.
    pub token: Range<usize>,
    /// Where the packet number begins; for Version Negotiation, the list of versions. Of no meaning for Retry.
    pub pn_offset: usize,
    /// Length of this packet; others may follow it in the datagram.
    pub packet_len: usize,
}

/// Why a header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// It is cut off, or a length in it exceeds the datagram, or a list of versions is not one.
    Truncated,
    /// A connection ID is longer than 20 bytes. Where the version is not known that is allowed: [`invariants`] reads it.
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

impl core::fmt::Display for HeaderError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Truncated => f.write_str("a packet is cut off"),
            Self::CidTooLong => f.write_str("a connection ID is longer than 20 bytes"),
            Self::UnsupportedVersion { version, .. } => write!(f, "version {:#x} is not known", version.0),
        }
    }
}

impl core::error::Error for HeaderError {}

/// What long headers of all versions have in common (RFC 8999 section 5.1). A server needs it to answer a version that
/// it does not know, whose connection IDs may have up to 255 bytes (RFC 9000 section 17.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invariants<'a> {
    /// The version.
    pub version: Version,
    /// Destination connection ID.
    pub dcid: &'a [u8],
    /// Source connection ID.
    pub scid: &'a [u8],
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
