//! Keys from traffic secrets: HKDF-Expand-Label, packet protection and the exporter (RFC 8446 sections 7.1 and 7.5,
//! RFC 9001 sections 5.1 and 6.1, RFC 9369 section 3.3.2).
//!
//! TLS derives the keys of nearly all connections. It does so for the version that a connection began with; where a
//! server chose another one (RFC 9368), its secrets come here.

use aws_lc_rs::aead::quic::{self as mask, HeaderProtectionKey as MaskKey};
use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest;
use aws_lc_rs::hkdf::{self, KeyType, Prk};
use rustls::quic::{DirectionalKeys, HeaderProtectionKey, Keys, PacketKey, PacketKeySet, Tag};
use rustls::{CipherSuite, Error};
use warpline_wire::Version;

/// Longest hash of a cipher suite.
const HASH_MAX: usize = 48;

/// Packets that AES-GCM may seal, and may fail to open, under one key (RFC 9001 section 6.6).
pub(super) const AES_GCM_LIMITS: (u64, u64) = (1 << 23, 1 << 52);

/// What a cipher suite consists of.
#[derive(Clone, Copy)]
pub(crate) struct SuiteParts {
    hkdf: hkdf::Algorithm,
    hash: &'static digest::Algorithm,
    aead: &'static aead::Algorithm,
    mask: &'static mask::Algorithm,
    /// Packets that may be sealed, and may fail to open, under one key (RFC 9001 section 6.6).
    confidentiality: u64,
    integrity: u64,
}

impl SuiteParts {
    /// The parts of one of the suites of TLS 1.3 that QUIC uses.
    pub(crate) fn of(suite: CipherSuite) -> Option<Self> {
        Some(match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => Self {
                hkdf: hkdf::HKDF_SHA256,
                hash: &digest::SHA256,
                aead: &aead::AES_128_GCM,
                mask: &mask::AES_128,
                confidentiality: AES_GCM_LIMITS.0,
                integrity: AES_GCM_LIMITS.1,
            },
            CipherSuite::TLS13_AES_256_GCM_SHA384 => Self {
                hkdf: hkdf::HKDF_SHA384,
                hash: &digest::SHA384,
                aead: &aead::AES_256_GCM,
                mask: &mask::AES_256,
                confidentiality: AES_GCM_LIMITS.0,
                integrity: AES_GCM_LIMITS.1,
            },
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Self {
                hkdf: hkdf::HKDF_SHA256,
                hash: &digest::SHA256,
                aead: &aead::CHACHA20_POLY1305,
                mask: &mask::CHACHA20,
                confidentiality: u64::MAX,
                integrity: 1 << 36,
            },
            _ => return None,
        })
    }
}

/// A secret that keys are derived from.
#[derive(Clone)]
pub(crate) struct Secret {
    bytes: [u8; HASH_MAX],
    len: usize,
}

impl Secret {
    /// `None` when it is longer than any hash in use.
    pub(crate) fn new(secret: &[u8]) -> Option<Self> {
        let mut bytes = [0; HASH_MAX];
        bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        Some(Self { bytes, len: secret.len() })
    }

    /// HKDF-Expand-Label (RFC 8446 section 7.1).
    fn expand(
        &self,
        parts: &SuiteParts,
        label: &[u8],
        context: &[u8],
        out: &mut [u8],
    ) -> Result<(), hkdf_error::Length> {
        let prk = Prk::new_less_safe(parts.hkdf, &self.bytes[..self.len]);
        let len = u16::try_from(out.len()).map_err(|_| hkdf_error::Length)?.to_be_bytes();
        let label_len = [u8::try_from(label.len() + 6).map_err(|_| hkdf_error::Length)?];
        let context_len = [u8::try_from(context.len()).map_err(|_| hkdf_error::Length)?];
        let info: [&[u8]; 6] = [&len, &label_len, b"tls13 ", label, &context_len, context];
        prk.expand(&info, Len(out.len())).and_then(|okm| okm.fill(out)).map_err(|_| hkdf_error::Length)
    }

    fn expand_known<const N: usize>(&self, parts: &SuiteParts, label: &[u8]) -> [u8; N] {
        let mut out = [0; N];
        self.expand(parts, label, &[], &mut out).expect("the lengths of keys are within what HKDF gives");
        out
    }

