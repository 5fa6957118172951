//! What both roles decide about TLS: the library, the cipher suites, whom to trust.

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, CipherSuite, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::crypto::provider::{self, PacketCrypto};
use crate::error::ConfigError;

/// The library and the cipher suites.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// Which library seals packets.
    pub crypto: PacketCrypto,
    /// The cipher suites that are offered or accepted, most wanted first; all three of TLS 1.3 that QUIC uses when empty.
    pub suites: Vec<CipherSuite>,
    /// (Client) Sessions can outlive the process: [`ClientMemory::export`](super::ClientMemory::export) gives them out, with their
    /// secrets, and `import` takes them in. Costs an allocation for each secret of a handshake.
    pub portable_sessions: bool,
}

impl TlsOptions {
    /// The provider that the options describe.
    pub(super) fn provider(&self) -> Result<Arc<CryptoProvider>, ConfigError> {
        let mut provider = (*provider::provider(self.crypto)?).clone();
        if !self.suites.is_empty() {
            let known = std::mem::take(&mut provider.cipher_suites);
            for wanted in &self.suites {
                let suite = known.iter().find(|s| s.suite() == *wanted);
                let why = "names a cipher suite that QUIC does not use";
                provider.cipher_suites.push(*suite.ok_or(ConfigError::OutOfRange { name: "suites", why })?);
            }
        }
        Ok(Arc::new(provider))
    }
}

/// What makes a client trust a server's certificate.
#[derive(Clone, Debug)]
pub enum Trust {
    /// It leads to one of these certificates and bears the server's name.
    Roots(Arc<RootCertStore>),
    /// Its SHA-256 begins with these 16 to 32 bytes, whatever name it bears.
    Fingerprint(Vec<u8>),
    /// What a verifier of the caller's says.
    Verifier(Arc<dyn ServerCertVerifier>),
    /// Nothing: whoever answers is trusted. For measurements and tests.
    Anyone,
}

impl Trust {
    /// What judges servers' certificates.
    pub(super) fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, ConfigError> {
        let fingerprint = match self {
            Self::Roots(roots) => {
                let builder = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone());
                return Ok(builder.build().map_err(|e| ConfigError::Tls(e.to_string()))?);
            }
            Self::Verifier(verifier) => return Ok(verifier.clone()),
            Self::Fingerprint(f) if !(16..=32).contains(&f.len()) => {
                let why = "takes 16 to 32 bytes of the SHA-256";
                return Err(ConfigError::OutOfRange { name: "fingerprint", why });
            }
            Self::Fingerprint(fingerprint) => Some(fingerprint.clone()),
            Self::Anyone => None,
        };
        Ok(Arc::new(Pinned { fingerprint, provider: provider.clone() }))
    }
}

/// Which certificates a server asks its clients for.
#[derive(Clone, Debug, Default)]
pub enum ClientAuth {
    /// None.
    #[default]
    None,
    /// One that leads to one of these; clients without any are taken as well.
    Optional(Arc<RootCertStore>),
    /// One that leads to one of these; nobody else is let in.
    Required(Arc<RootCertStore>),
}

impl ClientAuth {
    pub(super) fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, ConfigError> {
        let builder = |roots: &Arc<RootCertStore>| {
            WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
        };
        let verifier = match self {
            Self::None => return Ok(WebPkiClientVerifier::no_client_auth()),
            Self::Optional(roots) => builder(roots).allow_unauthenticated().build(),
            Self::Required(roots) => builder(roots).build(),
        };
        verifier.map_err(|e| ConfigError::Tls(e.to_string()))
    }
}

/// Trusts one certificate by its hash, or anyone; the handshake's signature is verified in both cases, so the peer
/// holds the key of the certificate that it shows.
pub(super) struct Pinned {
    /// Front of the SHA-256 of the one certificate that is trusted.
    pub(super) fingerprint: Option<Vec<u8>>,
    pub(super) provider: Arc<CryptoProvider>,
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
        if let Some(wanted) = &self.fingerprint {
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
