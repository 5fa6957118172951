//! From bytes to headers.

use super::{HeaderError, LONG_FORM, PacketKind, ProtectedHeader, long_type};
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

/// Parses the first packet of a datagram as far as it can be without keys. Short headers have a destination ID of
/// `short_dcid_len` bytes. The fixed bit is not looked at, since it may be greased (RFC 9287).
#[inline]
pub fn parse(datagram: &[u8], short_dcid_len: usize) -> Result<ProtectedHeader, HeaderError> {
    if let Some(dcid) = short_dcid(datagram, short_dcid_len) {
        return Ok(ProtectedHeader {
            kind: PacketKind::OneRtt,
            version: Version::NEGOTIATION,
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
        dcid,
        scid,
        token: 0..0,
        pn_offset: r.position(),
        packet_len: datagram.len(),
    };
    if version == Version::NEGOTIATION {
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
            // Everything up to the 16 bytes of the integrity tag is the token.
            let end =
                datagram.len().checked_sub(16).filter(|end| *end >= r.position()).ok_or(HeaderError::Truncated)?;
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
