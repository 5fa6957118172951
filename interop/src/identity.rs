//! Certificates for peers, made on the spot.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A self-signed certificate for `localhost` with its key, in memory and as PEM files.
#[derive(Debug)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    directory: tempfile::TempDir,
}

impl Identity {
    /// A new one: ECDSA on P-256.
    ///
    /// # Errors
    ///
    /// When the key cannot be made or the files cannot be written.
    pub fn new() -> io::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).map_err(io::Error::other)?;
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("cert.pem"), made.cert.pem())?;
        std::fs::write(directory.path().join("key.pem"), made.signing_key.serialize_pem())?;
        Ok(Self { certificate: made.cert.der().clone(), key: made.signing_key.serialize_der(), directory })
    }

    /// A file with the certificate and others behind it that have nothing to do with it: a chain of some 14 KB, far more
    /// than three times a client's first datagram.
    ///
    /// # Errors
    ///
    /// When a key cannot be made or the file cannot be written.
    pub fn long_chain_file(&self) -> io::Result<PathBuf> {
        let mut chain = std::fs::read_to_string(self.certificate_file())?;
        for index in 0..9 {
            let names: Vec<String> = (0..16).map(|part| format!("{part}.{index}.{}.example", "x".repeat(60))).collect();
            chain += &rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?.cert.pem();
        }
        let path = self.directory.path().join("chain.pem");
        std::fs::write(&path, chain)?;
        Ok(path)
    }

    /// The certificate.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// The private key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    /// The certificate as a PEM file, there as long as `self` is.
    pub fn certificate_file(&self) -> PathBuf {
        self.directory.path().join("cert.pem")
    }

    /// The private key as a PEM file, there as long as `self` is.
    pub fn key_file(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    /// A directory of one's own beside these files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}
