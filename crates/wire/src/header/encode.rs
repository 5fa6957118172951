//! From headers to bytes.

use alloc::vec::Vec;

use super::{FIXED_BIT, LONG_FORM, PacketKind, long_type};
use crate::{ConnectionId, Version, Writer, varint};

/// What a long header says.
#[derive(Clone, Copy, Debug)]
pub struct LongHeader<'a> {
    /// Initial, 0-RTT or Handshake.
    pub kind: PacketKind,
    /// The version.
    pub version: Version,
    /// Destination connection ID.
    pub dcid: ConnectionId,
    /// Source connection ID.
    pub scid: ConnectionId,
    /// Token of an Initial.
    pub token: &'a [u8],
}

/// Where the parts of a long header that change later are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongLayout {
    /// The length field, two bytes.
    pub length_at: usize,
    /// The packet number.
    pub pn_at: usize,
}

impl LongHeader<'_> {
    /// Bytes that the header takes with a packet number of `pn_len` bytes.
    pub fn encoded_len(&self, pn_len: usize) -> usize {
        let token = match self.kind {
            PacketKind::Initial => varint::len(self.token.len() as u64) + self.token.len(),
            _ => 0,
        };
        7 + self.dcid.len() + self.scid.len() + token + 2 + pn_len
    }

    /// Writes the header with a length field that is patched once the length is known. `pn_len` is 1 to 4, and the kind one
    /// of those that have a length field: Initial, 0-RTT and Handshake.
    pub fn encode(&self, w: &mut Writer<'_>, pn: u64, pn_len: usize) -> LongLayout {
        debug_assert!(matches!(self.kind, PacketKind::Initial | PacketKind::ZeroRtt | PacketKind::Handshake));
        debug_assert!((1..=4).contains(&pn_len), "a packet number takes 1 to 4 bytes");
        w.u8(LONG_FORM | FIXED_BIT | long_type(self.kind, self.version) << 4 | (pn_len - 1) as u8);
        w.u32(self.version.0);
        encode_cid(w, &self.dcid);
        encode_cid(w, &self.scid);
        if self.kind == PacketKind::Initial {
            w.varint(self.token.len() as u64);
            w.slice(self.token);
        }
        let length_at = w.position();
        w.varint2(0);
        let pn_at = w.position();
        encode_pn(w, pn, pn_len);
        LongLayout { length_at, pn_at }
    }
}

/// Bits of a short header's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortFlags {
    /// The latency spin bit (RFC 9000 section 17.4).
    pub spin: bool,
    /// The key phase.
    pub key_phase: bool,
    /// The fixed bit, which may be cleared where the peer agreed (RFC 9287).
    pub fixed_bit: bool,
}

/// Writes a short header and returns where the packet number, 1 to 4 bytes, begins.
#[inline]
pub fn encode_short(w: &mut Writer<'_>, dcid: &ConnectionId, flags: ShortFlags, pn: u64, pn_len: usize) -> usize {
    debug_assert!((1..=4).contains(&pn_len), "a packet number takes 1 to 4 bytes");
    let mut first = (pn_len - 1) as u8;
    if flags.fixed_bit {
        first |= FIXED_BIT;
    }
    if flags.spin {
        first |= 0x20;
    }
    if flags.key_phase {
        first |= 0x04;
    }
    w.u8(first);
    w.slice(dcid);
    let pn_at = w.position();
    encode_pn(w, pn, pn_len);
    pn_at
}

#[inline]
fn encode_pn(w: &mut Writer<'_>, pn: u64, len: usize) {
    match len {
        1 => w.u8(pn as u8),
        2 => w.u16(pn as u16),
        3 => w.slice(&(pn as u32).to_be_bytes()[1..]),
        _ => w.u32(pn as u32),
    }
}

fn encode_cid(w: &mut Writer<'_>, cid: &[u8]) {
    w.u8(cid.len() as u8);
    w.slice(cid);
}

/// Writes a Version Negotiation packet. `dcid` is the source ID of the packet it answers and `scid` its destination ID;
/// `random` fills the bits without meaning.
pub fn encode_version_negotiation(
    w: &mut Writer<'_>,
    random: u8,
    dcid: &[u8],
    scid: &[u8],
    versions: impl Iterator<Item = Version>,
) {
    w.u8(LONG_FORM | FIXED_BIT | random);
    w.u32(0);
    encode_cid(w, dcid);
    encode_cid(w, scid);
    for version in versions {
        w.u32(version.0);
    }
}

/// Writes a Retry packet without its integrity tag. `dcid` is the client's ID, `scid` the one it shall use from now on.
pub fn encode_retry(w: &mut Writer<'_>, version: Version, dcid: &ConnectionId, scid: &ConnectionId, token: &[u8]) {
    // The low four bits have no meaning; set, as in the examples of RFC 9001 and RFC 9369, appendix A.4.
    w.u8(LONG_FORM | FIXED_BIT | long_type(PacketKind::Retry, version) << 4 | 0x0f);
    w.u32(version.0);
    encode_cid(w, dcid);
    encode_cid(w, scid);
    w.slice(token);
}

/// What the integrity tag of a Retry packet is computed over (RFC 9001 section 5.8); `packet` is without its tag.
pub fn retry_pseudo_packet(original_dcid: &ConnectionId, packet: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + original_dcid.len() + packet.len());
    out.push(original_dcid.len() as u8);
    out.extend_from_slice(original_dcid);
    out.extend_from_slice(packet);
    out
}
