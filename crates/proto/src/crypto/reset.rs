//! Stateless reset tokens (RFC 9000 section 10.3).

use aws_lc_rs::hmac;
use warpline_wire::{ConnectionId, ResetToken};

use super::FleetKeys;

/// The keys from which the stateless reset token of every connection ID is derived (RFC 9000 section 10.3.2).
///
/// Processes that serve the same address share them, so that any of them can reset what another one has lost. Tokens are
/// given out under the first key. Which key a lost connection's token was made with is not known; resets take the keys
/// in turn, and a peer that goes on sending meets the right one.
#[derive(Clone, Debug)]
pub struct ResetKey(Vec<hmac::Key>);

impl ResetKey {
    /// Keys derived from `keys`.
    pub fn new(keys: &FleetKeys) -> Self {
        Self(keys.derive(b"stateless reset").map(|secret| hmac::Key::new(hmac::HMAC_SHA256, &secret)).collect())
    }

    /// The token that belongs to `cid`.
    pub(crate) fn token(&self, cid: &ConnectionId) -> ResetToken {
        self.token_of_key(cid, 0)
    }

    /// The token that `cid` has under the key of number `turn`, counted around.
    pub(crate) fn token_of_key(&self, cid: &ConnectionId, turn: usize) -> ResetToken {
        let tag = hmac::sign(&self.0[turn % self.0.len()], cid);
        let mut token = [0; 16];
        token.copy_from_slice(&tag.as_ref()[..16]);
        ResetToken(token)
    }
}
