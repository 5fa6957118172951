//! Bytes to transport parameters, with every rule of RFC 9000 sections 7.4 and 18.2.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use super::{PreferredAddress, TransportParameterError as Error, TransportParameters, VersionInformation, id};
use crate::{ConnectionId, Reader, ResetToken, Side, Truncated, Version};

/// Parameters beyond this number are refused: each unknown one is kept to find duplicates.
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
        let mut seen = Vec::with_capacity(24);
        let mut r = Reader::new(bytes);
        while !r.is_empty() {
            let key = r.varint()?;
            let len = usize::try_from(r.varint()?).map_err(|_| Error::Malformed)?;
            let value = r.bytes(len)?;
            if seen.contains(&key) {
                return Err(Error::Duplicate(key));
            }
            if seen.len() == PARAMETERS_MAX {
                return Err(Error::Malformed);
            }
            seen.push(key);
            let server_only =
                matches!(key, id::ORIGINAL_DCID | id::RESET_TOKEN | id::PREFERRED_ADDRESS | id::RETRY_SCID);
            if server_only && from == Side::Client {
                return Err(Error::ServerOnly(key));
            }
            let mut v = Reader::new(value);
            out.take(key, &mut v)?;
        }
        Ok(out)
    }

    fn take(&mut self, key: u64, v: &mut Reader<'_>) -> Result<(), Error> {
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
            id::MIN_ACK_DELAY => self.min_ack_delay = Some(ranged(v, key, 0, (1 << 24) - 1)?),
            id::OBSERVED_ADDRESS => self.observed_address = Some(ranged(v, key, 0, 2)?),
            id::ORIGINAL_DCID => self.original_destination_connection_id = Some(cid(v)?),
            id::INITIAL_SCID => self.initial_source_connection_id = Some(cid(v)?),
            id::RETRY_SCID => self.retry_source_connection_id = Some(cid(v)?),
            id::RESET_TOKEN => self.stateless_reset_token = Some(ResetToken(v.array()?)),
            id::PREFERRED_ADDRESS => self.preferred_address = Some(preferred_address(v)?),
            id::VERSION_INFORMATION => self.version_information = Some(version_information(v, key)?),
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

fn version_information(v: &mut Reader<'_>, key: u64) -> Result<VersionInformation, Error> {
    let chosen = Version(v.u32()?);
    let mut available = Vec::new();
    while !v.is_empty() {
        available.push(Version(v.u32()?));
    }
    // RFC 9368 section 4: version 0 is no version.
    if chosen.0 == 0 || available.contains(&Version(0)) || available.len() > PARAMETERS_MAX {
        return Err(Error::OutOfRange(key));
    }
    Ok(VersionInformation { chosen, available })
}
