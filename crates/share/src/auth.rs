//! Who is who: the code pins the host's certificate, and both sides prove that they know its secret.
//!
//! A proof is a keyed hash over keying material of this very TLS connection (RFC 8446 section 7.5), so it proves nothing on any other
//! connection: an attacker in between cannot pass it on.

use warpline::Connection;

use crate::code::SECRET_LEN;
use crate::error::ShareError;

const LABEL: &[u8] = b"EXPORTER-warpline-share";

/// Which side proves.
#[derive(Clone, Copy)]
pub enum Role {
    /// The host.
    Host,
    /// The receiver.
    Receiver,
}

/// The proof of `role` on `connection`.
pub async fn proof(connection: &Connection, secret: &[u8; SECRET_LEN], role: Role) -> Result<blake3::Hash, ShareError> {
    let material = connection
        .export_keying_material(32, LABEL, b"")
        .await
        .map_err(ShareError::connection)?
        .map_err(ShareError::connection)?;
    let key = blake3::derive_key("warpline share 2026 proof", secret);
    let mut hasher = blake3::Hasher::new_keyed(&key);
    hasher.update(match role {
        Role::Host => b"host",
        Role::Receiver => b"receiver",
    });
    hasher.update(&material);
    // `blake3::Hash` compares in constant time.
    Ok(hasher.finalize())
}
