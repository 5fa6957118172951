//! Address validation tokens: what a server hands out in Retry and NEW_TOKEN and later recognises as its own
//! (RFC 9000 sections 8.1.1 to 8.1.4).

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use warpline_wire::{ConnectionId, Reader, Version, Writer};

use super::FleetKeys;
use crate::limits::{NEW_TOKEN_LIFETIME, RETRY_TOKEN_LIFETIME};
use crate::time::Instant;

const TAG_LEN: usize = 16;
/// Kind, version, time, address, port, and for Retry the original connection ID.
const PLAINTEXT_MAX: usize = 1 + 4 + 8 + 17 + 2 + 21;

/// The keys of address validation tokens; shared by the processes that serve one address. The first one seals, all open.
pub struct TokenKey(Vec<LessSafeKey>);

/// For whom and when a token was given out, or is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenScope {
    /// The client's address.
    pub(crate) remote: SocketAddr,
    /// A token is good for the version that it was given out in (RFC 9369 section 5).
    pub(crate) version: Version,
    /// Time that all processes with the key agree on.
    pub(crate) now: Instant,
}

/// What a token was given out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// In a Retry packet, for the handshake that goes on with it. Carries the connection ID that the client chose first.
    Retry(ConnectionId),
    /// In a NEW_TOKEN frame, for a later connection.
    Future,
}

/// Why a token does not validate its sender's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenError {
    /// Not sealed by this key: from another server, damaged or made up.
    Unknown,
    /// A Retry token of ours that is too old or comes from another address.
    InvalidRetry,
    /// A NEW_TOKEN token of ours that is too old or comes from another address.
    Stale,
}

impl TokenKey {
    /// Keys derived from `keys`.
    pub fn new(keys: &FleetKeys) -> Self {
        let key = |secret: [u8; 32]| {
            LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &secret).expect("an AES-256 key is 32 bytes long"))
        };
        Self(keys.derive(b"address token").map(key).collect())
    }

    /// Seals a token that says: the address was reachable at that time.
    pub(crate) fn seal(&self, kind: TokenKind, scope: &TokenScope, nonce: [u8; NONCE_LEN]) -> Vec<u8> {
        let mut plain = [0; PLAINTEXT_MAX];
        let mut w = Writer::new(&mut plain);
        match kind {
            TokenKind::Retry(original) => {
                w.u8(1);
                write_scope(&mut w, scope);
                w.u16(scope.remote.port());
                w.u8(original.len() as u8);
                w.slice(&original);
            }
            TokenKind::Future => {
                w.u8(0);
                write_scope(&mut w, scope);
            }
        }
        let mut token = nonce.to_vec();
        token.extend_from_slice(w.written());
        let key = self.0.first().expect("fleet keys hold at least one secret");
        let tag = key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut token[NONCE_LEN..])
            .expect("a token is far below the cipher's limit");
        token.extend_from_slice(tag.as_ref());
        token
    }

    /// What the token proves to whom it is shown.
    pub(crate) fn open(&self, token: &[u8], scope: &TokenScope) -> Result<TokenKind, TokenError> {
        if token.len() < NONCE_LEN + TAG_LEN || token.len() > NONCE_LEN + PLAINTEXT_MAX + TAG_LEN {
            return Err(TokenError::Unknown);
        }
        let (nonce, sealed) = token.split_at(NONCE_LEN);
        for key in &self.0 {
            let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| TokenError::Unknown)?;
            let mut buf = [0; PLAINTEXT_MAX + TAG_LEN];
            let buf = &mut buf[..sealed.len()];
            buf.copy_from_slice(sealed);
            if let Ok(plain) = key.open_in_place(nonce, Aad::empty(), buf) {
                return read(plain, scope).unwrap_or(Err(TokenError::Unknown));
            }
        }
        Err(TokenError::Unknown)
    }
}

fn write_scope(w: &mut Writer<'_>, scope: &TokenScope) {
    w.u32(scope.version.0);
    w.u64(scope.now.as_nanos());
    match scope.remote.ip() {
        IpAddr::V4(ip) => {
            w.u8(4);
            w.slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            w.u8(6);
            w.slice(&ip.octets());
        }
    }
}

