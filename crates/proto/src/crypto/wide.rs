//! Packet protection by `warpline-gcm`, in the form that TLS asks for.

use std::sync::LazyLock;

use rustls::crypto::cipher::{AeadKey, Iv, Nonce};
use rustls::crypto::{aws_lc_rs as aws, ring};
use rustls::quic::{Algorithm, HeaderProtectionKey, PacketKey, Tag};
use rustls::{CipherSuite, Error, SupportedCipherSuite, Tls13CipherSuite};
use warpline_gcm::{BLOCK_LEN, MaskKey, TAG_LEN};

use super::batch::{Content, parcel};
use super::packet::mask_header;
use super::schedule::AES_GCM_LIMITS;

/// The cipher suites of TLS 1.3, those with AES with packets sealed by `warpline-gcm` and hashes by `ring`. `None` where the processor lacks its
/// instructions.
pub(super) fn suites() -> Option<[SupportedCipherSuite; 3]> {
    static SUITES: LazyLock<Option<[SupportedCipherSuite; 3]>> = LazyLock::new(|| {
        warpline_gcm::is_supported().then_some([
            with_gcm(ring::cipher_suite::TLS13_AES_128_GCM_SHA256),
            with_gcm(ring::cipher_suite::TLS13_AES_256_GCM_SHA384),
            aws::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ])
    });
    *SUITES
}

/// The same suite with packets sealed here.
fn with_gcm(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let Some(tls13) = suite.tls13() else { return suite };
    let key_len = if suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256 { 16 } else { 32 };
    // Suites live as long as the process, and there are two of these.
    let quic = Box::leak(Box::new(Gcm { key_len }));
    let Tls13CipherSuite { common, hkdf_provider, aead_alg, .. } = tls13;
    let common = rustls::crypto::CipherSuiteCommon { ..*common };
    let suite = Tls13CipherSuite { common, hkdf_provider: *hkdf_provider, aead_alg: *aead_alg, quic: Some(quic) };
    SupportedCipherSuite::Tls13(Box::leak(Box::new(suite)))
}

/// AES-GCM with a key of a certain length.
struct Gcm {
    key_len: usize,
}

impl Algorithm for Gcm {
    fn packet_key(&self, key: AeadKey, iv: Iv) -> Box<dyn PacketKey> {
        let iv = Nonce::new(&iv, 0).0;
        let key = warpline_gcm::AeadKey::new(key.as_ref(), &iv);
        let key =
            key.expect("the suites exist where the processor has the instructions, and TLS gives keys of their length");
        Box::new(Sealer(key))
    }

    fn header_protection_key(&self, key: AeadKey) -> Box<dyn HeaderProtectionKey> {
        let key = MaskKey::new(key.as_ref());
        let key =
            key.expect("the suites exist where the processor has the instructions, and TLS gives keys of their length");
        Box::new(Mask(key))
    }

    fn aead_key_len(&self) -> usize {
        self.key_len
    }
}

/// Seals or opens the packets of one direction.
struct Sealer(warpline_gcm::AeadKey);

impl PacketKey for Sealer {
    #[inline]
    fn encrypt_in_place(&self, number: u64, header: &[u8], payload: &mut [u8]) -> Result<Tag, Error> {
        let tag = self.0.seal(number, header, payload);
        Ok(Tag::from(&tag[..]))
    }

    /// Gives the key itself: see [`batch`](super::batch).
    fn encrypt_in_place_for_path(&self, _: u32, _: u64, _: &[u8], _: &mut [u8]) -> Result<Tag, Error> {
        parcel(Content::Gcm(Box::new(self.0.clone())))
    }

    #[inline]
    fn decrypt_in_place<'a>(&self, number: u64, header: &[u8], payload: &'a mut [u8]) -> Result<&'a [u8], Error> {
        let (text, tag) = payload.split_last_chunk_mut::<TAG_LEN>().ok_or(Error::DecryptError)?;
        match self.0.open(number, header, text, tag) {
            true => Ok(text),
            false => Err(Error::DecryptError),
        }
    }

    fn tag_len(&self) -> usize {
        TAG_LEN
    }

    fn confidentiality_limit(&self) -> u64 {
        AES_GCM_LIMITS.0
    }

    fn integrity_limit(&self) -> u64 {
        AES_GCM_LIMITS.1
    }
}

/// Masks the headers of one direction (RFC 9001 section 5.4).
#[derive(Clone)]
pub(crate) struct Mask(MaskKey);

impl Mask {
    #[inline]
    fn apply(&self, sample: &[u8], first: &mut u8, number: &mut [u8], hidden: bool) -> Result<(), Error> {
        let sample = sample.try_into().map_err(|_| Error::General("a sample of the wrong length".into()))?;
        let [a, b, c, d, e, ..] = self.0.mask(sample);
        mask_header([a, b, c, d, e], first, number, hidden)
    }
}

impl HeaderProtectionKey for Mask {
    /// For an empty sample gives the key itself: see [`batch`](super::batch).
    #[inline]
    fn encrypt_in_place(&self, sample: &[u8], first: &mut u8, number: &mut [u8]) -> Result<(), Error> {
        if sample.is_empty() {
            return parcel(Content::Mask(Box::new(self.clone())));
        }
        self.apply(sample, first, number, false)
    }

    #[inline]
    fn decrypt_in_place(&self, sample: &[u8], first: &mut u8, number: &mut [u8]) -> Result<(), Error> {
        self.apply(sample, first, number, true)
    }

    fn sample_len(&self) -> usize {
        BLOCK_LEN
    }
}
