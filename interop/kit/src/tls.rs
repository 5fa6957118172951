//! TLS for stacks that take rustls: version 1.3, *ring*, the certificate verified.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, KeyLog, NamedGroup, RootCertStore, ServerConfig};

use crate::args::{ClientArgs, ServerArgs};
use crate::{Result, hq};

/// Tickets a client keeps.
const TICKETS_MAX: usize = 8;

fn provider(only_chacha20: bool) -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    if only_chacha20 {
        // QUIC needs AES-128-GCM for Initial packets all the same; stacks take it from elsewhere.
        provider.cipher_suites = vec![ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
    }
    Arc::new(provider)
}

/// The suite of Initial packets, for stacks that do not find it among the offered ones.
///
/// # Panics
///
/// Never: *ring* has this suite.
pub fn initial_suite() -> rustls::quic::Suite {
    let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
    suite.and_then(|suite| suite.quic_suite()).expect("ring's AES-128-GCM suite has a QUIC part")
}

/// The server's configuration, with 0-RTT allowed.
///
/// # Errors
///
/// If a file cannot be read or is no certificate or key.
pub fn server_config(args: &ServerArgs) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(&args.cert)?.collect::<Result<Vec<_>, _>>()?;
    let mut config = ServerConfig::builder_with_provider(provider(args.chacha20))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&args.key)?)?;
    config.alpn_protocols = vec![hq::alpn(args.http3).to_vec()];
    // RFC 9001 section 4.6.1: QUIC servers send this value or none.
    config.max_early_data_size = u32::MAX;
    if let Some(path) = &args.key_log {
        config.key_log = Arc::new(KeyLogTo::open(path)?);
    }
    Ok(config)
}

/// The client's configuration, which resumes from `tickets` whenever there is one.
///
/// # Errors
///
/// If the file cannot be read or is no certificate.
pub fn client_config(args: &ClientArgs, tickets: Arc<Tickets>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(&args.ca)? {
        roots.add(cert?)?;
    }
    let mut config = ClientConfig::builder_with_provider(provider(args.chacha20))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![hq::alpn(args.http3).to_vec()];
    config.enable_early_data = args.zero_rtt;
    config.resumption = if args.resume || args.zero_rtt { Resumption::store(tickets) } else { Resumption::disabled() };
    if let Some(path) = &args.key_log {
        config.key_log = Arc::new(KeyLogTo::open(path)?);
    }
    Ok(config)
}

/// A client's session tickets, newest first, each used once.
#[derive(Debug, Default)]
pub struct Tickets {
    sessions: Mutex<VecDeque<Tls13ClientSessionValue>>,
    arrived: tokio::sync::Notify,
}

impl Tickets {
    /// Waits until there is a ticket.
    pub async fn available(&self) {
        while self.lock().is_empty() {
            self.arrived.notified().await;
        }
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

/// Secrets into a file, in the format that Wireshark reads.
#[derive(Debug)]
pub struct KeyLogTo(Mutex<File>);

impl KeyLogTo {
    /// Appends to `path`.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self(Mutex::new(OpenOptions::new().create(true).append(true).open(path)?)))
    }
}

impl KeyLog for KeyLogTo {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        // A line that is missing shows in the matrix as a check that cannot be made.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }
}
