//! Secrets that the processes behind one address share, and the keys derived from them.

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};

use crate::error::ConfigError;
use crate::limits::FLEET_SECRETS_MAX;

/// What the keys of tickets, address tokens and stateless resets are derived from, each with a label of its own
/// (HKDF-SHA256, RFC 5869).
///
/// The processes that serve one address share it: then any of them resumes a session that another one began, accepts an
/// address token of another one, and resets a connection that another one has lost. The first secret makes what is
/// given out; those before it are still accepted. To change the secret of a fleet, first add the new one everywhere
/// [`as a previous one`](Self::with_previous), then make it the current one everywhere, and drop the old one when the
/// longest lifetime (a week for tickets) is over. RFC 9000 section 21.11 asks for care with the keys of resets: whoever
/// has one can end the connections of the fleet.
#[derive(Clone)]
pub struct FleetKeys {
    secrets: Vec<[u8; 32]>,
}

impl FleetKeys {
    /// Keys from one secret of 32 random bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self { secrets: vec![*secret] }
    }

    /// The same, which also accepts what was made with `secret`.
    ///
    /// # Errors
    /// With more than [`FLEET_SECRETS_MAX`] secrets: each one is tried for every token.
    pub fn with_previous(mut self, secret: &[u8; 32]) -> Result<Self, ConfigError> {
        if self.secrets.len() >= FLEET_SECRETS_MAX {
            return Err(ConfigError::OutOfRange { name: "fleet keys", why: "takes at most 4 secrets" });
        }
        self.secrets.push(*secret);
        Ok(self)
    }

    /// The same with `secret` as the current one; those before it are still accepted.
    #[must_use]
    pub fn with_current(mut self, secret: &[u8; 32]) -> Self {
        self.secrets[0] = *secret;
        self
    }

    /// The current secret, to be handed to a process that takes over.
    pub fn current(&self) -> &[u8; 32] {
        &self.secrets[0]
    }

    /// A key of 32 bytes for each secret, the current one first.
    pub(crate) fn derive(&self, label: &'static [u8]) -> impl Iterator<Item = [u8; 32]> + '_ {
        let salt = Salt::new(HKDF_SHA256, b"warpline fleet keys 1");
        self.secrets.iter().map(move |secret| {
            let mut key = [0; 32];
            salt.extract(secret)
                .expand(&[label], Len32)
                .and_then(|okm| okm.fill(&mut key))
                .expect("32 bytes are within what HKDF-SHA256 gives");
            key
        })
    }
}

struct Len32;

impl KeyType for Len32 {
    fn len(&self) -> usize {
        32
    }
}

impl std::fmt::Debug for FleetKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FleetKeys({} secrets)", self.secrets.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_secrets_give_different_keys() {
        let keys = FleetKeys::new(&[1; 32]).with_previous(&[2; 32]).unwrap();
        let a: Vec<_> = keys.derive(b"a").collect();
        let b: Vec<_> = keys.derive(b"b").collect();
        assert_eq!(a.len(), 2);
        assert!(a[0] != a[1] && a[0] != b[0] && a[0] != [1; 32]);
        assert_eq!(FleetKeys::new(&[2; 32]).derive(b"a").next(), Some(a[1]), "the order does not matter to a key");
        let full = (3..=4).fold(keys, |k, n| k.with_previous(&[n; 32]).unwrap());
        assert!(full.with_previous(&[5; 32]).is_err());
    }
}
