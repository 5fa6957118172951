//! From callers to the functions that need the instructions.

use core::arch::x86_64::__m128i;
use core::mem::offset_of;
use core::ops::Range;

use zeroize::Zeroize;

use crate::aes::{self, KEYS_128, KEYS_256};
use crate::ghash::{LOW, Powers};
use crate::job::Job;
use crate::pass;
use crate::{BLOCK_LEN, NONCE_LEN, TAG_LEN, is_supported};

/// A key of the cipher; there is none unless the processor has the instructions. What a short packet needs lies side by side in
/// the middle, five cache lines with AES-128: the lower powers of the hash key, the vector, the round keys.
#[derive(Clone)]
#[repr(C, align(64))]
pub(crate) struct Aead {
    powers: Powers,
    iv: [u8; NONCE_LEN],
    /// AES-256; else only the first round keys are used.
    is_256: bool,
    rounds: [__m128i; KEYS_256],
}

/// Where what a packet of up to 96 bytes of text touches of a key of AES-128 lies in it: five cache lines.
pub(crate) const SHORT: Range<usize> =
    size_of::<Powers>() - LOW..offset_of!(Aead, rounds) + KEYS_128 * size_of::<__m128i>();

/// The same of a mask's: three cache lines.
pub(crate) const SHORT_MASK: Range<usize> = 0..(KEYS_128 + 1) * size_of::<__m128i>();

const _: () = assert!(SHORT.start.is_multiple_of(64) && SHORT.end - SHORT.start == 5 * 64);
const _: () = assert!(size_of::<Aead>() == 576 && SHORT_MASK.end == 3 * 64);

impl Aead {
    /// From 16 or 32 bytes.
    pub(crate) fn new(key: &[u8], iv: &[u8; NONCE_LEN]) -> Option<Self> {
        let mask = Mask::new(key)?;
        // SAFETY: the round keys exist, so the processor has the instructions.
        let powers = unsafe { Powers::new(mask.mask(&[0; BLOCK_LEN])) };
        let (round_keys, is_256): (&[_], _) = match &mask {
            Mask::Aes128(rounds) => (rounds, false),
            Mask::Aes256(rounds) => (rounds, true),
        };
        let mut rounds = [round_keys[0]; KEYS_256];
        rounds[..round_keys.len()].copy_from_slice(round_keys);
        Some(Self { powers, iv: *iv, is_256, rounds })
    }

    #[inline]
    pub(crate) fn seal(&self, number: u64, aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
        self.run::<true>(number, aad, text)
    }

    /// Returns the tag that would be right.
    #[inline]
    pub(crate) fn open(&self, number: u64, aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
        self.run::<false>(number, aad, text)
    }

    #[inline]
    fn run<const SEAL: bool>(&self, number: u64, aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
        if self.is_256 {
            // SAFETY: the key exists, so the processor has the instructions.
            return unsafe { pass::run::<SEAL, _>((&self.rounds, &self.powers), (&self.iv, number), aad, text) };
        }
        let (rounds, _) = self.rounds.split_first_chunk::<KEYS_128>().expect("AES-256 has more rounds than AES-128");
        // SAFETY: the key exists, so the processor has the instructions.
        unsafe { pass::run::<SEAL, _>((rounds, &self.powers), (&self.iv, number), aad, text) }
    }
}

impl Aead {
    /// Seals or opens packets.
    #[inline]
    pub(crate) fn batch<const SEAL: bool>(&self, jobs: &mut [Job<'_>]) {
        if self.is_256 {
            // SAFETY: the key exists, so the processor has the instructions.
            return unsafe { pass::run_batch::<SEAL, _>((&self.rounds, &self.powers), &self.iv, jobs) };
        }
        let (rounds, _) = self.rounds.split_first_chunk::<KEYS_128>().expect("AES-256 has more rounds than AES-128");
        // SAFETY: the key exists, so the processor has the instructions.
        unsafe { pass::run_batch::<SEAL, _>((rounds, &self.powers), &self.iv, jobs) };
    }
}

impl Drop for Aead {
    fn drop(&mut self) {
        self.iv.zeroize();
        self.rounds.zeroize();
        self.powers.zeroize();
    }
}

/// The round keys of AES by itself; there are none unless the processor has the instructions. Those of AES-128 fill three cache
/// lines.
#[derive(Clone)]
#[repr(align(64))]
pub(crate) enum Mask {
    Aes128([__m128i; KEYS_128]),
    Aes256([__m128i; KEYS_256]),
}

impl Mask {
    /// From 16 or 32 bytes.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        if !is_supported() {
            return None;
        }
        let (first, second) = key.split_first_chunk()?;
        match second.len() {
            // SAFETY: the processor has the instructions.
            0 => Some(Self::Aes128(unsafe { aes::expand_128(first) })),
            // SAFETY: the processor has the instructions.
            16 => Some(Self::Aes256(unsafe { aes::expand_256(first, second.first_chunk()?) })),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn mask(&self, sample: &[u8; BLOCK_LEN]) -> [u8; BLOCK_LEN] {
        match self {
            // SAFETY: the key exists, so the processor has the instructions.
            Self::Aes128(keys) => unsafe { aes::encrypt_block(keys, sample) },
            // SAFETY: the key exists, so the processor has the instructions.
            Self::Aes256(keys) => unsafe { aes::encrypt_block(keys, sample) },
        }
    }
}

impl Drop for Mask {
    fn drop(&mut self) {
        match self {
            Self::Aes128(keys) => keys.zeroize(),
            Self::Aes256(keys) => keys.zeroize(),
        }
    }
}
