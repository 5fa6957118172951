//! Packet protection (RFC 9001 section 5), from public information or from a key log.

use std::collections::HashMap;

use ring::aead::quic::{AES_128, AES_256, CHACHA20, HeaderProtectionKey};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{self, HKDF_SHA256, HKDF_SHA384, Prk};

use super::packet::VERSION_2;

/// RFC 9001 section 5.2.
const SALT_V1: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f,
    0x0a,
];
/// RFC 9369 section 3.3.1.
const SALT_V2: [u8; 20] = [
    0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9, 0xbd, 0x2e,
    0xd9,
];
/// TLS cipher suites (RFC 8446 appendix B.4).
pub const TLS_AES_128_GCM_SHA256: u16 = 0x1301;
const TLS_AES_256_GCM_SHA384: u16 = 0x1302;
/// The third of them.
pub const TLS_CHACHA20_POLY1305_SHA256: u16 = 0x1303;

/// Keys of one direction and one generation, with the secret that the next is made from.
pub struct Keys {
    suite: u16,
    version: u32,
    secret: Prk,
    packet: LessSafeKey,
    iv: [u8; 12],
    header: HeaderProtectionKey,
}

struct Len(usize);

impl hkdf::KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label (RFC 8446 section 7.1) without a context.
fn expand<const N: usize>(prk: &Prk, label: &str, len: usize) -> Option<[u8; N]> {
    let len_bytes = u16::try_from(len).ok()?.to_be_bytes();
    let label_len = [u8::try_from(6 + label.len()).ok()?];
    let info: [&[u8]; 5] = [&len_bytes, &label_len, b"tls13 ", label.as_bytes(), &[0]];
    let mut out = [0; N];
    prk.expand(&info, Len(len)).ok()?.fill(out.get_mut(..len)?).ok()?;
    Some(out)
}

fn label(version: u32, name: &str) -> String {
    if version == VERSION_2 { format!("quicv2 {name}") } else { format!("quic {name}") }
}

impl Keys {
    /// The keys of Initial packets, of the client's or the server's direction.
    pub fn initial(version: u32, first_dcid: &[u8], of_client: bool) -> Option<Self> {
        let salt = if version == VERSION_2 { &SALT_V2 } else { &SALT_V1 };
        let initial = hkdf::Salt::new(HKDF_SHA256, salt).extract(first_dcid);
        let secret: [u8; 32] = expand(&initial, if of_client { "client in" } else { "server in" }, 32)?;
        Self::new(TLS_AES_128_GCM_SHA256, version, &secret)
    }

    /// From a traffic secret.
    pub fn new(suite: u16, version: u32, secret: &[u8]) -> Option<Self> {
        let hash = if suite == TLS_AES_256_GCM_SHA384 { HKDF_SHA384 } else { HKDF_SHA256 };
        let secret = Prk::new_less_safe(hash, secret);
        let (aead, header, len) = match suite {
            TLS_AES_128_GCM_SHA256 => (&AES_128_GCM, &AES_128, 16),
            TLS_AES_256_GCM_SHA384 => (&AES_256_GCM, &AES_256, 32),
            TLS_CHACHA20_POLY1305_SHA256 => (&CHACHA20_POLY1305, &CHACHA20, 32),
            _ => return None,
        };
        let key: [u8; 32] = expand(&secret, &label(version, "key"), len)?;
        let mask: [u8; 32] = expand(&secret, &label(version, "hp"), len)?;
        Some(Self {
            suite,
            version,
            packet: LessSafeKey::new(UnboundKey::new(aead, key.get(..len)?).ok()?),
            iv: expand(&secret, &label(version, "iv"), 12)?,
            header: HeaderProtectionKey::new(header, mask.get(..len)?).ok()?,
            secret,
        })
    }

    /// The next generation; the header protection stays the same (RFC 9001 section 6).
    pub fn next(&self, header_of: &[u8]) -> Option<Self> {
        let len = if self.suite == TLS_AES_256_GCM_SHA384 { 48 } else { 32 };
        let secret: [u8; 48] = expand(&self.secret, &label(self.version, "ku"), len)?;
        let first = Self::new(self.suite, self.version, header_of)?;
        Some(Self { header: first.header, ..Self::new(self.suite, self.version, secret.get(..len)?)? })
    }

    /// Opens a packet whose number begins at `pn_at`. Returns its unmasked first byte, its number and its payload.
    pub fn open(&self, packet: &[u8], pn_at: usize, expected: u64) -> Option<(u8, u64, Vec<u8>)> {
        let mask = self.header.new_mask(packet.get(pn_at + 4..pn_at + 20)?).ok()?;
        let mut bytes = packet.to_vec();
        let long = bytes[0] & 0x80 != 0;
        bytes[0] ^= mask[0] & if long { 0x0f } else { 0x1f };
        let (first, pn_len) = (bytes[0], usize::from(bytes[0] & 3) + 1);
        let mut truncated = 0;
        for (byte, mask) in bytes[pn_at..pn_at + pn_len].iter_mut().zip(&mask[1..]) {
            *byte ^= mask;
            truncated = truncated << 8 | u64::from(*byte);
        }
        let number = full_number(truncated, pn_len, expected);
        let mut nonce = self.iv;
        for (byte, part) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= part;
        }
        let (header, payload) = bytes.split_at_mut(pn_at + pn_len);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.packet.open_in_place(nonce, Aad::from(&*header), payload).ok()?;
        Some((first, number, opened.to_vec()))
    }
}

/// RFC 9000 appendix A.3.
fn full_number(truncated: u64, len: usize, expected: u64) -> u64 {
    let window = 1_u64 << (8 * len);
    let candidate = (expected & !(window - 1)) | truncated;
    if candidate + window / 2 <= expected {
        candidate + window
    } else if candidate > expected + window / 2 && candidate >= window {
        candidate - window
    } else {
        candidate
    }
}

/// The secrets in a key log, by label and client random.
#[derive(Debug, Default)]
pub struct KeyLog(HashMap<(String, Vec<u8>), Vec<u8>>);

impl KeyLog {
    /// Reads the format of `SSLKEYLOGFILE`; other lines are passed over.
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            let (label, random, secret) = (words.next()?, words.next()?, words.next()?);
            Some(((label.to_owned(), unhex(random)?), unhex(secret)?))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// A secret.
    pub fn secret(&self, label: &str, client_random: &[u8]) -> Option<&[u8]> {
        self.0.get(&(label.to_owned(), client_random.to_vec())).map(Vec::as_slice)
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9001 appendix A.5: a short header packet with ChaCha20-Poly1305.
    #[test]
    fn the_sample_packet_of_the_specification_opens() {
        let secret = unhex("9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b").unwrap();
        let packet = unhex("4cfe4189655e5cd55c41f69080575d7999c25a5bfb").unwrap();
        let keys = Keys::new(TLS_CHACHA20_POLY1305_SHA256, 1, &secret).unwrap();
        let (first, number, payload) = keys.open(&packet, 1, 654_360_564).unwrap();
        assert_eq!((first & 0xe0, number, payload), (0x40, 654_360_564, vec![0x01]));
        let mut damaged = packet;
        *damaged.last_mut().unwrap() ^= 1;
        assert!(keys.open(&damaged, 1, 654_360_564).is_none());
    }

    #[test]
    fn numbers_are_completed() {
        // RFC 9000 appendix A.3.
        assert_eq!(full_number(0x9b32, 2, 0xa82f_30eb), 0xa82f_9b32);
        assert_eq!(full_number(0, 1, 255), 256);
        assert_eq!(full_number(255, 1, 256), 255);
    }
}
