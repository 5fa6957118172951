//! Packets sealed and opened by a device: what it must be able to do, and its place among the cipher suites.
//!
//! A device has keys of AES-GCM for the packets of 1-RTT, in batches. Everything else stays with a library: the packets of the handshake,
//! ChaCha20, batches that are not worth the way, and whatever the device does not do for once.

use std::sync::{Arc, OnceLock, Weak};

use rustls::crypto::cipher::{AeadKey, Iv, Nonce};
use rustls::quic::{Algorithm, HeaderProtectionKey, PacketKey, Tag};
use rustls::{Error, SupportedCipherSuite, Tls13CipherSuite};
use zeroize::Zeroizing;

use super::batch::{Content, Job, parcel};

/// A device that seals and opens packets with AES-GCM, for all threads of the process.
pub trait PacketDevice: Send + Sync + std::fmt::Debug {
    /// A key of 16 or 32 bytes, with the vector that nonces are made of (RFC 9001 section 5.3). `None` if the device has no room for
    /// another one, or has failed: a library does the work then.
    fn key(&self, key: &[u8], iv: &[u8; 12]) -> Option<Box<dyn DeviceKey>>;
}

/// A key for the packets of one direction, at a device. A call returns when the device is done.
///
/// It belongs to a connection and goes with it, now and then to another thread; one thread has it at a time.
pub trait DeviceKey: Send {
    /// Encrypts each packet in place and writes its tag. `false` if packets were left as they were; then all of them are, and the caller
    /// seals them otherwise.
    fn seal(&self, jobs: &mut [Job<'_>]) -> bool;

    /// Decrypts each packet in place and notes in it whether it is authentic. `false` if packets were left as they were; then all of
    /// them are, and the caller opens them otherwise.
    fn open(&self, jobs: &mut [Job<'_>]) -> bool;

    /// Packets that are worth the way to the device. Fewer are not given to it.
    fn batch_min(&self) -> usize;
}

static DEVICE: OnceLock<Arc<dyn PacketDevice>> = OnceLock::new();

/// Makes `device` the one that [`PacketCrypto::Device`](super::PacketCrypto::Device) means, for as long as the process lives. `false` if there
/// was one before, which stays.
pub fn install_device(device: Arc<dyn PacketDevice>) -> bool {
    DEVICE.set(device).is_ok()
}

/// The suites of a library, with packets of AES-GCM sealed by the device. `None` without a device.
pub(super) fn suites(library: &[SupportedCipherSuite]) -> Option<Vec<SupportedCipherSuite>> {
    static SUITES: OnceLock<Vec<SupportedCipherSuite>> = OnceLock::new();
    let device = DEVICE.get()?;
    Some(
        SUITES
            .get_or_init(|| library.iter().map(|suite| with_device(*suite, Arc::downgrade(device))).collect())
            .clone(),
    )
}

/// The same suite with packets sealed by the device, if it is one with AES-GCM, and for as long as there is that device.
pub(super) fn with_device(suite: SupportedCipherSuite, device: Weak<dyn PacketDevice>) -> SupportedCipherSuite {
    let Some(Tls13CipherSuite { common, hkdf_provider, aead_alg, quic: Some(library), .. }) = suite.tls13() else {
        return suite;
    };
    if suite.suite() == rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 {
        return suite;
    }
    // Suites live as long as the process, and there are two of these, and one for each trial of a device.
    let quic = Box::leak(Box::new(ByDevice { library: *library, device }));
    let common = rustls::crypto::CipherSuiteCommon { ..*common };
    let suite = Tls13CipherSuite { common, hkdf_provider: *hkdf_provider, aead_alg: *aead_alg, quic: Some(quic) };
    SupportedCipherSuite::Tls13(Box::leak(Box::new(suite)))
}

struct ByDevice {
    library: &'static dyn Algorithm,
    device: Weak<dyn PacketDevice>,
}

impl Algorithm for ByDevice {
    fn packet_key(&self, key: AeadKey, iv: Iv) -> Box<dyn PacketKey> {
        Box::new(Sealer {
            key: Zeroizing::new(key.as_ref().to_vec()),
            iv: Nonce::new(&iv, 0).0,
            device: Weak::clone(&self.device),
            library: self.library.packet_key(key, iv),
        })
    }

    fn header_protection_key(&self, key: AeadKey) -> Box<dyn HeaderProtectionKey> {
        self.library.header_protection_key(key)
    }

    fn aead_key_len(&self) -> usize {
        self.library.aead_key_len()
    }
}

/// A library's key that can become the device's, too. Keys of the handshake never do: they go before the device had its use of them.
struct Sealer {
    key: Zeroizing<Vec<u8>>,
    iv: [u8; 12],
    device: Weak<dyn PacketDevice>,
    library: Box<dyn PacketKey>,
}

impl PacketKey for Sealer {
    fn encrypt_in_place(&self, number: u64, header: &[u8], payload: &mut [u8]) -> Result<Tag, Error> {
        self.library.encrypt_in_place(number, header, payload)
    }

    /// Gives the key at the device: see [`batch`](super::batch).
    fn encrypt_in_place_for_path(&self, _: u32, _: u64, _: &[u8], _: &mut [u8]) -> Result<Tag, Error> {
        match self.device.upgrade().and_then(|device| device.key(&self.key, &self.iv)) {
            Some(key) => parcel(Content::Device(key)),
            None => Err(Error::EncryptError),
        }
    }

    fn decrypt_in_place<'a>(&self, number: u64, header: &[u8], payload: &'a mut [u8]) -> Result<&'a [u8], Error> {
        self.library.decrypt_in_place(number, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.library.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.library.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.library.integrity_limit()
    }
}
