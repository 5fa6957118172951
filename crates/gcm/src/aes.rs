//! AES (FIPS 197): key schedules, and blocks by the quad.

use core::arch::x86_64::*;

use crate::vector::{Quad, load_block, store_block};

/// Round keys of AES-128.
pub(crate) const KEYS_128: usize = 11;

/// Round keys of AES-256.
pub(crate) const KEYS_256: usize = 15;

/// Four words of a schedule from the four before (`last` is the transformed word that enters them).
#[inline]
#[target_feature(enable = "avx512f")]
fn words(before: __m128i, last: __m128i) -> __m128i {
    let mut key = before;
    key = _mm_xor_si128(key, _mm_slli_si128::<4>(key));
    key = _mm_xor_si128(key, _mm_slli_si128::<8>(key));
    _mm_xor_si128(key, last)
}

/// The round keys of a key of 16 bytes.
#[target_feature(enable = "avx512f,aes")]
pub(crate) fn expand_128(key: &[u8; 16]) -> [__m128i; KEYS_128] {
    let mut keys = [load_block(key); KEYS_128];
    macro_rules! round {
        ($at:literal, $constant:literal) => {
            let assist = _mm_aeskeygenassist_si128::<$constant>(keys[$at - 1]);
            keys[$at] = words(keys[$at - 1], _mm_shuffle_epi32::<0xff>(assist));
        };
    }
    round!(1, 0x01);
    round!(2, 0x02);
    round!(3, 0x04);
    round!(4, 0x08);
    round!(5, 0x10);
    round!(6, 0x20);
    round!(7, 0x40);
    round!(8, 0x80);
    round!(9, 0x1b);
    round!(10, 0x36);
    keys
}

/// The round keys of a key of 32 bytes, given in halves.
#[target_feature(enable = "avx512f,aes")]
pub(crate) fn expand_256(first: &[u8; 16], second: &[u8; 16]) -> [__m128i; KEYS_256] {
    let mut keys = [load_block(first); KEYS_256];
    keys[1] = load_block(second);
    macro_rules! round {
        // The word that enters is rotated and has the round's constant.
        ($at:literal, $constant:literal) => {
            let assist = _mm_aeskeygenassist_si128::<$constant>(keys[$at - 1]);
            keys[$at] = words(keys[$at - 2], _mm_shuffle_epi32::<0xff>(assist));
        };
        // The word that enters is substituted only.
        ($at:literal) => {
            let assist = _mm_aeskeygenassist_si128::<0>(keys[$at - 1]);
            keys[$at] = words(keys[$at - 2], _mm_shuffle_epi32::<0xaa>(assist));
        };
    }
    round!(2, 0x01);
    round!(3);
    round!(4, 0x02);
    round!(5);
    round!(6, 0x04);
    round!(7);
    round!(8, 0x08);
    round!(9);
    round!(10, 0x10);
    round!(11);
    round!(12, 0x20);
    round!(13);
    round!(14, 0x40);
    keys
}

/// Encrypts one block.
#[inline]
#[target_feature(enable = "avx512f,aes")]
pub(crate) fn encrypt_block<const KEYS: usize>(keys: &[__m128i; KEYS], block: &[u8; 16]) -> [u8; 16] {
    let mut state = _mm_xor_si128(load_block(block), keys[0]);
    for key in &keys[1..KEYS - 1] {
        state = _mm_aesenc_si128(state, *key);
    }
    let mut out = [0; 16];
    store_block(&mut out, _mm_aesenclast_si128(state, keys[KEYS - 1]));
    out
}

/// One of the middle rounds, of quads side by side.
#[inline]
#[target_feature(enable = "avx512f,vaes")]
pub(crate) fn round(quads: &mut [Quad], key: Quad) {
    for quad in quads {
        *quad = _mm512_aesenc_epi128(*quad, key);
    }
}

/// Encrypts a quad.
#[inline]
#[target_feature(enable = "avx512f,vaes")]
pub(crate) fn encrypt<const KEYS: usize>(keys: &[Quad; KEYS], quad: Quad) -> Quad {
    let mut quads = [_mm512_xor_si512(quad, keys[0])];
    for key in &keys[1..KEYS - 1] {
        round(&mut quads, *key);
    }
    _mm512_aesenclast_epi128(quads[0], keys[KEYS - 1])
}