/// `None` when the plaintext is not of the form that `seal` writes.
fn read(plain: &[u8], scope: &TokenScope) -> Option<Result<TokenKind, TokenError>> {
    let mut r = Reader::new(plain);
    let is_retry = r.u8().ok()? == 1;
    let same_version = r.u32().ok()? == scope.version.0;
    let age = scope.now - Instant::from_nanos(r.u64().ok()?);
    let ip = match r.u8().ok()? {
        4 => IpAddr::from(<[u8; 4]>::try_from(r.bytes(4).ok()?).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(r.bytes(16).ok()?).ok()?),
    };
    let is_good = same_version && ip == scope.remote.ip();
    if !is_retry {
        let is_good = is_good && age <= NEW_TOKEN_LIFETIME;
        return Some(if is_good { Ok(TokenKind::Future) } else { Err(TokenError::Stale) });
    }
    let port = r.u16().ok()?;
    let cid_len = usize::from(r.u8().ok()?);
    let original = ConnectionId::new(r.bytes(cid_len).ok()?)?;
    let is_good = is_good && port == scope.remote.port() && age <= RETRY_TOKEN_LIFETIME;
    Some(if is_good { Ok(TokenKind::Retry(original)) } else { Err(TokenError::InvalidRetry) })
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(remote: &str, version: Version, secs: u64) -> TokenScope {
        TokenScope { remote: remote.parse().unwrap(), version, now: Instant::from_nanos(secs * 1_000_000_000) }
    }

    #[test]
    fn a_token_is_good_for_its_address_version_and_time() {
        let key = TokenKey::new(&FleetKeys::new(&[1; 32]));
        let home = scope("192.0.2.1:5", Version::V1, 100);
        let future = key.seal(TokenKind::Future, &home, [9; 12]);
        assert_eq!(key.open(&future, &home), Ok(TokenKind::Future));
        assert_eq!(key.open(&future, &scope("192.0.2.1:6", Version::V1, 200)), Ok(TokenKind::Future), "any port");
        for elsewhere in [
            scope("192.0.2.2:5", Version::V1, 100),
            scope("192.0.2.1:5", Version::V2, 100),
            scope("192.0.2.1:5", Version::V1, 101 + NEW_TOKEN_LIFETIME.as_secs()),
        ] {
            assert_eq!(key.open(&future, &elsewhere), Err(TokenError::Stale), "{elsewhere:?}");
        }
        let cid = ConnectionId::new(&[7; 20]).unwrap();
        let retry = key.seal(TokenKind::Retry(cid), &home, [8; 12]);
        assert_eq!(key.open(&retry, &home), Ok(TokenKind::Retry(cid)));
        for elsewhere in [
            scope("192.0.2.1:6", Version::V1, 100),
            scope("192.0.2.1:5", Version::V2, 100),
            scope("192.0.2.1:5", Version::V1, 116),
        ] {
            assert_eq!(key.open(&retry, &elsewhere), Err(TokenError::InvalidRetry), "{elsewhere:?}");
        }
        let mut damaged = retry.clone();
        damaged[20] ^= 1;
        assert_eq!(key.open(&damaged, &home), Err(TokenError::Unknown));
    }

    #[test]
    fn tokens_of_the_previous_secret_are_still_known() {
        let home = scope("[2001:db8::1]:5", Version::V2, 100);
        let old = TokenKey::new(&FleetKeys::new(&[1; 32])).seal(TokenKind::Future, &home, [9; 12]);
        let rotated = FleetKeys::new(&[2; 32]).with_previous(&[1; 32]).unwrap();
        assert_eq!(TokenKey::new(&rotated).open(&old, &home), Ok(TokenKind::Future));
        assert_eq!(TokenKey::new(&FleetKeys::new(&[2; 32])).open(&old, &home), Err(TokenError::Unknown));
        let new = TokenKey::new(&rotated).seal(TokenKind::Future, &home, [9; 12]);
        assert_eq!(
            TokenKey::new(&FleetKeys::new(&[2; 32])).open(&new, &home),
            Ok(TokenKind::Future),
            "the first one seals"
        );
    }
}
