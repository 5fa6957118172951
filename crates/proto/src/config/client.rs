//! Settings of a client.

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::RootCertStore;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::quic::Suite;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::TransportConfig;
use crate::crypto::provider::{PacketCrypto, initial_suite, provider};
use crate::error::ConfigError;

/// Settings of a client.
#[derive(Clone)]
pub struct ClientConfig {
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) initial_suite: Suite,
    /// Settings of the transport.
    pub transport: Arc<TransportConfig>,
}

/// What makes a client trust a server's certificate.
enum Trust {
    Roots(Arc<RootCertStore>),
    Fingerprint(Vec<u8>),
    Anyone,
}

impl ClientConfig {
    /// A client that trusts certificates which lead to one of `roots`.
    pub fn with_roots(roots: RootCertStore, alpn: &[&[u8]]) -> Result<Self, ConfigError> {
        Self::build(PacketCrypto::Auto, Trust::Roots(Arc::new(roots)), alpn)
    }

    /// The same with a named library for sealing packets.
    pub fn with_roots_and_crypto(
        crypto: PacketCrypto,
        roots: RootCertStore,
        alpn: &[&[u8]],
    ) -> Result<Self, ConfigError> {
        Self::build(crypto, Trust::Roots(Arc::new(roots)), alpn)
    }

    /// A client that trusts exactly the certificate whose SHA-256 begins with `fingerprint` (16 to 32 bytes), whatever name it
    /// bears.
    pub fn with_pinned_fingerprint(fingerprint: &[u8], alpn: &[&[u8]]) -> Result<Self, ConfigError> {
        if !(16..=32).contains(&fingerprint.len()) {
            return Err(ConfigError::OutOfRange { name: "fingerprint", why: "takes 16 to 32 bytes of the SHA-256" });
        }
        Self::build(PacketCrypto::Auto, Trust::Fingerprint(fingerprint.to_vec()), alpn)
    }

    /// A client that trusts whoever answers. For measurements and tests: it authenticates nobody.
    pub fn insecure(alpn: &[&[u8]]) -> Result<Self, ConfigError> {
        Self::build(PacketCrypto::Auto, Trust::Anyone, alpn)
    }

    /// A client with a TLS configuration of the caller's: client certificates, resumption, key log.
    pub fn with_rustls(tls: Arc<rustls::ClientConfig>) -> Result<Self, ConfigError> {
        let initial_suite = initial_suite(tls.crypto_provider()).ok_or(ConfigError::NoInitialSuite)?;
        Ok(Self { tls, initial_suite, transport: Arc::default() })
    }

    /// The same client with other settings of the transport.
    pub fn transport(mut self, transport: TransportConfig) -> Result<Self, ConfigError> {
        transport.validate()?;
        self.transport = Arc::new(transport);
        Ok(self)
    }

    fn build(crypto: PacketCrypto, trust: Trust, alpn: &[&[u8]]) -> Result<Self, ConfigError> {
        let provider = provider(crypto);
        let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| ConfigError::Tls(e.to_string()))?;
        let mut tls = match trust {
            Trust::Roots(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
            pinned => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Pinned { trust: pinned, provider }))
                .with_no_client_auth(),
        };
        tls.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Self::with_rustls(Arc::new(tls))
    }
}

impl std::fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientConfig").field("transport", &self.transport).finish_non_exhaustive()
    }
}

/// Trusts one certificate by its hash, or anyone; the handshake's signature is verified in both cases, so the peer
/// holds the key of the certificate that it shows.
struct Pinned {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pinned")
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Trust::Fingerprint(wanted) = &self.trust {
            let hash = digest::digest(&digest::SHA256, end_entity);
            if hash.as_ref().get(..wanted.len()) != Some(wanted.as_slice()) {
                return Err(CertificateError::ApplicationVerificationFailure.into());
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
