//! The pass over a packet: counter mode and GHASH together (NIST SP 800-38D sections 6.5 and 7).

use core::arch::x86_64::*;

use crate::aes;
use crate::ghash::{Powers, Product};
use crate::job::{Job, agree};
use crate::vector::{QUAD, Quad, alone, kept, load, load_part, reversed, store, store_block, store_part, sum};
use crate::{NONCE_LEN, TAG_LEN};

/// Bytes that one round of the loop takes: 32 blocks.
const STRIDE: usize = 8 * QUAD;

/// Counter blocks, four at a time.
struct Counters {
    /// With the counter in the order of the machine.
    next: Quad,
}

impl Counters {
    /// From block `first` of a nonce on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(nonce: __m128i, first: i32) -> Self {
        let nonce = _mm512_broadcast_i32x4(nonce);
        let numbers = _mm512_set_epi32(3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0);
        let first = _mm512_maskz_set1_epi32(0b1000_1000_1000_1000, first);
        Self { next: _mm512_or_si512(nonce, _mm512_add_epi32(numbers, first)) }
    }

    /// The next four.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn take(&mut self) -> Quad {
        let order = _mm_set_epi8(12, 13, 14, 15, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        let quad = _mm512_shuffle_epi8(self.next, _mm512_broadcast_i32x4(order));
        self.next = _mm512_add_epi32(self.next, _mm512_maskz_set1_epi32(0b1000_1000_1000_1000, 4));
        quad
    }
}

/// Encrypts (`SEAL`) or decrypts `text` and returns the tag that belongs to it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,vaes,vpclmulqdq")]
pub(crate) fn run<const SEAL: bool, const KEYS: usize>(
    (round_keys, powers): (&[__m128i; KEYS], &Powers),
    (iv, number): (&[u8; NONCE_LEN], u64),
    aad: &[u8],
    text: &mut [u8],
) -> [u8; TAG_LEN] {
    let nonce = nonce(iv, number);
    if aad.len() <= 16 && text.len() <= SHORT {
        return short::<SEAL, KEYS>((round_keys, powers), nonce, aad, text);
    }
    let rounds = wide(round_keys);
    // The first block of the counter hides the tag.
    let hidden = aes::encrypt(&rounds, Counters::new(nonce, 1).take());
    one::<SEAL, KEYS>((&rounds, powers), (nonce, hidden), aad, text)
}

/// Longest text of a short packet: with the header and the lengths its blocks are as many as there are powers of the hash key.
const SHORT: usize = 15 * 16;

/// A packet of few blocks. There is one sum, reduced once, and one way through the cipher for what hides the text and the tag.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,vaes,vpclmulqdq")]
fn short<const SEAL: bool, const KEYS: usize>(
    keys: (&[__m128i; KEYS], &Powers),
    nonce: __m128i,
    aad: &[u8],
    text: &mut [u8],
) -> [u8; TAG_LEN] {
    match text.len().div_ceil(QUAD) {
        0 | 1 => short_of::<SEAL, KEYS, 2>(keys, nonce, aad, text),
        2 => short_of::<SEAL, KEYS, 3>(keys, nonce, aad, text),
        _ => short_of::<SEAL, KEYS, 5>(keys, nonce, aad, text),
    }
}

/// A short packet that takes `QUADS` quads of the cipher: those of the text and one for the tag.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,vaes,vpclmulqdq")]
fn short_of<const SEAL: bool, const KEYS: usize, const QUADS: usize>(
    (round_keys, powers): (&[__m128i; KEYS], &Powers),
    nonce: __m128i,
    aad: &[u8],
    text: &mut [u8],
) -> [u8; TAG_LEN] {
    let mut counters = Counters::new(nonce, 2);
    let mut pads = [_mm512_setzero_si512(); QUADS];
    pads[0] = Counters::new(nonce, 1).take();
    for pad in &mut pads[1..] {
        *pad = counters.take();
    }
    let key = _mm512_broadcast_i32x4(round_keys[0]);
    for pad in &mut pads {
        *pad = _mm512_xor_si512(*pad, key);
    }
    for key in &round_keys[1..KEYS - 1] {
        aes::round(&mut pads, _mm512_broadcast_i32x4(*key));
    }
    let key = _mm512_broadcast_i32x4(round_keys[KEYS - 1]);
    for pad in &mut pads {
        *pad = _mm512_aesenclast_epi128(*pad, key);
    }
    let lengths = _mm_set_epi64x(aad.len() as i64 * 8, text.len() as i64 * 8);
    let blocks = text.len().div_ceil(16);
    let mut product = Product::zero();
    if !aad.is_empty() {
        product.add(reversed(load_part(aad)), powers.first(blocks + 2));
    }
    product.add(alone(lengths), powers.first(1));
    let mut power = blocks + 1;
    for (part, pad) in text.chunks_mut(QUAD).zip(&pads[1..]) {
        let before = load_part(part);
        let after = _mm512_xor_si512(before, *pad);
        store_part(part, after);
        let hashed = if SEAL { kept(after, part.len()) } else { before };
        product.add(reversed(hashed), powers.down_from(power));
        power = power.saturating_sub(4);
    }
    let sum = reversed(alone(sum(product.reduce())));
    let mut tag = [0; TAG_LEN];
    store_block(&mut tag, _mm512_castsi512_si128(_mm512_xor_si512(sum, pads[0])));
    tag
}

