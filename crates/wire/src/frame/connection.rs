//! Frames of the connection as a whole: CRYPTO, tokens, connection IDs, path validation, and small extensions.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{FrameError, counted, kind};
use crate::{ConnectionId, Reader, ResetToken, Writer};

/// Handshake bytes (RFC 9000 section 19.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crypto<'a> {
    /// Where in the stream of this level they belong.
    pub offset: u64,
    /// The bytes.
    pub data: &'a [u8],
}

pub(super) fn decode_crypto<'a>(r: &mut Reader<'a>) -> Result<Crypto<'a>, FrameError> {
    let offset = r.varint()?;
    let data = counted(r)?;
    if offset + data.len() as u64 > crate::varint::MAX {
        return Err(FrameError::Invalid("CRYPTO data beyond offset 2^62 - 1"));
    }
    Ok(Crypto { offset, data })
}

/// Writes a CRYPTO frame; `data` is shorter than 2^14 bytes.
pub fn encode_crypto(w: &mut Writer<'_>, offset: u64, data: &[u8]) {
    w.u8(kind::CRYPTO as u8);
    w.varint(offset);
    w.varint2(data.len() as u64);
    w.slice(data);
}

/// A connection ID that the peer issues (RFC 9000 section 19.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewConnectionId {
    /// Its number.
    pub sequence: u64,
    /// IDs with smaller numbers are to be retired.
    pub retire_prior_to: u64,
    /// The ID, 1 to 20 bytes.
    pub cid: ConnectionId,
    /// Its stateless reset token.
    pub reset_token: ResetToken,
}

pub(super) fn decode_new_connection_id(r: &mut Reader<'_>) -> Result<NewConnectionId, FrameError> {
    let sequence = r.varint()?;
    let retire_prior_to = r.varint()?;
    let len = usize::from(r.u8()?);
    if !(1..=ConnectionId::MAX_LEN).contains(&len) {
        return Err(FrameError::Invalid("a connection ID has 1 to 20 bytes"));
    }
    if retire_prior_to > sequence {
        return Err(FrameError::Invalid("NEW_CONNECTION_ID retires itself"));
    }
    let cid = ConnectionId::new(r.bytes(len)?).ok_or(FrameError::Truncated)?;
    Ok(NewConnectionId { sequence, retire_prior_to, cid, reset_token: ResetToken(r.array()?) })
}

impl NewConnectionId {
    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u8(kind::NEW_CONNECTION_ID as u8);
        w.varint(self.sequence);
        w.varint(self.retire_prior_to);
        w.u8(self.cid.len() as u8);
        w.slice(&self.cid);
        w.slice(&self.reset_token.0);
    }
}

/// Writes a RETIRE_CONNECTION_ID frame.
pub fn encode_retire_connection_id(w: &mut Writer<'_>, sequence: u64) {
    w.u8(kind::RETIRE_CONNECTION_ID as u8);
    w.varint(sequence);
}

/// Writes a PING frame.
pub fn encode_ping(w: &mut Writer<'_>) {
    w.u8(kind::PING as u8);
}

/// Writes a HANDSHAKE_DONE frame.
pub fn encode_handshake_done(w: &mut Writer<'_>) {
    w.u8(kind::HANDSHAKE_DONE as u8);
}

/// A token; an empty one is an error (section 19.7).
pub(super) fn decode_new_token<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], FrameError> {
    let token = counted(r)?;
    if token.is_empty() { Err(FrameError::Invalid("an empty token in NEW_TOKEN")) } else { Ok(token) }
}

/// Writes a NEW_TOKEN frame; `token` is not empty.
pub fn encode_new_token(w: &mut Writer<'_>, token: &[u8]) {
    w.u8(kind::NEW_TOKEN as u8);
    w.varint(token.len() as u64);
    w.slice(token);
}

/// Writes a PATH_CHALLENGE frame.
pub fn encode_path_challenge(w: &mut Writer<'_>, data: [u8; 8]) {
    w.u8(kind::PATH_CHALLENGE as u8);
    w.slice(&data);
}

/// Writes a PATH_RESPONSE frame.
pub fn encode_path_response(w: &mut Writer<'_>, data: [u8; 8]) {
    w.u8(kind::PATH_RESPONSE as u8);
    w.slice(&data);
}

/// How often the peer shall acknowledge (draft-ietf-quic-ack-frequency section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckFrequency {
    /// Number of the frame; older ones are ignored.
    pub sequence: u64,
    /// Ack-eliciting packets that may go unacknowledged.
    pub threshold: u64,
    /// Longest delay in microseconds.
    pub max_ack_delay: u64,
    /// Reordering in packets that is reported at once; 0 for none.
    pub reordering_threshold: u64,
}

pub(super) fn decode_ack_frequency(r: &mut Reader<'_>) -> Result<AckFrequency, FrameError> {
    Ok(AckFrequency {
        sequence: r.varint()?,
        threshold: r.varint()?,
        max_ack_delay: r.varint()?,
        reordering_threshold: r.varint()?,
    })
}

impl AckFrequency {
    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.varint(kind::ACK_FREQUENCY);
        w.varint(self.sequence);
        w.varint(self.threshold);
        w.varint(self.max_ack_delay);
        w.varint(self.reordering_threshold);
    }
}

/// Writes an IMMEDIATE_ACK frame.
pub fn encode_immediate_ack(w: &mut Writer<'_>) {
    w.u8(kind::IMMEDIATE_ACK as u8);
}

/// The address that the peer sees this endpoint at (draft-ietf-quic-address-discovery).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedAddress {
    /// Number of the observation; older ones are ignored.
    pub sequence: u64,
    /// The address.
    pub address: SocketAddr,
}

pub(super) fn decode_observed(r: &mut Reader<'_>, v6: bool) -> Result<ObservedAddress, FrameError> {
    let sequence = r.varint()?;
    let ip =
        if v6 { IpAddr::V6(Ipv6Addr::from(r.array::<16>()?)) } else { IpAddr::V4(Ipv4Addr::from(r.array::<4>()?)) };
    Ok(ObservedAddress { sequence, address: SocketAddr::new(ip, r.u16()?) })
}

impl ObservedAddress {
    /// The frame type, which tells the address family.
    pub const fn frame_type(&self) -> u64 {
        if self.address.is_ipv6() { kind::OBSERVED_ADDRESS_V6 } else { kind::OBSERVED_ADDRESS_V4 }
    }

    /// Writes the frame.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.varint(self.frame_type());
        w.varint(self.sequence);
        match self.address.ip() {
            IpAddr::V4(ip) => w.slice(&ip.octets()),
            IpAddr::V6(ip) => w.slice(&ip.octets()),
        }
        w.u16(self.address.port());
    }
}
