//! The one signature that is taken without the server's key: that of a handshake in memory.

use std::sync::Arc;

use aws_lc_rs::hmac;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::sign::{Signer, SigningKey};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::key;

/// A verifier that also takes signatures of [`Voucher`]. The chain is judged as ever.
#[derive(Debug)]
pub(super) struct Vouched(Arc<dyn ServerCertVerifier>);

impl Vouched {
    pub(super) fn new(inner: Arc<dyn ServerCertVerifier>) -> Self {
        Self(inner)
    }
}

impl ServerCertVerifier for Vouched {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if mac_key().is_some_and(|key| hmac::verify(&key, message, signature.signature()).is_ok()) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.0.requires_raw_public_keys()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.0.root_hint_subjects()
    }
}

fn mac_key() -> Option<hmac::Key> {
    Some(hmac::Key::new(hmac::HMAC_SHA256, key()?))
}

/// Signs with what only this process knows, in the name of whatever scheme is wanted.
#[derive(Debug)]
pub(super) struct Voucher;

impl SigningKey for Voucher {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.first().map(|scheme| Box::new(Mac(*scheme)) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::Anonymous
    }
}

#[derive(Debug)]
struct Mac(SignatureScheme);

impl Signer for Mac {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let key = mac_key().ok_or_else(|| Error::General("portable sessions were not asked for".into()))?;
        Ok(hmac::sign(&key, message).as_ref().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        self.0
    }
}
