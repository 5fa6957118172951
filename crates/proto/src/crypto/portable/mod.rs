//! Sessions that outlive the process: how they leave TLS, and how they come back into it.
//!
//! TLS (rustls) gives out neither the secret of a session nor a way to make a session of a secret. What it leaves to its
//! users is enough for both:
//!
//! - **Out.** The secret of a ticket is derived by the cipher suite's HKDF under the label "resumption" (RFC 8446 section
//!   4.6.1), and the HKDF is ours to wrap ([`suites`]). The rest is in the NewSessionTicket message, which passes
//!   through here on its way to TLS ([`ticket`]).
//! - **In.** A client and a server of TLS are run against each other in memory ([`revive`]). The server shows the chain that
//!   the real one showed, which the client verifies as ever, by today's date; then the ticket is given to the client as if
//!   it came now, and what its nonce leads to is the secret that was kept. The session that comes of it is a genuine
//!   one: nothing is left out or made up that TLS would check when it is used.
//!
//! Two things must be possible in such a handshake and nowhere else: a signature without the server's key, and a secret by
//! word of mouth. Both take [`key`], which this process drew at random and which never leaves it.

mod revive;
mod suites;
mod ticket;
mod trust;

use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;

pub(crate) use self::revive::revive;
pub(crate) use self::suites::listen;
pub(crate) use self::ticket::{Messages, NewTicket};
use self::trust::Vouched;
use crate::error::ConfigError;

const KEY_LEN: usize = 32;

/// What only this process knows.
static KEY: OnceLock<[u8; KEY_LEN]> = OnceLock::new();

/// `None` before anybody has asked for portable sessions.
fn key() -> Option<&'static [u8; KEY_LEN]> {
    KEY.get()
}

/// As whom, and by what kind of trust, a client connects; by hash, zeros for nobody by one of this crate's. A session stands
/// for the client that began it, so it is resumed as the same one only. And it stands for a signature that was verified
/// when it began, of which a verifier of the caller's may think otherwise: what it let in is not for others.
pub(crate) type ClientIdentity = [u8; 32];

/// The identity of a client with this chain.
pub(crate) fn identity(chain: Option<&[CertificateDer<'static>]>, is_own_verifier: bool) -> ClientIdentity {
    let mut identity = [0; 32];
    if chain.is_some() || is_own_verifier {
        let mut hash = Context::new(&SHA256);
        hash.update(&[u8::from(is_own_verifier)]);
        for certificate in chain.unwrap_or_default() {
            hash.update(&(certificate.len() as u64).to_be_bytes());
            hash.update(certificate);
        }
        identity.copy_from_slice(hash.finish().as_ref());
    }
    identity
}

/// `provider` and `verifier` with what portable sessions need.
///
/// # Errors
/// There are no random bytes, or the verifier wants raw public keys, which sessions are not kept of.
pub(crate) fn prepare(
    provider: &CryptoProvider,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<(Arc<CryptoProvider>, Arc<dyn ServerCertVerifier>), ConfigError> {
    if verifier.requires_raw_public_keys() {
        let why = "cannot be had with raw public keys";
        return Err(ConfigError::OutOfRange { name: "portable_sessions", why });
    }
    let mut drawn = [0; KEY_LEN];
    rand::fill(&mut drawn).map_err(|_| ConfigError::Tls("no random bytes".into()))?;
    KEY.get_or_init(|| drawn);
    let mut provider = provider.clone();
    for suite in &mut provider.cipher_suites {
        *suite = suites::watched(*suite);
    }
    Ok((Arc::new(provider), Arc::new(Vouched::new(verifier))))
}
