//! Keys, as callers hold them.

use core::ops::Range;

use crate::job::{Job, agree};
use crate::wide;
use crate::{BLOCK_LEN, NONCE_LEN, TAG_LEN};

/// A key of AES-128-GCM or AES-256-GCM with the initialization vector that belongs to it.
#[derive(Clone)]
pub struct AeadKey(wide::Aead);

impl AeadKey {
    /// The bytes of a key of AES-128 that a packet of up to 96 bytes of text touches: for one who wants them in the caches before it comes.
    pub const SHORT: Range<usize> = wide::SHORT;

    /// From 16 or 32 bytes. `None` for another length, and where the processor lacks the instructions.
    pub fn new(key: &[u8], iv: &[u8; NONCE_LEN]) -> Option<Self> {
        wide::Aead::new(key, iv).map(Self)
    }

    /// Encrypts `text` in place and returns the tag for it and `aad`. The nonce is the vector and the packet's `number`, by
    /// exclusive or (RFC 9001 section 5.3); a number is good for one text.
    #[inline]
    pub fn seal(&self, number: u64, aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
        self.0.seal(number, aad, text)
    }

    /// Decrypts `text` in place. `false`, with zeros in the place of the text, if it or `aad` is not what was sealed.
    #[inline]
    #[must_use]
    pub fn open(&self, number: u64, aad: &[u8], text: &mut [u8], tag: &[u8; TAG_LEN]) -> bool {
        agree(&self.0.open(number, aad, text), tag, text)
    }

    /// Encrypts and authenticates each packet, as [`seal`](Self::seal) does.
    #[inline]
    pub fn seal_batch(&self, jobs: &mut [Job<'_>]) {
        self.0.batch::<true>(jobs);
    }

    /// Decrypts each packet, as [`open`](Self::open) does; one that is not authentic changes nothing for the others.
    #[inline]
    pub fn open_batch(&self, jobs: &mut [Job<'_>]) {
        self.0.batch::<false>(jobs);
    }
}

impl std::fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AeadKey").finish_non_exhaustive()
    }
}

/// A key that masks headers (RFC 9001 section 5.4.3).
#[derive(Clone)]
pub struct MaskKey(wide::Mask);

impl MaskKey {
    /// The bytes of a key of AES-128 that a mask touches.
    pub const SHORT: Range<usize> = wide::SHORT_MASK;

    /// From 16 or 32 bytes. `None` for another length, and where the processor lacks the instructions.
    pub fn new(key: &[u8]) -> Option<Self> {
        wide::Mask::new(key).map(Self)
    }

    /// The mask for a sample of the packet; its first five bytes are used.
    #[inline]
    pub fn mask(&self, sample: &[u8; BLOCK_LEN]) -> [u8; BLOCK_LEN] {
        self.0.mask(sample)
    }
}

impl std::fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MaskKey").finish_non_exhaustive()
    }
}
