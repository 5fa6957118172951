//! Settings of a server.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

use rustls::quic::Suite;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use warpline_wire::{ConnectionId, PreferredAddress as Parameter, ResetToken};

use super::TransportConfig;
use crate::crypto::provider::{PacketCrypto, initial_suite, provider};
use crate::error::ConfigError;

/// When a server asks a client to prove its address before it keeps any state (RFC 9000 section 8.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryPolicy {
    /// Only when many handshakes are open.
    #[default]
    UnderLoad,
    /// Every client without a token.
    Always,
    /// Never.
    Never,
}

/// Settings of a server.
#[derive(Clone)]
pub struct ServerConfig {
    pub(crate) tls: Arc<rustls::ServerConfig>,
    pub(crate) initial_suite: Suite,
    /// Settings of the transport.
    pub transport: Arc<TransportConfig>,
    /// When a client must prove its address first.
    pub retry: RetryPolicy,
    /// NEW_TOKEN frames sent after the handshake, so that the client need not prove its address the next time.
    pub new_tokens: u8,
    /// Where clients shall go once the handshake is done (RFC 9000 section 9.6). The endpoint must receive there too.
    pub preferred_address: Option<PreferredAddress>,
    /// Clients may move to another address by themselves. Without it they are told not to (`disable_active_migration`); one
    /// whose NAT gives it another address is followed all the same.
    pub active_migration: bool,
}

/// The addresses that a server would rather be reached at, by family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PreferredAddress {
    /// For clients with IPv4.
    pub v4: Option<SocketAddrV4>,
    /// For clients with IPv6.
    pub v6: Option<SocketAddrV6>,
}

impl PreferredAddress {
    /// What the client is told.
    pub(crate) fn parameter(&self, cid: ConnectionId, reset_token: ResetToken) -> Parameter {
        // All zeros stand for none (RFC 9000 section 18.2).
        let v4 = self.v4.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        let v6 = self.v6.unwrap_or(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0));
        Parameter { v4, v6, cid, reset_token }
    }
}

impl ServerConfig {
    /// A server that shows `chain` and speaks one of the application protocols `alpn`.
    pub fn with_single_cert(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        alpn: &[&[u8]],
    ) -> Result<Self, ConfigError> {
        Self::with_packet_crypto(PacketCrypto::Auto, chain, key, alpn)
    }

    /// The same with a named library for sealing packets.
    pub fn with_packet_crypto(
        crypto: PacketCrypto,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        alpn: &[&[u8]],
    ) -> Result<Self, ConfigError> {
        let mut tls = rustls::ServerConfig::builder_with_provider(provider(crypto))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| ConfigError::Tls(e.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|e| ConfigError::Tls(e.to_string()))?;
        tls.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Self::with_rustls(Arc::new(tls))
    }

    /// A server with a TLS configuration of the caller's: client certificates, resolvers, tickets, key log.
    pub fn with_rustls(tls: Arc<rustls::ServerConfig>) -> Result<Self, ConfigError> {
        let initial_suite = initial_suite(tls.crypto_provider()).ok_or(ConfigError::NoInitialSuite)?;
        Ok(Self {
            tls,
            initial_suite,
            transport: Arc::default(),
            retry: RetryPolicy::default(),
            new_tokens: 1,
            preferred_address: None,
            active_migration: true,
        })
    }

    /// The same server with other settings of the transport.
    pub fn transport(mut self, transport: TransportConfig) -> Result<Self, ConfigError> {
        transport.validate()?;
        self.transport = Arc::new(transport);
        Ok(self)
    }
}

impl std::fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig")
            .field("transport", &self.transport)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}
