//! Bytes to transport parameters, with every rule of RFC 9000 sections 7.4 and 18.2.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use super::{PreferredAddress, TransportParameterError as Error, TransportParameters, VersionInformation, id};
use crate::{ConnectionId, Reader, ResetToken, Side, Truncated, Version};

/// More parameters than this are refused: each is kept, and looked through for every other, to find duplicates. There are
/// 23 that this crate knows.
const PARAMETERS_MAX: usize = 64;

impl From<Truncated> for Error {
    fn from(_: Truncated) -> Self {
        Self::Malformed
    }
}

impl TransportParameters {
    /// Reads what `from` sent.
    ///
    /// # Errors
    /// Malformed bytes, duplicates, values out of range, and from a client what only servers may send. Unknown parameters are
    /// ignored (section 7.4.2).
    pub fn decode(bytes: &[u8], from: Side) -> Result<Self, Error> {
        let mut out = Self::default();
        let mut seen = [0; PARAMETERS_MAX];
        let mut seen_len = 0;
        let mut r = Reader::new(bytes);
        while !r.is_empty() {
            let key = r.varint()?;
            let len = usize::try_from(r.varint()?).map_err(|_| Error::Malformed)?;
            let value = r.bytes(len)?;
            if seen.iter().take(seen_len).any(|earlier| *earlier == key) {
                return Err(Error::Duplicate(key));
            }
            *seen.get_mut(seen_len).ok_or(Error::Malformed)? = key;
            seen_len += 1;
            let server_only =
                matches!(key, id::ORIGINAL_DCID | id::RESET_TOKEN | id::PREFERRED_ADDRESS | id::RETRY_SCID);
            if server_only && from == Side::Client {
                return Err(Error::ServerOnly(key));
            }
            let mut v = Reader::new(value);
            out.take(key, &mut v, from)?;
        }
        out.check_together()?;
        Ok(out)
    }

    /// The rules that no parameter breaks by itself.
    fn check_together(&self) -> Result<(), Error> {
        // draft-ietf-quic-ack-frequency section 3; one is in microseconds, the other in milliseconds.
        if self.min_ack_delay.is_some_and(|us| us > self.max_ack_delay * 1000) {
            return Err(Error::OutOfRange(id::MIN_ACK_DELAY));
        }
        // RFC 9000 section 18.2: who is reached without connection IDs has none for another address.
        if self.preferred_address.is_some() && self.initial_source_connection_id.is_some_and(|cid| cid.is_empty()) {
            return Err(Error::OutOfRange(id::PREFERRED_ADDRESS));
        }
        Ok(())
    }

    fn take(&mut self, key: u64, v: &mut Reader<'_>, from: Side) -> Result<(), Error> {
        match key {
            id::MAX_IDLE_TIMEOUT => self.max_idle_timeout = v.varint()?,
            id::MAX_UDP_PAYLOAD => self.max_udp_payload_size = ranged(v, key, 1200, u64::MAX)?,
            id::MAX_DATA => self.initial_max_data = v.varint()?,
            id::MAX_STREAM_DATA_BIDI_LOCAL => self.initial_max_stream_data_bidi_local = v.varint()?,
            id::MAX_STREAM_DATA_BIDI_REMOTE => self.initial_max_stream_data_bidi_remote = v.varint()?,
            id::MAX_STREAM_DATA_UNI => self.initial_max_stream_data_uni = v.varint()?,
            id::MAX_STREAMS_BIDI => self.initial_max_streams_bidi = ranged(v, key, 0, 1 << 60)?,
            id::MAX_STREAMS_UNI => self.initial_max_streams_uni = ranged(v, key, 0, 1 << 60)?,
            id::ACK_DELAY_EXPONENT => self.ack_delay_exponent = ranged(v, key, 0, 20)?,
            id::MAX_ACK_DELAY => self.max_ack_delay = ranged(v, key, 0, (1 << 14) - 1)?,
            id::ACTIVE_CID_LIMIT => self.active_connection_id_limit = ranged(v, key, 2, u64::MAX)?,
            id::DISABLE_MIGRATION => self.disable_active_migration = true,
            id::GREASE_QUIC_BIT => self.grease_quic_bit = true,
            id::RESET_STREAM_AT => self.reset_stream_at = true,
            id::MAX_DATAGRAM => self.max_datagram_frame_size = Some(v.varint()?),
            id::MIN_ACK_DELAY => self.min_ack_delay = Some(v.varint()?),
            id::OBSERVED_ADDRESS => self.observed_address = Some(ranged(v, key, 0, 2)?),
            id::ORIGINAL_DCID => self.original_destination_connection_id = Some(cid(v)?),
            id::INITIAL_SCID => self.initial_source_connection_id = Some(cid(v)?),
            id::RETRY_SCID => self.retry_source_connection_id = Some(cid(v)?),
            id::RESET_TOKEN => self.stateless_reset_token = Some(ResetToken(v.array()?)),
            id::PREFERRED_ADDRESS => self.preferred_address = Some(preferred_address(v)?),
            id::VERSION_INFORMATION => self.version_information = Some(version_information(v, key, from)?),
            _unknown => {
                v.rest();
            }
        }
        if v.is_empty() { Ok(()) } else { Err(Error::Malformed) }
    }
}

fn ranged(v: &mut Reader<'_>, key: u64, min: u64, max: u64) -> Result<u64, Error> {
    let value = v.varint()?;
    if (min..=max).contains(&value) { Ok(value) } else { Err(Error::OutOfRange(key)) }
}

fn cid(v: &mut Reader<'_>) -> Result<ConnectionId, Error> {
    ConnectionId::new(v.rest()).ok_or(Error::Malformed)
}

fn preferred_address(v: &mut Reader<'_>) -> Result<PreferredAddress, Error> {
    let v4 = SocketAddrV4::new(Ipv4Addr::from(v.array::<4>()?), v.u16()?);
    let v6 = SocketAddrV6::new(Ipv6Addr::from(v.array::<16>()?), v.u16()?, 0, 0);
    let len = usize::from(v.u8()?);
    let cid = ConnectionId::new(v.bytes(len)?).filter(|cid| !cid.is_empty());
    let cid = cid.ok_or(Error::OutOfRange(id::PREFERRED_ADDRESS))?;
    Ok(PreferredAddress { v4, v6, cid, reset_token: ResetToken(v.array()?) })
}

fn version_information(v: &mut Reader<'_>, key: u64, from: Side) -> Result<VersionInformation, Error> {
    let chosen = Version(v.u32()?);
    let mut available = Vec::new();
    while !v.is_empty() {
        available.push(Version(v.u32()?));
    }
    // RFC 9368 section 4: version 0 is no version, and a client could have had what it chose.
    let is_valid = chosen.0 != 0
        && !available.contains(&Version(0))
        && available.len() <= PARAMETERS_MAX
        && (from == Side::Server || available.contains(&chosen));
    if !is_valid {
        return Err(Error::OutOfRange(key));
    }
    Ok(VersionInformation { chosen, available })
}
