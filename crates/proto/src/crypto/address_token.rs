//! Address validation tokens: what a server hands out in Retry and NEW_TOKEN and later recognises as its own
//! (RFC 9000 sections 8.1.1 to 8.1.4).

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use warpline_wire::{ConnectionId, Reader, Writer};

use crate::limits::{NEW_TOKEN_LIFETIME, RETRY_TOKEN_LIFETIME};
use crate::time::Instant;

const TAG_LEN: usize = 16;
/// Kind, time, address, port, and for Retry the original connection ID.
const PLAINTEXT_MAX: usize = 1 + 8 + 17 + 2 + 21;

/// The key that seals address validation tokens; shared by the processes that serve one address.
pub struct TokenKey(LessSafeKey);

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
    /// A key from 32 secret bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, secret).expect("an AES-256 key is 32 bytes long")))
    }

    /// Seals a token that says: `remote` was reachable at `now`.
    pub(crate) fn seal(&self, kind: TokenKind, remote: SocketAddr, now: Instant, nonce: [u8; NONCE_LEN]) -> Vec<u8> {
        let mut plain = [0; PLAINTEXT_MAX];
        let mut w = Writer::new(&mut plain);
        match kind {
            TokenKind::Retry(original) => {
                w.u8(1);
                write_peer(&mut w, remote, now);
                w.u16(remote.port());
                w.u8(original.len() as u8);
                w.slice(&original);
            }
            TokenKind::Future => {
                w.u8(0);
                write_peer(&mut w, remote, now);
            }
        }
        let mut token = nonce.to_vec();
        token.extend_from_slice(w.written());
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut token[NONCE_LEN..])
            .expect("a token is far below the cipher's limit");
        token.extend_from_slice(tag.as_ref());
        token
    }

    /// What the token that came from `remote` proves at `now`.
    pub(crate) fn open(&self, token: &[u8], remote: SocketAddr, now: Instant) -> Result<TokenKind, TokenError> {
        if token.len() < NONCE_LEN + TAG_LEN || token.len() > NONCE_LEN + PLAINTEXT_MAX + TAG_LEN {
            return Err(TokenError::Unknown);
        }
        let (nonce, sealed) = token.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| TokenError::Unknown)?;
        let mut buf = [0; PLAINTEXT_MAX + TAG_LEN];
        let buf = &mut buf[..sealed.len()];
        buf.copy_from_slice(sealed);
        let plain = self.0.open_in_place(nonce, Aad::empty(), buf).map_err(|_| TokenError::Unknown)?;
        read(plain, remote, now).unwrap_or(Err(TokenError::Unknown))
    }
}

fn write_peer(w: &mut Writer<'_>, remote: SocketAddr, now: Instant) {
    w.u64(now.as_nanos());
    match remote.ip() {
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
fn read(plain: &[u8], remote: SocketAddr, now: Instant) -> Option<Result<TokenKind, TokenError>> {
    let mut r = Reader::new(plain);
    let is_retry = r.u8().ok()? == 1;
    let age = now - Instant::from_nanos(r.u64().ok()?);
    let ip = match r.u8().ok()? {
        4 => IpAddr::from(<[u8; 4]>::try_from(r.bytes(4).ok()?).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(r.bytes(16).ok()?).ok()?),
    };
    if !is_retry {
        let good = ip == remote.ip() && age <= NEW_TOKEN_LIFETIME;
        return Some(if good { Ok(TokenKind::Future) } else { Err(TokenError::Stale) });
    }
    let port = r.u16().ok()?;
    let cid_len = usize::from(r.u8().ok()?);
    let original = ConnectionId::new(r.bytes(cid_len).ok()?)?;
    let good = ip == remote.ip() && port == remote.port() && age <= RETRY_TOKEN_LIFETIME;
    Some(if good { Ok(TokenKind::Retry(original)) } else { Err(TokenError::InvalidRetry) })
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}
