//! A client's memory as bytes, for a file: what may be there is anything.
//!
//! ```text
//! "warpline memory\n"  16 bytes
//! format               u8, 1
//! servers              u32, each: name (u8 length), port u16, QUIC version u32,
//!                                 tokens (u8 count), each: u16 length and bytes
//! SHA-256 of all that  32 bytes
//! ```
//! Numbers are big-endian. Address tokens are written. TLS sessions are not: the TLS library keeps their secrets to
//! itself, so they live as long as the process.

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::ServerName;
use warpline_wire::{Reader, Version};

use super::memory::{ClientMemory, ServerKey};
use crate::limits::{TOKEN_LEN_MAX, TOKENS_PER_SERVER};

const MAGIC: &[u8; 16] = b"warpline memory\n";
const FORMAT: u8 = 1;
const DIGEST_LEN: usize = 32;

/// A memory was not taken from bytes; what was remembered before is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// Something else than a memory.
    #[error("not a file of remembered servers")]
    Foreign,
    /// Written by another version of this library.
    #[error("format {0} of remembered servers is not known here")]
    Format(u8),
    /// Cut short, damaged or made up.
    #[error("the file of remembered servers is damaged")]
    Damaged,
}

impl ClientMemory {
    /// The address tokens as bytes, for [`import`](Self::import) by another process. They are secrets of a kind: who has
    /// them can pass for this client's address once.
    pub fn export(&self) -> Vec<u8> {
        let mut servers = Vec::new();
        let mut count = 0u32;
        self.for_each(|key, server| {
            let Ok(name_len) = u8::try_from(key.name.len()) else { return };
            if server.tokens.is_empty() {
                return;
            }
            count += 1;
            servers.push(name_len);
            servers.extend_from_slice(key.name.as_bytes());
            servers.extend_from_slice(&key.port.to_be_bytes());
            servers.extend_from_slice(&key.version.to_be_bytes());
            servers.push(server.tokens.len() as u8);
            for token in &server.tokens {
                servers.extend_from_slice(&(token.len() as u16).to_be_bytes());
                servers.extend_from_slice(token);
            }
        });
        let mut out = MAGIC.to_vec();
        out.push(FORMAT);
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&servers);
        let sum = digest(&SHA256, &out);
        out.extend_from_slice(sum.as_ref());
        out
    }

    /// Adds what [`export`](Self::export) wrote; returns the number of tokens. All or nothing, and never more than this
    /// memory holds.
    ///
    /// # Errors
    /// [`MemoryError`] when the bytes are anything else.
    pub fn import(&self, bytes: &[u8]) -> Result<usize, MemoryError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(MemoryError::Foreign)?;
        let format = *rest.first().ok_or(MemoryError::Damaged)?;
        if format != FORMAT {
            return Err(MemoryError::Format(format));
        }
        let (body, sum) = bytes.split_last_chunk::<DIGEST_LEN>().ok_or(MemoryError::Damaged)?;
        if digest(&SHA256, body).as_ref() != sum {
            return Err(MemoryError::Damaged);
        }
        let body = body.get(MAGIC.len() + 1..).ok_or(MemoryError::Damaged)?;
        let tokens = parse(&mut Reader::new(body)).ok_or(MemoryError::Damaged)?;
        for (key, token) in &tokens {
            self.put_token(key.clone(), token);
        }
        Ok(tokens.len())
    }
}

/// `None` when the bytes are not of the form that `export` writes. A digest shows damage, not intent: nothing is believed.
fn parse(r: &mut Reader<'_>) -> Option<Vec<(ServerKey, Vec<u8>)>> {
    let servers = r.u32().ok()?;
    let mut tokens = Vec::new();
    for _ in 0..servers {
        let name_len = usize::from(r.u8().ok()?);
        let name = std::str::from_utf8(r.bytes(name_len).ok()?).ok()?;
        let name = ServerName::try_from(name).ok()?;
        let port = r.u16().ok()?;
        let key = ServerKey::new(&name, port, Version(r.u32().ok()?));
        let count = usize::from(r.u8().ok()?);
        if count > TOKENS_PER_SERVER {
            return None;
        }
        for _ in 0..count {
            let len = usize::from(r.u16().ok()?);
            if !(1..=TOKEN_LEN_MAX).contains(&len) {
                return None;
            }
            tokens.push((key.clone(), r.bytes(len).ok()?.to_vec()));
        }
    }
    r.is_empty().then_some(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> ClientMemory {
        let memory = ClientMemory::new(10);
        for (host, version) in [("a.example", Version::V1), ("a.example", Version::V2), ("192.0.2.7", Version::V1)] {
            let key = ServerKey::new(&ServerName::try_from(host).unwrap(), 4433, version);
            memory.put_token(key.clone(), b"one");
            memory.put_token(key, &[7; TOKEN_LEN_MAX]);
        }
        memory
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = filled().export();
        let copy = ClientMemory::new(10);
        assert_eq!(copy.import(&bytes), Ok(6));
        assert_eq!(copy.export(), bytes);
        let small = ClientMemory::new(2);
        assert_eq!(small.import(&bytes), Ok(6));
        assert_eq!(small.stats().servers, 2, "a memory holds no more than it is made for");
    }

    #[test]
    fn every_damage_is_found_and_nothing_is_taken() {
        let good = filled().export();
        let memory = ClientMemory::new(10);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            assert!(memory.import(&bad).is_err(), "byte {at}");
            assert!(memory.import(&good[..at]).is_err(), "length {at}");
        }
        assert_eq!(memory.import(b"PK\x03\x04"), Err(MemoryError::Foreign));
        assert_eq!(memory.stats().servers, 0);
    }

    #[test]
    fn a_well_summed_lie_is_refused() {
        let seal = |body: &[u8]| {
            let mut out = MAGIC.to_vec();
            out.push(FORMAT);
            out.extend_from_slice(body);
            let sum = digest(&SHA256, &out);
            out.extend_from_slice(sum.as_ref());
            out
        };
        let memory = ClientMemory::new(10);
        let lies: [&[u8]; 6] = [
            &[0xff, 0xff, 0xff, 0xff],                         // servers that are not there
            &[0, 0, 0, 0, 9],                                  // something behind the end
            &[0, 0, 0, 1, 1, b' ', 0, 1, 0, 0, 0, 1, 0],       // no host's name
            &[0, 0, 0, 1, 1, 0xff, 0, 1, 0, 0, 0, 1, 0],       // no text
            &[0, 0, 0, 1, 1, b'a', 0, 1, 0, 0, 0, 1, 1, 0, 0], // a token of no bytes
            &[0, 0, 0, 1, 1, b'a', 0, 1, 0, 0, 0, 1, TOKENS_PER_SERVER as u8 + 1], // more tokens than are kept
        ];
        for lie in lies {
            assert_eq!(memory.import(&seal(lie)), Err(MemoryError::Damaged), "{lie:?}");
        }
        assert_eq!(memory.import(&seal(&[0, 0, 0, 0])), Ok(0));
    }
}