    /// The secret of the same length that `label` leads to.
    fn next(&self, parts: &SuiteParts, label: &[u8], context: &[u8]) -> Result<Self, hkdf_error::Length> {
        let mut next = Self { bytes: [0; HASH_MAX], len: self.len };
        let (len, bytes) = (self.len, &mut next.bytes);
        self.expand(parts, label, context, &mut bytes[..len])?;
        Ok(next)
    }
}

mod hkdf_error {
    /// More was asked for than HKDF gives.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Length;
}

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

/// The labels of a version (RFC 9001 section 5.1, RFC 9369 section 3.3.2).
struct Labels {
    key: &'static [u8],
    iv: &'static [u8],
    mask: &'static [u8],
    update: &'static [u8],
}

const LABELS_V1: Labels = Labels { key: b"quic key", iv: b"quic iv", mask: b"quic hp", update: b"quic ku" };
const LABELS_V2: Labels = Labels { key: b"quicv2 key", iv: b"quicv2 iv", mask: b"quicv2 hp", update: b"quicv2 ku" };

fn labels(version: Version) -> &'static Labels {
    if version == Version::V2 { &LABELS_V2 } else { &LABELS_V1 }
}

/// The secrets of both directions at one level, and what makes keys of them.
pub(crate) struct TrafficSecrets {
    pub(crate) parts: SuiteParts,
    pub(crate) version: Version,
    pub(crate) local: Secret,
    pub(crate) remote: Secret,
}

impl TrafficSecrets {
    /// Keys of this generation.
    pub(crate) fn keys(&self) -> Keys {
        let directional = |secret: &Secret| DirectionalKeys {
            header: Box::new(Mask::new(&self.parts, self.version, secret)),
            packet: Box::new(Sealer::new(&self.parts, self.version, secret)),
        };
        Keys { local: directional(&self.local), remote: directional(&self.remote) }
    }

    /// Moves on to the next generation (RFC 9001 section 6.1).
    pub(crate) fn update(&mut self) {
        let label = labels(self.version).update;
        let next = |secret: &Secret| {
            secret.next(&self.parts, label, &[]).expect("the lengths of secrets are within what HKDF gives")
        };
        (self.local, self.remote) = (next(&self.local), next(&self.remote));
    }

    /// Packet keys of this generation; then moves on to the next.
    pub(crate) fn next_packet_keys(&mut self) -> PacketKeySet {
        let sealer = |secret: &Secret| Box::new(Sealer::new(&self.parts, self.version, secret));
        let keys = PacketKeySet { local: sealer(&self.local), remote: sealer(&self.remote) };
        self.update();
        keys
    }
}

/// Exports keying material after TLS itself is gone (RFC 8446 section 7.5).
pub(crate) struct Exporter {
    pub(crate) parts: SuiteParts,
    pub(crate) secret: Secret,
}

impl Exporter {
    /// False when more is asked for than TLS gives.
    pub(crate) fn export(&self, out: &mut [u8], label: &[u8], context: &[u8]) -> bool {
        let hash = |bytes| digest::digest(self.parts.hash, bytes);
        let derived = self.secret.next(&self.parts, label, hash(b"").as_ref());
        derived.and_then(|secret| secret.expand(&self.parts, b"exporter", hash(context).as_ref(), out)).is_ok()
    }
}

/// Seals or opens the packets of one direction.
struct Sealer {
    key: LessSafeKey,
    iv: [u8; 12],
    confidentiality: u64,
    integrity: u64,
}

impl Sealer {
    fn new(parts: &SuiteParts, version: Version, secret: &Secret) -> Self {
        let labels = labels(version);
        let key: [u8; 32] = match parts.aead.key_len() {
            16 => {
                let short: [u8; 16] = secret.expand_known(parts, labels.key);
                let mut long = [0; 32];
                long[..16].copy_from_slice(&short);
                long
            }
            _ => secret.expand_known(parts, labels.key),
        };
        let key = UnboundKey::new(parts.aead, &key[..parts.aead.key_len()]).expect("the key has the cipher's length");
        Self {
            key: LessSafeKey::new(key),
            iv: secret.expand_known(parts, labels.iv),
            confidentiality: parts.confidentiality,
            integrity: parts.integrity,
        }
    }

