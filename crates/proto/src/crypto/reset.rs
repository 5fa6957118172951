//! Stateless reset tokens (RFC 9000 section 10.3).

use aws_lc_rs::hmac;
use warpline_wire::{ConnectionId, ResetToken};

/// The key from which the stateless reset token of every connection ID is derived (RFC 9000 section 10.3.2).
///
/// Processes that serve the same address share it, so that any of them can reset what another one has lost.
#[derive(Clone, Debug)]
pub struct ResetKey(hmac::Key);

impl ResetKey {
    /// A key from 32 secret bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The token that belongs to `cid`.
    pub(crate) fn token(&self, cid: &ConnectionId) -> ResetToken {
        let tag = hmac::sign(&self.0, cid);
        let mut token = [0; 16];
        token.copy_from_slice(&tag.as_ref()[..16]);
        ResetToken(token)
    }
}
