//! What the caller decides: one configuration for the endpoint, one per role, one for the transport.

mod client;
mod server;
mod tls;
mod transport;

use core::time::Duration;
use std::net::SocketAddr;

use warpline_wire::Version;

pub use self::client::ClientConfig;
pub use self::server::{PreferredAddress, RetryPolicy, ServerConfig};
pub use self::tls::{ClientAuth, TlsOptions, Trust};
pub use self::transport::{AddressDiscovery, Extensions, TransportConfig};
use crate::crypto::{FleetKeys, ResetKey, TokenKey, TokenScope};
pub use crate::ids::QuicLb;
pub use crate::resume::{ClientMemory, MemoryError, MemoryStats, PathMemory};
use crate::time::Instant;

/// What all connections of an endpoint share.
#[derive(Debug)]
pub struct EndpointConfig {
    /// Derives stateless reset tokens.
    pub reset_key: ResetKey,
    /// Seals address validation tokens.
    pub token_key: TokenKey,
    /// Versions that are spoken, most wanted first.
    pub versions: Vec<Version>,
    /// Makes connection IDs that a load balancer routes by.
    pub quic_lb: Option<QuicLb>,
    /// The mark in connection IDs ([`warpline_wire::cid::mark`]), where two processes share a port. Not with `quic_lb`, whose
    /// IDs have no room for it.
    pub mark: Option<bool>,
    /// Connections keep a log of what they do, as qlog ([`Endpoint::poll_log`](crate::Endpoint::poll_log)).
    pub qlog: bool,
    /// Unix time at the zero of the clock that drives the endpoint, so that address tokens of one process mean
    /// something to another. Zero is right for an endpoint that shares its keys with no other.
    pub unix_at_zero: Duration,
}

impl EndpointConfig {
    /// A configuration with keys derived from `secret`. Processes that serve one address share the secret.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self::with_keys(&FleetKeys::new(secret))
    }

    /// A configuration with the keys of a fleet, whose secrets can be changed one after the other.
    pub fn with_keys(keys: &FleetKeys) -> Self {
        Self {
            reset_key: ResetKey::new(keys),
            token_key: TokenKey::new(keys),
            versions: vec![Version::V1, Version::V2],
            quic_lb: None,
            mark: None,
            qlog: false,
            unix_at_zero: Duration::ZERO,
        }
    }

    /// What a token given out now, or shown now, is good for.
    pub(crate) fn token_scope(&self, now: Instant, remote: SocketAddr, version: Version) -> TokenScope {
        TokenScope { remote, version, now: now + self.unix_at_zero }
    }
}
