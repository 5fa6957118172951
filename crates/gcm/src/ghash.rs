//! GHASH (NIST SP 800-38D section 6.4).
//!
//! Elements of the field are kept with their bytes reversed, so that a carry-less multiplication of two of them is the
//! product, off by one bit. The powers of the hash key that blocks are multiplied with are kept multiplied by x, which
//! makes up for that bit.

use core::arch::x86_64::*;

use crate::vector::{QUAD, Quad, alone, load, load_block, load_part, store, store_block};

/// The field's polynomial without its highest and lowest term, in the order of bits that products have.
const POLYNOMIAL: i64 = 0xc200_0000_0000_0000_u64.cast_signed();

/// Powers of the hash key that are kept. A pass ends with up to 16 blocks and the lengths.
const POWERS: usize = 17;

/// Room for the powers in quads; what is left over, before the first of them, stays zero.
const TABLE: usize = POWERS.next_multiple_of(4) * 16;

/// Bytes from the eighth power on: all that a packet of up to six blocks and a header of one needs.
pub(crate) const LOW: usize = 8 * 16;

const _: () = assert!((TABLE - LOW).is_multiple_of(QUAD), "the lower powers are on two cache lines");

/// A sum of products that is not reduced yet: low, middle and high parts.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    low: Quad,
    middle: Quad,
    high: Quad,
}

impl Product {
    /// The empty sum.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn zero() -> Self {
        let zero = _mm512_setzero_si512();
        Self { low: zero, middle: zero, high: zero }
    }

    /// Adds the products of the blocks and the powers, place by place.
    #[inline]
    #[target_feature(enable = "avx512f,vpclmulqdq")]
    pub(crate) fn add(&mut self, blocks: Quad, powers: Quad) {
        let low = _mm512_clmulepi64_epi128::<0x00>(blocks, powers);
        let first = _mm512_clmulepi64_epi128::<0x01>(blocks, powers);
        let second = _mm512_clmulepi64_epi128::<0x10>(blocks, powers);
        let high = _mm512_clmulepi64_epi128::<0x11>(blocks, powers);
        self.low = _mm512_xor_si512(self.low, low);
        self.middle = _mm512_ternarylogic_epi64::<0x96>(self.middle, first, second);
        self.high = _mm512_xor_si512(self.high, high);
    }

    /// The sums modulo the field's polynomial, place by place.
    #[inline]
    #[target_feature(enable = "avx512f,vpclmulqdq")]
    pub(crate) fn reduce(self) -> Quad {
        let polynomial = _mm512_set1_epi64(POLYNOMIAL);
        let fold = |low, above| {
            let swapped = _mm512_shuffle_epi32::<0x4e>(low);
            let carried = _mm512_clmulepi64_epi128::<0x00>(polynomial, low);
            _mm512_ternarylogic_epi64::<0x96>(above, swapped, carried)
        };
        fold(fold(self.low, self.middle), self.high)
    }
}

/// The powers of a hash key, the highest first and the first at the end.
#[derive(Clone)]
#[repr(align(64))]
pub(crate) struct Powers([u8; TABLE]);

impl Powers {
    /// Those of the key that AES makes of zeros.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,vpclmulqdq")]
    pub(crate) fn new(hash_key: [u8; 16]) -> Self {
        // Times x: a shift, and the polynomial where a term leaves at the top.
        let key = u128::from_be_bytes(hash_key);
        let carry = 0u128.wrapping_sub(key >> 127);
        let key = (key << 1) ^ (carry & 0xc200_0000_0000_0000_0000_0000_0000_0001);
        let one = alone(_mm_set_epi64x((key >> 64) as i64, key as i64));
        let times = |a, b| {
            let mut product = Product::zero();
            product.add(a, b);
            product.reduce()
        };
        let two = times(one, one);
        let mut table = Self([0; TABLE]);
        for (power, value) in [(1, one), (2, two), (3, times(two, one)), (4, times(two, two))] {
            store_block(table.place(power), _mm512_castsi512_si128(value));
        }
        let four = table.each(4);
        let mut quad = table.down_from(4);
        for power in [8, 12, 16] {
            quad = times(quad, four);
            store(table.place(power), quad);
        }
        let last = times(table.down_from(POWERS - 1), one);
        store_block(table.place(POWERS), _mm512_castsi512_si128(last));
        table
    }

    /// Where a power is, and the next lower ones.
    fn place<const LEN: usize>(&mut self, power: usize) -> &mut [u8; LEN] {
        let place = self.0[TABLE - power * 16..].first_chunk_mut();
        place.expect("whoever writes more than one power begins at the fourth or above")
    }

    /// The four powers from the given one down; those below the first are zero.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(crate) fn down_from(&self, power: usize) -> Quad {
        let from = &self.0[TABLE - power * 16..];
        match from.first_chunk::<QUAD>() {
            Some(quad) => load(quad),
            None => load_part(from),
        }
    }

    /// The given power alone.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn one(&self, power: usize) -> __m128i {
        let block = self.0[TABLE - power * 16..].first_chunk();
        load_block(block.expect("there is a block from the first power on"))
    }

    /// The given power in the first place, zeros behind it.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn first(&self, power: usize) -> Quad {
        alone(self.one(power))
    }

    /// The given power in all four places.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn each(&self, power: usize) -> Quad {
        _mm512_broadcast_i32x4(self.one(power))
    }
}

impl zeroize::Zeroize for Powers {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}
