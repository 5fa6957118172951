//! Transport parameters (RFC 9000 section 18 and extensions).

mod decode;
mod encode;

use alloc::vec::Vec;
use core::net::{SocketAddrV4, SocketAddrV6};

use crate::{ConnectionId, ResetToken, Version};

/// Parameter IDs.
pub(crate) mod id {
    pub(crate) const ORIGINAL_DCID: u64 = 0x00;
    pub(crate) const MAX_IDLE_TIMEOUT: u64 = 0x01;
    pub(crate) const RESET_TOKEN: u64 = 0x02;
    pub(crate) const MAX_UDP_PAYLOAD: u64 = 0x03;
    pub(crate) const MAX_DATA: u64 = 0x04;
    pub(crate) const MAX_STREAM_DATA_BIDI_LOCAL: u64 = 0x05;
    pub(crate) const MAX_STREAM_DATA_BIDI_REMOTE: u64 = 0x06;
    pub(crate) const MAX_STREAM_DATA_UNI: u64 = 0x07;
    pub(crate) const MAX_STREAMS_BIDI: u64 = 0x08;
    pub(crate) const MAX_STREAMS_UNI: u64 = 0x09;
    pub(crate) const ACK_DELAY_EXPONENT: u64 = 0x0a;
    pub(crate) const MAX_ACK_DELAY: u64 = 0x0b;
    pub(crate) const DISABLE_MIGRATION: u64 = 0x0c;
    pub(crate) const PREFERRED_ADDRESS: u64 = 0x0d;
    pub(crate) const ACTIVE_CID_LIMIT: u64 = 0x0e;
    pub(crate) const INITIAL_SCID: u64 = 0x0f;
    pub(crate) const RETRY_SCID: u64 = 0x10;
    pub(crate) const VERSION_INFORMATION: u64 = 0x11;
    pub(crate) const MAX_DATAGRAM: u64 = 0x20;
    pub(crate) const GREASE_QUIC_BIT: u64 = 0x2ab2;
    pub(crate) const RESET_STREAM_AT: u64 = 0x1d;
    pub(crate) const MIN_ACK_DELAY: u64 = 0xff04_de1b;
    pub(crate) const OBSERVED_ADDRESS: u64 = 0x9f81_a176;
}

/// What an endpoint tells its peer during the handshake. Absent numbers have the defaults of RFC 9000 section 18.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportParameters {
    /// Destination of the client's first Initial (server only).
    pub original_destination_connection_id: Option<ConnectionId>,
    /// Idle timeout in milliseconds; 0 for none.
    pub max_idle_timeout: u64,
    /// Resets the connection with the handshake's ID (server only).
    pub stateless_reset_token: Option<ResetToken>,
    /// Largest UDP payload taken, at least 1,200 bytes.
    pub max_udp_payload_size: u64,
    /// Window of the connection, bytes.
    pub initial_max_data: u64,
    /// Window of bidirectional streams that the sender of the parameters opens, bytes.
    pub initial_max_stream_data_bidi_local: u64,
    /// Window of bidirectional streams that its peer opens, bytes.
    pub initial_max_stream_data_bidi_remote: u64,
    /// Window of unidirectional streams, bytes.
    pub initial_max_stream_data_uni: u64,
    /// Bidirectional streams that the peer may open.
    pub initial_max_streams_bidi: u64,
    /// Unidirectional streams that the peer may open.
    pub initial_max_streams_uni: u64,
    /// Exponent of the ACK Delay field, at most 20.
    pub ack_delay_exponent: u64,
    /// Longest time acknowledgements are held back, milliseconds, below 2^14.
    pub max_ack_delay: u64,
    /// The peer must not migrate.
    pub disable_active_migration: bool,
    /// Where the client shall go after the handshake (server only).
    pub preferred_address: Option<PreferredAddress>,
    /// Connection IDs that are kept at once, at least 2.
    pub active_connection_id_limit: u64,
    /// Source of the sender's first Initial.
    pub initial_source_connection_id: Option<ConnectionId>,
    /// Source of the Retry packet (server only).
    pub retry_source_connection_id: Option<ConnectionId>,
    /// Versions (RFC 9368).
    pub version_information: Option<VersionInformation>,
    /// Largest DATAGRAM frame taken, bytes (RFC 9221); none are taken without it.
    pub max_datagram_frame_size: Option<u64>,
    /// The fixed bit may be greased (RFC 9287).
    pub grease_quic_bit: bool,
    /// RESET_STREAM_AT is understood (draft-ietf-quic-reliable-stream-reset section 3).
    pub reset_stream_at: bool,
    /// Shortest delay of acknowledgements, microseconds, at most `max_ack_delay` (draft-ietf-quic-ack-frequency
    /// section 3).
    pub min_ack_delay: Option<u64>,
    /// Address discovery: 0 gives observations, 1 wants them, 2 both.
    pub observed_address: Option<u64>,
    /// Sent as a reserved parameter chosen by this number, to keep peers from choking on unknown ones (section 18.1).
    pub grease: Option<u64>,
}

impl Default for TransportParameters {
    fn default() -> Self {
        Self {
            original_destination_connection_id: None,
            max_idle_timeout: 0,
            stateless_reset_token: None,
            max_udp_payload_size: 65_527,
            initial_max_data: 0,
            initial_max_stream_data_bidi_local: 0,
            initial_max_stream_data_bidi_remote: 0,
            initial_max_stream_data_uni: 0,
            initial_max_streams_bidi: 0,
            initial_max_streams_uni: 0,
            ack_delay_exponent: 3,
            max_ack_delay: 25,
            disable_active_migration: false,
            preferred_address: None,
            active_connection_id_limit: 2,
            initial_source_connection_id: None,
            retry_source_connection_id: None,
            version_information: None,
            max_datagram_frame_size: None,
            grease_quic_bit: false,
            reset_stream_at: false,
            min_ack_delay: None,
            observed_address: None,
            grease: None,
        }
    }
}

/// The server's preferred address (section 18.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreferredAddress {
    /// IPv4 address and port; all zeros for none.
    pub v4: SocketAddrV4,
    /// IPv6 address and port; all zeros for none.
    pub v6: SocketAddrV6,
    /// Connection ID to use there, 1 to 20 bytes.
    pub cid: ConnectionId,
    /// Its stateless reset token.
    pub reset_token: ResetToken,
}

/// Version Information (RFC 9368 section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInformation {
    /// The version in use.
    pub chosen: Version,
    /// The versions spoken, most wanted first.
    pub available: Vec<Version>,
}

/// Why parameters are refused: TRANSPORT_PARAMETER_ERROR on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportParameterError {
    /// They end within a parameter, a value does not have the form it must have, or there are too many.
    Malformed,
    /// The same parameter twice.
    Duplicate(u64),
    /// A value out of its range.
    OutOfRange(u64),
    /// From a client, what only a server may send.
    ServerOnly(u64),
}

impl core::fmt::Display for TransportParameterError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Malformed => f.write_str("transport parameters are malformed"),
            Self::Duplicate(id) => write!(f, "transport parameter {id:#x} stands twice"),
            Self::OutOfRange(id) => write!(f, "transport parameter {id:#x} is out of range"),
            Self::ServerOnly(id) => write!(f, "transport parameter {id:#x} from a client"),
        }
    }
}

impl core::error::Error for TransportParameterError {}
