//! From bytes to headers.

use super::{
    FIXED_BIT, HeaderError, Invariants, LONG_FORM, PacketKind, ProtectedHeader, RETRY_TAG_LEN, SAMPLE_LEN, long_type,
};
use crate::{ConnectionId, Reader, Truncated, Version};

impl From<Truncated> for HeaderError {
    #[inline]
    fn from(_: Truncated) -> Self {
        Self::Truncated
    }
}

/// The destination ID, `len` bytes, of a packet with a short header; `None` for long headers and what is too short.
#[inline]
pub fn short_dcid(datagram: &[u8], len: usize) -> Option<&[u8]> {
    let first = *datagram.first()?;
    if first & LONG_FORM != 0 {
        return None;
    }
    datagram.get(1..1 + len)
}

/// The destination ID of any packet; that of a short header has `short_len` bytes.
#[inline]
pub fn peek_dcid(datagram: &[u8], short_len: usize) -> Option<&[u8]> {
    if *datagram.first()? & LONG_FORM == 0 {
        return short_dcid(datagram, short_len);
    }
    let len = usize::from(*datagram.get(5)?);
    datagram.get(6..6 + len)
}

/// What a long header says in any version, known or not; `None` for short headers and what is too short.
pub fn invariants(datagram: &[u8]) -> Option<Invariants<'_>> {
    let mut r = Reader::new(datagram);
    if r.u8().ok()? & LONG_FORM == 0 {
        return None;
    }
    let version = Version(r.u32().ok()?);
    let len = usize::from(r.u8().ok()?);
    let dcid = r.bytes(len).ok()?;
    let len = usize::from(r.u8().ok()?);
    Some(Invariants { version, dcid, scid: r.bytes(len).ok()? })
}

/// Parses the first packet of a datagram as far as it can be without keys. Short headers have a destination ID of
/// `short_dcid_len` bytes. The fixed bit is told, not judged, since it may be greased (RFC 9287).
///
/// # Errors
/// See [`HeaderError`]. None of this is authenticated, so the packet is dropped and the connection lives on.
#[inline]
pub fn parse(datagram: &[u8], short_dcid_len: usize) -> Result<ProtectedHeader, HeaderError> {
    if let Some(dcid) = short_dcid(datagram, short_dcid_len) {
        return Ok(ProtectedHeader {
            kind: PacketKind::OneRtt,
            version: Version::NEGOTIATION,
            fixed_bit: datagram.first().is_some_and(|first| first & FIXED_BIT != 0),
            dcid: ConnectionId::new(dcid).ok_or(HeaderError::CidTooLong)?,
            scid: ConnectionId::EMPTY,
            token: 0..0,
            pn_offset: 1 + short_dcid_len,
            packet_len: datagram.len(),
        });
    }
    parse_long(datagram)
}

fn parse_long(datagram: &[u8]) -> Result<ProtectedHeader, HeaderError> {
    let mut r = Reader::new(datagram);
    let first = r.u8()?;
    if first & LONG_FORM == 0 {
        return Err(HeaderError::Truncated);
    }
    let version = Version(r.u32()?);
    let dcid = cid(&mut r)?;
    let scid = cid(&mut r)?;
    let mut header = ProtectedHeader {
        kind: PacketKind::VersionNegotiation,
        version,
        fixed_bit: first & FIXED_BIT != 0,
        dcid,
        scid,
        token: 0..0,
        pn_offset: r.position(),
        packet_len: datagram.len(),
    };
    if version == Version::NEGOTIATION {
        if r.is_empty() || !r.remaining().is_multiple_of(4) {
            return Err(HeaderError::Truncated);
        }
        return Ok(header);
    }
    if !version.is_supported() {
        return Err(HeaderError::UnsupportedVersion { version, dcid, scid });
    }
    let bits = (first >> 4) & 3;
    let kinds = [PacketKind::Initial, PacketKind::ZeroRtt, PacketKind::Handshake, PacketKind::Retry];
    header.kind = kinds.into_iter().find(|k| long_type(*k, version) == bits).unwrap_or(PacketKind::Retry);
    match header.kind {
        PacketKind::Retry => {
            // Everything up to the integrity tag is the token.
            let end = datagram
                .len()
                .checked_sub(RETRY_TAG_LEN)
                .filter(|end| *end >= r.position())
                .ok_or(HeaderError::Truncated)?;
            header.token = r.position()..end;
            return Ok(header);
        }
        PacketKind::Initial => {
            let len = usize::try_from(r.varint()?).map_err(|_| HeaderError::Truncated)?;
            let start = r.position();
            r.bytes(len)?;
            header.token = start..start + len;
        }
        _ => {}
    }
    let length = usize::try_from(r.varint()?).map_err(|_| HeaderError::Truncated)?;
    if length > r.remaining() {
        return Err(HeaderError::Truncated);
    }
    header.pn_offset = r.position();
    header.packet_len = r.position() + length;
    Ok(header)
}

fn cid(r: &mut Reader<'_>) -> Result<ConnectionId, HeaderError> {
    let len = usize::from(r.u8()?);
    ConnectionId::new(r.bytes(len)?).ok_or(HeaderError::CidTooLong)
}

impl ProtectedHeader {
    /// The sample that header protection is computed from (RFC 9001 section 5.4.2): it begins four bytes behind the start
    /// of the packet number, however long that is. `None` when the packet is too short for it and must be dropped; with a
    /// short header it can still be a stateless reset.
    #[inline]
    pub fn sample<'a>(&self, datagram: &'a [u8]) -> Option<&'a [u8; SAMPLE_LEN]> {
        datagram.get(self.pn_offset + 4..self.packet_len)?.first_chunk()
    }
}

/// The versions that a Version Negotiation packet lists.
pub fn negotiated_versions<'a>(datagram: &'a [u8], header: &ProtectedHeader) -> impl Iterator<Item = Version> + 'a {
    let list = datagram.get(header.pn_offset..).unwrap_or_default();
    list.chunks_exact(4).filter_map(|c| c.first_chunk().map(|b| Version(u32::from_be_bytes(*b))))
}

/// The truncated packet number in the first `len` bytes, 1 to 4; missing bytes count as absent.
#[inline]
pub fn decode_pn(bytes: &[u8], len: usize) -> u64 {
    bytes.iter().take(len).fold(0, |pn, byte| pn << 8 | u64::from(*byte))
}
