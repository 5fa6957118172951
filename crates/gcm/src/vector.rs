//! Vectors of four blocks, to and from memory.

use core::arch::x86_64::*;

/// Four blocks of 16 bytes.
pub(crate) type Quad = __m512i;

/// Bytes of a quad.
pub(crate) const QUAD: usize = 64;

/// Reads four blocks.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load(bytes: &[u8; QUAD]) -> Quad {
    // SAFETY: the reference is good for 64 bytes, and the instruction takes any alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Writes four blocks.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn store(bytes: &mut [u8; QUAD], quad: Quad) {
    // SAFETY: the reference is good for 64 bytes, and the instruction takes any alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), quad) };
}

/// The first `len` bytes of a quad, 1 to 64 of them.
#[inline]
pub(crate) fn first(len: usize) -> __mmask64 {
    debug_assert!((1..=QUAD).contains(&len), "a part of a quad");
    u64::MAX >> (QUAD - len)
}

/// Reads up to four blocks; zeros behind the end.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn load_part(bytes: &[u8]) -> Quad {
    assert!(bytes.len() <= QUAD, "no more than a quad");
    if bytes.is_empty() {
        return _mm512_setzero_si512();
    }
    // SAFETY: the mask covers exactly the bytes of the slice, and bytes outside of the mask are not touched.
    unsafe { _mm512_maskz_loadu_epi8(first(bytes.len()), bytes.as_ptr().cast()) }
}

/// Writes as much of a quad as `bytes` has room for, 1 to 64 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn store_part(bytes: &mut [u8], quad: Quad) {
    assert!((1..=QUAD).contains(&bytes.len()), "a part of a quad");
    // SAFETY: the mask covers exactly the bytes of the slice, and bytes outside of the mask are not touched.
    unsafe { _mm512_mask_storeu_epi8(bytes.as_mut_ptr().cast(), first(bytes.len()), quad) };
}

/// The first `len` bytes of a quad, 1 to 64 of them, and zeros behind them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn kept(quad: Quad, len: usize) -> Quad {
    _mm512_maskz_mov_epi8(first(len), quad)
}

/// Reads one block.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load_block(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the reference is good for 16 bytes, and the instruction takes any alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Writes one block.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn store_block(bytes: &mut [u8; 16], block: __m128i) {
    // SAFETY: the reference is good for 16 bytes, and the instruction takes any alignment.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), block) };
}

/// One block in the first place, zeros behind it.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn alone(block: __m128i) -> Quad {
    _mm512_zextsi128_si512(block)
}

/// The exclusive-or of the four blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
pub(crate) fn sum(quad: Quad) -> __m128i {
    let half = _mm256_xor_si256(_mm512_castsi512_si256(quad), _mm512_extracti64x4_epi64::<1>(quad));
    _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
}

/// The bytes of each block in the opposite order.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn reversed(quad: Quad) -> Quad {
    let order = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm512_shuffle_epi8(quad, _mm512_broadcast_i32x4(order))
}
