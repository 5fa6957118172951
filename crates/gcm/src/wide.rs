//! From callers to the functions that need the instructions.

use core::arch::x86_64::__m128i;

use zeroize::Zeroize;

use crate::aes::{self, KEYS_128, KEYS_256};
use crate::ghash::Powers;
use crate::pass::{self, Keys};
use crate::{BLOCK_LEN, NONCE_LEN, TAG_LEN, is_supported};

/// A key of the cipher; there is none unless the processor has the instructions.
pub(crate) enum Aead {
    Aes128(Keys<KEYS_128>),
    Aes256(Keys<KEYS_256>),
}

impl Aead {
    /// From 16 or 32 bytes.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        let rounds = Mask::new(key)?;
        // SAFETY: the round keys exist, so the processor has the instructions.
        let powers = unsafe { Powers::new(rounds.mask(&[0; BLOCK_LEN])) };
        Some(match &rounds {
            Mask::Aes128(rounds) => Self::Aes128(Keys { rounds: *rounds, powers }),
            Mask::Aes256(rounds) => Self::Aes256(Keys { rounds: *rounds, powers }),
        })
    }

    #[inline]
    pub(crate) fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
        self.run::<true>(nonce, aad, text)
    }

    /// Returns the tag that would be right.
    #[inline]
    pub(crate) fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
        self.run::<false>(nonce, aad, text)
    }

    #[inline]
    fn run<const SEAL: bool>(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
        match self {
            // SAFETY: the key exists, so the processor has the instructions.
            Self::Aes128(keys) => unsafe { pass::run::<SEAL, _>(keys, nonce, aad, text) },
            // SAFETY: the key exists, so the processor has the instructions.
            Self::Aes256(keys) => unsafe { pass::run::<SEAL, _>(keys, nonce, aad, text) },
        }
    }
}

impl Drop for Aead {
    fn drop(&mut self) {
        match self {
            Self::Aes128(keys) => (keys.rounds.zeroize(), keys.powers.zeroize()),
            Self::Aes256(keys) => (keys.rounds.zeroize(), keys.powers.zeroize()),
        };
    }
}

/// The round keys of AES by itself; there are none unless the processor has the instructions.
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
