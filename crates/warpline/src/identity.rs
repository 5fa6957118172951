//! Identities without an authority: a self-signed certificate, and the fingerprint by which a peer knows it.

use std::fmt;
use warpline_proto::ConfigError;

use crate::{CertificateDer, PrivateKeyDer};

/// The SHA-256 of a certificate's DER encoding.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of a certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    /// Lower-case hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A key and the certificate that it signed for itself (ECDSA on P-256).
///
/// A peer trusts it by its fingerprint, see
/// [`ClientConfig::with_pinned_fingerprint`](crate::ClientConfig::with_pinned_fingerprint): names and dates in it mean
/// nothing.
pub struct Identity {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    /// Makes a new one that bears `names`.
    ///
    /// # Errors
    /// [`ConfigError::Tls`] for names that a certificate cannot bear, or without random bytes.
    pub fn generate<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, ConfigError> {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let made = rcgen::generate_simple_self_signed(names).map_err(|error| ConfigError::Tls(error.to_string()))?;
        Ok(Self { certificate: made.cert.der().clone(), key: made.signing_key.serialize_der() })
    }

    /// One that was stored.
    #[must_use]
    pub fn from_der(certificate: CertificateDer<'static>, key_pkcs8: Vec<u8>) -> Self {
        Self { certificate, key: key_pkcs8 }
    }

    /// What peers know it by.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// The private key in PKCS#8 DER, to be stored. Secret.
    #[must_use]
    pub fn key_pkcs8(&self) -> &[u8] {
        &self.key
    }

    /// The private key as TLS wants it.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone().into())
    }
}

impl fmt::Debug for Identity {
    /// Leaves out the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_identity_is_the_same() {
        let made = Identity::generate(["localhost"]).expect("the name is fine");
        let stored = Identity::from_der(made.certificate.clone(), made.key_pkcs8().to_vec());
        assert_eq!(stored.fingerprint(), made.fingerprint());
        assert_eq!(made.fingerprint().to_string().len(), 64);
        let other = Identity::generate(["localhost"]).expect("the name is fine");
        assert_ne!(other.fingerprint(), made.fingerprint());
    }
}
