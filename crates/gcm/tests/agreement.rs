//! The cipher against Project Wycheproof's vectors and against two libraries.

#![allow(clippy::unwrap_used, reason = "a test: an error ends it")]

use std::sync::Once;

use proptest::prelude::*;
use warpline_gcm::{AeadKey, MaskKey, is_supported};
use wycheproof::aead::{TestName, TestSet};

/// Says once that nothing can be tested here.
fn skips() -> bool {
    static SAID: Once = Once::new();
    if !is_supported() {
        SAID.call_once(|| eprintln!("skipped: this processor lacks AVX-512, VAES or VPCLMULQDQ"));
    }
    !is_supported()
}

/// What a library makes of a text.
macro_rules! sealed_by {
    ($library:ident, $key:expr, $nonce:expr, $aad:expr, $text:expr) => {{
        use ::$library::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
        let algorithm = if $key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, $key).unwrap());
        let mut text = $text.to_vec();
        let tag =
            key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(*$nonce), Aad::from($aad), &mut text).unwrap();
        (text, <[u8; 16]>::try_from(tag.as_ref()).unwrap())
    }};
}

/// A packet's number whose bytes all differ, and the vector that gives this nonce with it.
fn vector_of(nonce: &[u8; 12]) -> (u64, [u8; 12]) {
    let number = 0x0123_4567_89ab_cdef_u64;
    let mut iv = *nonce;
    iv[4..].iter_mut().zip(number.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
    (number, iv)
}

fn agrees(key: &[u8], nonce: &[u8; 12], aad: &[u8], text: &[u8]) {
    let (number, iv) = vector_of(nonce);
    let own = AeadKey::new(key, &iv).unwrap();
    let mut sealed = text.to_vec();
    let tag = own.seal(number, aad, &mut sealed);
    let (len, aad_len) = (text.len(), aad.len());
    assert_eq!((&sealed, tag), (&sealed_by!(ring, key, nonce, aad, text).0, sealed_by!(ring, key, nonce, aad, text).1));
    assert_eq!((sealed.clone(), tag), sealed_by!(aws_lc_rs, key, nonce, aad, text), "{len} and {aad_len} bytes");
    let mut opened = sealed.clone();
    assert!(own.open(number, aad, &mut opened, &tag), "{len} and {aad_len} bytes");
    assert_eq!(opened, text);
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(29) ^ (at >> 8) as u8 ^ seed).collect()
}

#[test]
fn every_length_of_text_is_sealed_as_by_the_libraries() {
    if skips() {
        return;
    }
    for key in [bytes(16, 1), bytes(32, 2)] {
        for len in 0..1600 {
            agrees(&key, &[7; 12], &bytes(len % 21, 3), &bytes(len, 4));
        }
        for len in [4095, 4096, 4097, 8972, 65_536, 70_001] {
            agrees(&key, &[8; 12], &bytes(13, 3), &bytes(len, 5));
        }
    }
}

#[test]
fn every_length_of_header_is_authenticated_as_by_the_libraries() {
    if skips() {
        return;
    }
    for len in 0..300 {
        agrees(&bytes(16, 1), &[9; 12], &bytes(len, 6), &bytes(100, 7));
    }
}

#[test]
fn vectors() {
    if skips() {
        return;
    }
    let mut run = 0;
    for group in TestSet::load(TestName::AesGcm).unwrap().test_groups {
        if group.nonce_size != 96 || group.tag_size != 128 || group.key_size == 192 {
            continue;
        }
        for test in group.tests {
            let (number, iv) = vector_of(test.nonce[..].try_into().unwrap());
            let key = AeadKey::new(&test.key, &iv).unwrap();
            let tag = test.tag[..].try_into().unwrap();
            let mut text = test.ct.to_vec();
            let is_open = key.open(number, &test.aad, &mut text, &tag);
            assert_eq!(is_open, !test.result.must_fail(), "{}: {}", test.tc_id, test.comment);
            if is_open {
                assert_eq!(text, *test.pt, "{}", test.tc_id);
                assert_eq!(key.seal(number, &test.aad, &mut text), tag, "{}", test.tc_id);
                assert_eq!(text, *test.ct, "{}", test.tc_id);
            } else {
                assert!(text.iter().all(|byte| *byte == 0), "nothing is told of a text that is not authentic");
            }
            run += 1;
        }
    }
    assert!(run > 60, "{run} tests");
}

#[test]
fn the_counter_carries_over_all_its_bytes() {
    if skips() {
        return;
    }
    // 2^16 blocks and more.
    agrees(&bytes(16, 1), &[0xff; 12], b"", &bytes(16 * 65_600 + 5, 8));
}

#[test]
fn masks_are_those_of_the_libraries() {
    if skips() {
        return;
    }
    use aws_lc_rs::aead::quic::{AES_128, AES_256, HeaderProtectionKey};
    for seed in 0..100 {
        for (len, algorithm) in [(16, &AES_128), (32, &AES_256)] {
            let (key, sample) = (bytes(len, seed), bytes(16, seed ^ 0x55));
            let other = HeaderProtectionKey::new(algorithm, &key).unwrap().new_mask(&sample).unwrap();
            let own = MaskKey::new(&key).unwrap().mask(sample[..].try_into().unwrap());
            assert_eq!(own[..5], other);
        }
    }
}

#[test]
fn keys_of_other_lengths_are_refused() {
    for len in [0, 15, 17, 24, 31, 33] {
        assert!(AeadKey::new(&bytes(len, 0), &[0; 12]).is_none() && MaskKey::new(&bytes(len, 0)).is_none());
    }
}

proptest! {
    #[test]
    fn anything_is_sealed_as_by_the_libraries(
        key in any::<[u8; 16]>(),
        nonce in any::<[u8; 12]>(),
        aad in proptest::collection::vec(any::<u8>(), 0..100),
        text in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        if !skips() {
            agrees(&key, &nonce, &aad, &text);
        }
    }

    #[test]
    fn any_bit_that_is_turned_is_found(
        key in any::<[u8; 32]>(),
        nonce in any::<[u8; 12]>(),
        text in proptest::collection::vec(any::<u8>(), 1..600),
        at in any::<prop::sample::Index>(),
    ) {
        if skips() {
            return Ok(());
        }
        let (number, iv) = vector_of(&nonce);
        let own = AeadKey::new(&key, &iv).unwrap();
        let mut sealed = text.clone();
        let tag = own.seal(number, b"header", &mut sealed);
        let bit = at.index((sealed.len() + 16) * 8);
        let (mut turned, mut turned_tag) = (sealed.clone(), tag);
        match turned.get_mut(bit / 8) {
            Some(byte) => *byte ^= 1 << (bit % 8),
            None => turned_tag[bit / 8 - sealed.len()] ^= 1 << (bit % 8),
        }
        prop_assert!(!own.open(number, b"header", &mut turned, &turned_tag));
        prop_assert!(!own.open(number, b"Header", &mut sealed.clone(), &tag));
    }
}
