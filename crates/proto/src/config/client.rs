//! Settings of a client.

use std::sync::Arc;

use rustls::quic::Suite;
use rustls::{KeyLog, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use warpline_wire::Version;

use super::tls::{TlsOptions, Trust};
use super::{ClientMemory, TransportConfig};
use crate::crypto::portable::{self, ClientIdentity};
use crate::crypto::provider::{PacketCrypto, initial_suite};
use crate::error::ConfigError;

/// Settings of a client.
#[derive(Clone)]
pub struct ClientConfig {
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) initial_suite: Suite,
    /// Sessions outlive the process; as whom this client shows itself.
    pub(crate) portable: Option<ClientIdentity>,
    /// Settings of the transport.
    pub transport: Arc<TransportConfig>,
    /// What is remembered of servers: sessions to resume and address tokens. Clones of a configuration share it. A session
    /// is only resumed under the configuration that it began with, or a clone: another one may trust other servers. One
    /// that outlives the process ([`TlsOptions::portable_sessions`]) is resumed under any that shows the same certificate to servers,
    /// offers its protocol and trusts the chain that the server showed.
    pub memory: Arc<ClientMemory>,
    /// Sends what the application writes before the handshake is complete as early data, where a remembered session allows it
    /// (RFC 9001 section 4.6). Whoever records it can play it to the server again: only for what does no harm when it
    /// is done twice. See [`Connection::early_data`](crate::Connection::early_data).
    pub early_data: bool,
    /// The version that connections begin with. `None`: one that the server gave a session for, or else the first of
    /// [`EndpointConfig::versions`](super::EndpointConfig::versions). The server may go on with any of those
    /// (RFC 9368).
    pub original_version: Option<Version>,
}

impl ClientConfig {
    /// A client that trusts certificates which lead to one of `roots`.
    pub fn with_roots(roots: RootCertStore, alpn: &[&[u8]]) -> Result<Self, ConfigError> {
        Self::with_options(&Trust::Roots(Arc::new(roots)), alpn, &TlsOptions::default(), None)
    }

    /// The same with a named library for sealing packets.
    pub fn with_roots_and_crypto(
        crypto: PacketCrypto,
        roots: RootCertStore,
        alpn: &[&[u8]],
    ) -> Result<Self, ConfigError> {
        let options = TlsOptions { crypto, ..TlsOptions::default() };
        Self::with_options(&Trust::Roots(Arc::new(roots)), alpn, &options, None)
    }

    /// A client that trusts exactly the certificate whose SHA-256 begins with `fingerprint` (16 to 32 bytes), whatever name it
    /// bears.
    pub fn with_pinned_fingerprint(fingerprint: &[u8], alpn: &[&[u8]]) -> Result<Self, ConfigError> {
        Self::with_options(&Trust::Fingerprint(fingerprint.to_vec()), alpn, &TlsOptions::default(), None)
    }

    /// A client that trusts whoever answers. For measurements and tests: it authenticates nobody.
    pub fn insecure(alpn: &[&[u8]]) -> Result<Self, ConfigError> {
        Self::with_options(&Trust::Anyone, alpn, &TlsOptions::default(), None)
    }

    /// A client with all of its TLS settings; with `identity` it shows that certificate chain to servers that ask for one.
    ///
    /// # Errors
    /// A fingerprint of the wrong length, no roots, a cipher suite that QUIC does not use, portable sessions with a verifier that wants
    /// raw public keys, or what TLS says of the identity.
    pub fn with_options(
        trust: &Trust,
        alpn: &[&[u8]],
        options: &TlsOptions,
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<Self, ConfigError> {
        let tls_error = |e: rustls::Error| ConfigError::Tls(e.to_string());
        let mut provider = options.provider()?;
        let mut verifier = trust.verifier(&provider)?;
        let chain = identity.as_ref().map(|(chain, _)| &chain[..]);
        let identity_hash = portable::identity(chain, matches!(trust, Trust::Verifier(_)));
        if options.portable_sessions {
            (provider, verifier) = portable::prepare(&provider, verifier)?;
        }
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls_error)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut tls = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(tls_error)?,
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        let portable = options.portable_sessions.then_some(identity_hash);
        Ok(Self { portable, ..Self::with_rustls(Arc::new(tls))? })
    }

    /// A client with a TLS configuration of the caller's. Its `resumption` and `enable_early_data` are not used: sessions are
    /// kept in [`memory`](Self::memory), where they are bound to a version of QUIC. They end with the process: for others there
    /// is [`with_options`](Self::with_options) with [`Trust::Verifier`].
    pub fn with_rustls(tls: Arc<rustls::ClientConfig>) -> Result<Self, ConfigError> {
        let initial_suite = initial_suite(tls.crypto_provider());
        Ok(Self {
            tls,
            initial_suite,
            portable: None,
            transport: Arc::default(),
            memory: Arc::default(),
            early_data: false,
            original_version: None,
        })
    }

    /// The same client with other settings of the transport.
    pub fn transport(mut self, transport: TransportConfig) -> Result<Self, ConfigError> {
        transport.validate()?;
        self.transport = Arc::new(transport);
        Ok(self)
    }

    /// The same client with a log that is given the secrets of every connection, for Wireshark and its like: who reads it
    /// reads all that the connections carry.
    #[must_use]
    pub fn key_log(mut self, log: Arc<dyn KeyLog>) -> Self {
        Arc::make_mut(&mut self.tls).key_log = log;
        self
    }
}

impl std::fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientConfig")
            .field("transport", &self.transport)
            .field("memory", &self.memory)
            .field("early_data", &self.early_data)
            .finish_non_exhaustive()
    }
}
