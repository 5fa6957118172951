//! Certificates: what the server shows, and what the client trusts.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use warpline::{
    ClientConfig, ConfigError, Identity, PacketCrypto, ServerConfig, TlsOptions, TransportConfig, provider,
};

use super::Failure;
use super::pin::{KeyHash, PinnedKey};

/// What the server shows.
pub struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// Made for this run, and known to nobody.
    pub is_self_signed: bool,
}

impl Shown {
    /// From PEM files.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Failure> {
        let chain = chain(certificate)?;
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| Failure::failed(format!("the key in {}: {error}", key.display())))?;
        Ok(Self { chain, key, is_self_signed: false })
    }

    /// A new one that bears `names`.
    pub fn generate<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, Failure> {
        let identity = Identity::generate(names).map_err(|error| Failure::failed(format!("a certificate: {error}")))?;
        Ok(Self { chain: vec![identity.certificate.clone()], key: identity.key(), is_self_signed: true })
    }

    /// The SHA-256 of the certificate's public key (SubjectPublicKeyInfo) in base64, as browsers take it.
    pub fn key_hash(&self) -> Result<KeyHash, Failure> {
        let first = self.chain.first().ok_or_else(|| Failure::failed("the file has no certificate"))?;
        KeyHash::of(first).map_err(|error| Failure::failed(format!("the certificate: {error}")))
    }

    /// For HTTP/3. Early data is taken: a file may be asked for twice.
    pub fn quic(&self, transport: TransportConfig, crypto: PacketCrypto) -> Result<ServerConfig, Failure> {
        ServerConfig::with_packet_crypto(crypto, self.chain.clone(), self.key.clone_key(), &[warpline_h3::ALPN])
            .and_then(|config| config.early_data(true))
            .and_then(|config| config.transport(transport))
            .map_err(|error| Failure::failed(format!("the certificate and its key: {error}")))
    }

    /// For HTTP/1.1.
    pub fn tcp(&self) -> Result<Arc<rustls::ServerConfig>, Failure> {
        let provider = provider::provider(PacketCrypto::Auto).map_err(|error| Failure::failed(error.to_string()))?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| {
                builder.with_no_client_auth().with_single_cert(self.chain.clone(), self.key.clone_key())
            })
            .map_err(|error| Failure::failed(format!("the certificate and its key: {error}")))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let broken = |error| Failure::failed(format!("the certificates in {}: {error}", path.display()));
    let chain = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(broken)?;
    if chain.is_empty() {
        return Err(Failure::failed(format!("{} has no certificate", path.display())));
    }
    Ok(chain)
}

/// What the client trusts.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// The system's certificate authorities.
    System,
    /// Those of a PEM file alone.
    File(&'a Path),
    /// Whoever holds this key.
    Key(KeyHash),
    /// Whoever answers.
    Anyone,
}

impl Trust<'_> {
    /// The configuration of a client with these options of TLS.
    pub fn client(self, transport: TransportConfig, options: &TlsOptions) -> Result<ClientConfig, Failure> {
        let failed = |error: ConfigError| Failure::failed(format!("the settings of TLS: {error}"));
        let trust = match self {
            Self::Anyone => warpline::Trust::Anyone,
            Self::Key(hash) => {
                let provider = provider::provider(PacketCrypto::Auto).map_err(failed)?;
                warpline::Trust::Verifier(Arc::new(PinnedKey { hash, provider }))
            }
            Self::File(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in chain(path)? {
                    roots.add(certificate).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
                }
                warpline::Trust::Roots(Arc::new(roots))
            }
            Self::System => warpline::Trust::Roots(Arc::new(system_roots()?)),
        };
        ClientConfig::with_options(&trust, &[warpline_h3::ALPN], options, None)
            .and_then(|config| config.transport(transport))
            .map_err(failed)
    }
}

fn system_roots() -> Result<RootCertStore, Failure> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry certificates that nobody can parse any more; the rest counts.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(Failure::failed(format!(
            "the system has no certificate authorities ({}); install ca-certificates or name a file with --ca",
            if why.is_empty() { "none found".to_owned() } else { why.join("; ") },
        )));
    }
    Ok(roots)
}
