//! What the caller decides: one configuration for the endpoint, one per role, one for the transport.

mod client;
mod server;
mod transport;

use warpline_wire::Version;

pub use self::client::ClientConfig;
pub use self::server::{PreferredAddress, RetryPolicy, ServerConfig};
pub use self::transport::{AddressDiscovery, Extensions, TransportConfig};
use crate::crypto::{ResetKey, TokenKey};
pub use crate::ids::QuicLb;

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
}

impl EndpointConfig {
    /// A configuration with keys derived from `secret`. Processes that serve one address share the secret.
    pub fn new(secret: &[u8; 32]) -> Self {
        let derive = |label: &[u8]| {
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
            let mut out = [0; 32];
            out.copy_from_slice(aws_lc_rs::hmac::sign(&key, label).as_ref());
            out
        };
        Self {
            reset_key: ResetKey::new(&derive(b"warpline stateless reset")),
            token_key: TokenKey::new(&derive(b"warpline address token")),
            versions: vec![Version::V1, Version::V2],
            quic_lb: None,
            mark: None,
        }
    }
}
