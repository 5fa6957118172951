//! TLS for stacks that take rustls: TLS 1.3, `TLS_AES_128_GCM_SHA256`, X25519, *ring* (which has the VAES code that
//! AVX2 machines without AVX-512 need), and the certificate verified.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue, WebPkiServerVerifier,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, NamedGroup, RootCertStore, ServerConfig, SignatureScheme};

use crate::{ALPN, Result};

/// Tickets a client keeps; servers send two for each handshake.
const TICKETS_MAX: usize = 4;

/// The one suite and the one key exchange of the comparison.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    })
}

/// The server's configuration, with 0-RTT allowed.
///
/// # Errors
///
/// If a file cannot be read or is no certificate or key.
pub fn server_config(cert: &Path, key: &Path) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
    server_config_of(chain, PrivateKeyDer::from_pem_file(key)?)
}

/// The same for a certificate in memory.
///
/// # Errors
///
/// If the key is not the certificate's.
pub fn server_config_of(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // RFC 9001 section 4.6.1: QUIC servers send this value or none.
    config.max_early_data_size = u32::MAX;
    Ok(config)
}

/// The client's configuration. With `tickets` it resumes whenever there is one, and tries 0-RTT; without, every
/// handshake is a full one.
///
/// # Errors
///
/// If the file cannot be read or is no certificate.
pub fn client_config(ca: &Path, tickets: Option<Arc<Tickets>>) -> Result<ClientConfig> {
    client_config_of(CertificateDer::pem_file_iter(ca)?.collect::<Result<Vec<_>, _>>()?, tickets)
}

/// The same for certificates in memory.
///
/// # Errors
///
/// If one of them is no certificate.
pub fn client_config_of(trusted: Vec<CertificateDer<'_>>, tickets: Option<Arc<Tickets>>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for cert in trusted {
        roots.add(cert)?;
    }
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = match tickets {
        None => {
            let mut config = builder.with_root_certificates(roots).with_no_client_auth();
            config.resumption = Resumption::disabled();
            config
        }
        Some(tickets) => {
            let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
            let verifier = Arc::new(CountingVerifier { webpki, tickets: tickets.clone() });
            let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
            config.resumption = Resumption::store(tickets);
            config.enable_early_data = true;
            config
        }
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// A client's session tickets, newest first, each used once.
#[derive(Debug, Default)]
pub struct Tickets {
    sessions: Mutex<VecDeque<Tls13ClientSessionValue>>,
    arrived: tokio::sync::Notify,
    full_handshakes: AtomicU64,
}

impl Tickets {
    /// Whether the next handshake can be a resumed one.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Waits until there is a ticket.
    pub async fn available(&self) {
        while self.is_empty() {
            self.arrived.notified().await;
        }
    }

    /// Full handshakes so far, counted where the certificate is verified, which resumed handshakes do not do.
    pub fn full_handshakes(&self) -> u64 {
        self.full_handshakes.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Tls13ClientSessionValue>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut sessions = self.lock();
        sessions.truncate(TICKETS_MAX - 1);
        sessions.push_front(value);
        self.arrived.notify_one();
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.lock().pop_front()
    }
}

/// The usual verification of certificates, counted.
#[derive(Debug)]
struct CountingVerifier {
    webpki: Arc<WebPkiServerVerifier>,
    tickets: Arc<Tickets>,
}

impl ServerCertVerifier for CountingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.tickets.full_handshakes.fetch_add(1, Ordering::Relaxed);
        self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