/// Seals (`SEAL`) or opens packets. They have nothing to wait for each other, and the processor has the next one under way while the last
/// steps of one take their time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,vaes,vpclmulqdq")]
pub(crate) fn run_batch<const SEAL: bool, const KEYS: usize>(
    keys: (&[__m128i; KEYS], &Powers),
    iv: &[u8; NONCE_LEN],
    jobs: &mut [Job<'_>],
) {
    for job in jobs {
        let number = job.number;
        let Some((aad, text, tag)) = job.parts() else { continue };
        let right = run::<SEAL, KEYS>(keys, (iv, number), aad, text);
        if SEAL {
            *tag = right;
        }
        job.is_done = SEAL || agree(&right, tag, text);
    }
}

/// The nonce of a packet: the vector and its number, by exclusive or (RFC 9001 section 5.3); zeros behind it. In registers all the
/// way: a block that is put together in memory cannot be read as a whole until its parts have got there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn nonce(iv: &[u8; NONCE_LEN], number: u64) -> __m128i {
    let bytes = number.swap_bytes();
    _mm_xor_si128(
        _mm512_castsi512_si128(load_part(iv)),
        _mm_set_epi64x((bytes >> 32).cast_signed(), (bytes << 32).cast_signed()),
    )
}

/// The round keys in all four places.
#[inline]
#[target_feature(enable = "avx512f")]
fn wide<const KEYS: usize>(round_keys: &[__m128i; KEYS]) -> [Quad; KEYS] {
    let mut rounds = [_mm512_setzero_si512(); KEYS];
    for (wide, key) in rounds.iter_mut().zip(round_keys) {
        *wide = _mm512_broadcast_i32x4(*key);
    }
    rounds
}

/// One packet; `hidden` is what hides the tag, in the first place.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,vaes,vpclmulqdq")]
fn one<const SEAL: bool, const KEYS: usize>(
    (rounds, powers): (&[Quad; KEYS], &Powers),
    (nonce, hidden): (__m128i, Quad),
    aad: &[u8],
    text: &mut [u8],
) -> [u8; TAG_LEN] {
    let mut counters = Counters::new(nonce, 2);
    let lengths = _mm_set_epi64x(aad.len() as i64 * 8, text.len() as i64 * 8);
    let mut hash = Hash { state: alone(absorb(powers, aad)), powers };

    // While a stride is sealed, the one before is hashed, and while it is opened, itself: either way the two have nothing
    // to wait for each other.
    let (strides, tail) = text.as_chunks_mut::<STRIDE>();
    let mut before: Option<&mut [u8; STRIDE]> = None;
    for stride in strides {
        let hashed = if SEAL { before.as_deref() } else { Some(&*stride) };
        let pads: [Quad; 8] = pads(rounds, &mut counters, &mut hash, hashed);
        let (quads, _) = stride.as_chunks_mut::<QUAD>();
        for (quad, pad) in quads.iter_mut().zip(pads) {
            store(quad, _mm512_xor_si512(load(quad), pad));
        }
        before = Some(stride);
    }
    let hashed = if SEAL { before.as_deref() } else { None };
    if tail.len() > STRIDE / 2 {
        let pads: [Quad; 8] = pads(rounds, &mut counters, &mut hash, hashed);
        let (half, rest) = tail.split_at_mut(STRIDE / 2);
        let product = finish_part::<SEAL>(&mut hash, half, &pads[..4], 16);
        hash.state = alone(sum(product.reduce()));
        end::<SEAL>(&mut hash, rest, &pads[4..], lengths, hidden)
    } else {
        let pads: [Quad; 4] = pads(rounds, &mut counters, &mut hash, hashed);
        end::<SEAL>(&mut hash, tail, &pads, lengths, hidden)
    }
}

