//! Errors in three families: the peer broke the protocol, the caller misused the API, the environment failed.

use warpline_wire::TransportErrorCode;

/// A violation of the protocol by the peer, found by this endpoint: what CONNECTION_CLOSE will carry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct TransportError {
    /// The code on the wire (RFC 9000 section 20.1).
    pub code: TransportErrorCode,
    /// Type of the frame that triggered it, 0 when unknown.
    pub frame_type: u64,
    /// For people.
    pub reason: String,
}

impl TransportError {
    pub(crate) fn new(code: TransportErrorCode, reason: impl Into<String>) -> Self {
        Self { code, frame_type: 0, reason: reason.into() }
    }

    pub(crate) fn protocol(reason: impl Into<String>) -> Self {
        Self::new(TransportErrorCode::PROTOCOL_VIOLATION, reason)
    }

    pub(crate) fn in_frame(mut self, frame_type: u64) -> Self {
        self.frame_type = frame_type;
        self
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// The peer violated the protocol; it was told so.
    #[error("the peer violated the protocol: {0}")]
    Transport(TransportError),
    /// The peer says that this endpoint violated the protocol, or that it cannot go on.
    #[error("the peer closed the connection: {code} {reason}")]
    ClosedByPeer {
        /// The code from the wire.
        code: TransportErrorCode,
        /// What the peer said.
        reason: String,
    },
    /// The peer's application closed the connection.
    #[error("the peer's application closed the connection: code {code} {reason}")]
    ApplicationClosed {
        /// The application's code.
        code: u64,
        /// What the peer's application said.
        reason: String,
    },
    /// This side's application closed the connection.
    #[error("closed by this side")]
    LocallyClosed,
    /// This side cannot go on, and this is why; the peer was not told.
    #[error("this side failed: {0}")]
    Failed(String),
    /// Nothing was heard from the peer for the idle timeout.
    #[error("timed out: nothing heard from the peer")]
    TimedOut,
    /// The peer lost the connection's state (RFC 9000 section 10.3).
    #[error("the peer has lost the connection (stateless reset)")]
    Reset,
    /// The server did not take early data and allows fewer streams than were opened for it.
    #[error("the server rejected early data and has lowered its limits since")]
    EarlyDataRejected,
    /// The peer speaks no version of QUIC that this endpoint does.
    #[error("the peer speaks no common version of QUIC")]
    VersionMismatch,
}

/// Why no connection was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The server name is neither a DNS name nor an IP address.
    #[error("not a valid server name: {0}")]
    InvalidServerName(String),
    /// The address cannot be sent to.
    #[error("not an address to connect to: {0}")]
    InvalidRemote(std::net::SocketAddr),
    /// The TLS configuration does not allow QUIC.
    #[error("TLS configuration: {0}")]
    Tls(String),
    /// The endpoint is closing.
    #[error("the endpoint is closing")]
    Closing,
}

/// Why a connection was not moved to another address of this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MigrateError {
    /// Only clients move (RFC 9000 section 9).
    #[error("only a client can move a connection to another address")]
    NotClient,
    /// The handshake is not confirmed, or the connection has ended.
    #[error("the connection is not established")]
    NotEstablished,
    /// The server forbids it (`disable_active_migration`).
    #[error("the server forbids moving to another address")]
    Forbidden,
    /// The server has given no connection ID to spare, and the one in use must not appear on two paths (RFC 9000 section 9.5).
    #[error("the server has given no spare connection ID")]
    NoConnectionId,
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// rustls refused the certificate, key or parameters.
    #[error("TLS configuration: {0}")]
    Tls(String),
    /// A value lies outside the range that its documentation names.
    #[error("{name}: {why}")]
    OutOfRange {
        /// The field.
        name: &'static str,
        /// What is wrong.
        why: &'static str,
    },
}

/// Exporting keying material failed: the handshake is not complete, or more was asked for than TLS gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no keying material: the handshake is not complete or the length is out of range")]
pub struct ExportError;
