//! The certificate of a run: P-256, self-signed, made anew and used by every stack.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256};
use warpline_peer_kit::SERVER_NAME;

use crate::Result;

/// Where the certificate and its key lie.
#[derive(Debug)]
pub struct Identity {
    /// The certificate, which is also the root that clients trust.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Identity {
    /// Makes a certificate for `localhost` and the loopback addresses in `dir`.
    pub fn create(dir: &Path) -> Result<Self> {
        let key_pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let names = [SERVER_NAME, "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
        // No key usage: one without the signing of certificates keeps BoringSSL from taking the certificate for its own
        // issuer, and one with it would make the server's certificate an authority's.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let cert = params.self_signed(&key_pair)?;
        let identity = Self { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
        fs::write(&identity.cert, cert.pem())?;
        fs::write(&identity.key, key_pair.serialize_pem())?;
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_pem_files() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::create(dir.path()).unwrap();
        assert!(fs::read_to_string(identity.cert).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(fs::read_to_string(identity.key).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
    }
}