    /// RFC 9001 section 5.3: the IV, exclusive-or the packet number.
    fn nonce(&self, number: u64) -> Nonce {
        let mut nonce = self.iv;
        for (byte, pn) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= pn;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

impl PacketKey for Sealer {
    fn encrypt_in_place(&self, number: u64, header: &[u8], payload: &mut [u8]) -> Result<Tag, Error> {
        let tag = self.key.seal_in_place_separate_tag(self.nonce(number), Aad::from(header), payload);
        Ok(Tag::from(tag.map_err(|_| Error::EncryptError)?.as_ref()))
    }

    fn decrypt_in_place<'a>(&self, number: u64, header: &[u8], payload: &'a mut [u8]) -> Result<&'a [u8], Error> {
        let plain = self.key.open_in_place(self.nonce(number), Aad::from(header), payload);
        plain.map(|p| &*p).map_err(|_| Error::DecryptError)
    }

    fn tag_len(&self) -> usize {
        super::packet::TAG_LEN
    }

    fn confidentiality_limit(&self) -> u64 {
        self.confidentiality
    }

    fn integrity_limit(&self) -> u64 {
        self.integrity
    }
}

/// Masks the headers of one direction (RFC 9001 section 5.4).
struct Mask(MaskKey);

impl Mask {
    fn new(parts: &SuiteParts, version: Version, secret: &Secret) -> Self {
        let label = labels(version).mask;
        let key = if parts.mask.key_len() == 16 {
            MaskKey::new(parts.mask, &secret.expand_known::<16>(parts, label))
        } else {
            MaskKey::new(parts.mask, &secret.expand_known::<32>(parts, label))
        };
        Self(key.expect("the key has the cipher's length"))
    }

    fn apply(&self, sample: &[u8], first: &mut u8, number: &mut [u8], hidden: bool) -> Result<(), Error> {
        let mask = self.0.new_mask(sample).map_err(|_| Error::General("a sample of the wrong length".into()))?;
        super::packet::mask_header(mask, first, number, hidden)
    }
}

impl HeaderProtectionKey for Mask {
    fn encrypt_in_place(&self, sample: &[u8], first: &mut u8, number: &mut [u8]) -> Result<(), Error> {
        self.apply(sample, first, number, false)
    }

    fn decrypt_in_place(&self, sample: &[u8], first: &mut u8, number: &mut [u8]) -> Result<(), Error> {
        self.apply(sample, first, number, true)
    }

    fn sample_len(&self) -> usize {
        self.0.algorithm().sample_len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{Derived, SHORT_NUMBER, VERSIONS, hex, samples};
    use super::*;

    fn check<const KEY: usize>(expected: &Derived, version: Version, parts: &SuiteParts) {
        let labels = labels(version);
        let secret = Secret::new(&hex(expected.secret)).unwrap();
        assert_eq!(secret.expand_known::<KEY>(parts, labels.key)[..], hex(expected.key));
        assert_eq!(secret.expand_known::<12>(parts, labels.iv)[..], hex(expected.iv));
        assert_eq!(secret.expand_known::<KEY>(parts, labels.mask)[..], hex(expected.hp));
    }

    /// RFC 9001 and RFC 9369, A.1.
    #[test]
    fn the_keys_of_initial_packets_of_both_versions() {
        let parts = SuiteParts::of(CipherSuite::TLS13_AES_128_GCM_SHA256).unwrap();
        for version in VERSIONS {
            check::<16>(&samples(version).client, version, &parts);
            check::<16>(&samples(version).server, version, &parts);
        }
    }

    /// RFC 9001 and RFC 9369, A.5: the keys, the nonce, and the secret of the next generation.
    #[test]
    fn the_keys_and_the_key_update_of_short_packets_of_both_versions() {
        let parts = SuiteParts::of(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256).unwrap();
        for version in VERSIONS {
            let samples = samples(version);
            check::<32>(&samples.chacha20, version, &parts);
            let secret = Secret::new(&hex(samples.chacha20.secret)).unwrap();
            let sealer = Sealer::new(&parts, version, &secret);
            assert_eq!(sealer.nonce(SHORT_NUMBER).as_ref()[..], hex(samples.nonce));
            let mut secrets = TrafficSecrets { parts, version, local: secret.clone(), remote: secret };
            secrets.update();
            for next in [&secrets.local, &secrets.remote] {
                assert_eq!(next.bytes[..next.len], hex(samples.ku));
            }
        }
    }
}