/// The hash of a packet so far.
struct Hash<'a> {
    /// In the first place; zeros behind it.
    state: Quad,
    powers: &'a Powers,
}

/// The next pads; and, between the rounds of the cipher, which leave the multiplier idle, takes a stride into the hash.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,vaes,vpclmulqdq")]
fn pads<const N: usize, const KEYS: usize>(
    rounds: &[Quad; KEYS],
    counters: &mut Counters,
    hash: &mut Hash<'_>,
    stride: Option<&[u8; STRIDE]>,
) -> [Quad; N] {
    let mut pads = [_mm512_setzero_si512(); N];
    for pad in &mut pads {
        *pad = _mm512_xor_si512(counters.take(), rounds[0]);
    }
    if let Some(stride) = stride {
        let (quads, _) = stride.as_chunks::<QUAD>();
        let (first, second) = quads.split_at(4);
        let mut product = Product::zero();
        // What came before enters last, since it is known last.
        for (at, round) in [1, 2, 3, 0].into_iter().zip(&rounds[1..5]) {
            aes::round(&mut pads, *round);
            let entering = if at == 0 { hash.state } else { _mm512_setzero_si512() };
            let blocks = _mm512_xor_si512(reversed(load(&first[at])), entering);
            product.add(blocks, hash.powers.each(16 - 4 * at));
        }
        let state = product.reduce();
        let mut product = Product::zero();
        for (at, round) in [1, 2, 3, 0].into_iter().zip(&rounds[5..9]) {
            aes::round(&mut pads, *round);
            let entering = if at == 0 { state } else { _mm512_setzero_si512() };
            let blocks = _mm512_xor_si512(reversed(load(&second[at])), entering);
            product.add(blocks, hash.powers.down_from(16 - 4 * at));
        }
        hash.state = alone(sum(product.reduce()));
    } else {
        for round in &rounds[1..9] {
            aes::round(&mut pads, *round);
        }
    }
    for round in &rounds[9..KEYS - 1] {
        aes::round(&mut pads, *round);
    }
    for pad in &mut pads {
        *pad = _mm512_aesenclast_epi128(*pad, rounds[KEYS - 1]);
    }
    pads
}

/// Encrypts or decrypts up to 16 blocks; the products for the hash, the first block's with `power`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,vpclmulqdq")]
fn finish_part<const SEAL: bool>(hash: &mut Hash<'_>, text: &mut [u8], pads: &[Quad], power: usize) -> Product {
    let mut product = Product::zero();
    let mut power = power;
    for (part, pad) in text.chunks_mut(QUAD).zip(pads) {
        let before = load_part(part);
        let after = _mm512_xor_si512(before, *pad);
        store_part(part, after);
        let hashed = if SEAL { kept(after, part.len()) } else { before };
        product.add(_mm512_xor_si512(reversed(hashed), hash.state), hash.powers.down_from(power));
        hash.state = _mm512_setzero_si512();
        power = power.saturating_sub(4);
    }
    product
}

/// The last blocks, at most 16; the lengths come behind them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,vpclmulqdq")]
fn end<const SEAL: bool>(
    hash: &mut Hash<'_>,
    text: &mut [u8],
    pads: &[Quad],
    lengths: __m128i,
    hidden: Quad,
) -> [u8; TAG_LEN] {
    let mut product = finish_part::<SEAL>(hash, text, pads, text.len().div_ceil(16) + 1);
    product.add(_mm512_xor_si512(alone(lengths), hash.state), hash.powers.first(1));
    let sum = reversed(alone(sum(product.reduce())));
    let mut tag = [0; TAG_LEN];
    store_block(&mut tag, _mm512_castsi512_si128(_mm512_xor_si512(sum, hidden)));
    tag
}

/// The hash of what is authenticated only, padded to whole blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,vpclmulqdq")]
fn absorb(powers: &Powers, aad: &[u8]) -> __m128i {
    let mut state = _mm_setzero_si128();
    for part in aad.chunks(QUAD) {
        let mut product = Product::zero();
        let blocks = _mm512_xor_si512(reversed(load_part(part)), alone(state));
        product.add(blocks, powers.down_from(part.len().div_ceil(16)));
        state = sum(product.reduce());
    }
    state
}
