//! Cipher suites whose HKDF says which secret a ticket leads to, and takes such a secret by word of mouth.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use rustls::crypto::tls13::{Hkdf, HkdfExpander, OkmBlock, OutputLengthError};
use rustls::crypto::{ActiveKeyExchange, CipherSuiteCommon, hmac};
use rustls::{Error, SupportedCipherSuite, Tls13CipherSuite};
use zeroize::Zeroizing;

use super::{KEY_LEN, key};

/// What a ticket's secret is derived under (RFC 8446 sections 4.6.1 and 7.1).
const LABEL: &[u8] = b"\x10tls13 resumption";

/// The same suite with an HKDF that is listened to.
pub(super) fn watched(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    type Pair = (&'static Tls13CipherSuite, &'static Tls13CipherSuite);
    static MADE: Mutex<Vec<Pair>> = Mutex::new(Vec::new());
    let Some(plain) = suite.tls13() else { return suite };
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, known)) = made.iter().find(|(of, known)| std::ptr::eq(*of, plain) || std::ptr::eq(*known, plain)) {
        return SupportedCipherSuite::Tls13(known);
    }
    let Tls13CipherSuite { common, hkdf_provider, aead_alg, quic } = plain;
    // Suites live as long as the process, and there is one of these for each of the few that there are.
    let hkdf_provider = Box::leak(Box::new(Watched(*hkdf_provider)));
    let common = CipherSuiteCommon { ..*common };
    let watched = Tls13CipherSuite { common, hkdf_provider, aead_alg: *aead_alg, quic: *quic };
    let watched: &'static Tls13CipherSuite = Box::leak(Box::new(watched));
    made.push((plain, watched));
    SupportedCipherSuite::Tls13(watched)
}

/// The nonce that makes a watched suite lead to `secret`.
pub(super) fn nonce_for(secret: &OkmBlock) -> Option<Zeroizing<Vec<u8>>> {
    Some(Zeroizing::new([&key()?[..], secret.as_ref()].concat()))
}

thread_local! {
    /// What is heard while somebody listens. TLS derives on the thread that gives it a ticket, before it returns.
    static EAR: RefCell<Ear> = const { RefCell::new(Ear::Closed) };
}

enum Ear {
    Closed,
    Open(Option<OkmBlock>),
}

/// Runs `f`; also returns the last secret of a ticket that was derived meanwhile.
pub(crate) fn listen<T>(f: impl FnOnce() -> T) -> (T, Option<OkmBlock>) {
    /// Closed again even if `f` panics, so that nothing is heard that nobody takes.
    struct Closer;
    impl Drop for Closer {
        fn drop(&mut self) {
            EAR.set(Ear::Closed);
        }
    }
    EAR.set(Ear::Open(None));
    let closer = Closer;
    let result = f();
    let heard = match EAR.replace(Ear::Closed) {
        Ear::Open(heard) => heard,
        Ear::Closed => None,
    };
    drop(closer);
    (result, heard)
}

struct Watched(&'static dyn Hkdf);

impl Hkdf for Watched {
    fn extract_from_zero_ikm(&self, salt: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        self.0.extract_from_zero_ikm(salt)
    }

    fn extract_from_secret(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        self.0.extract_from_secret(salt, secret)
    }

    fn extract_from_kx_shared_secret(
        &self,
        salt: Option<&[u8]>,
        kx: Box<dyn ActiveKeyExchange>,
        peer_pub_key: &[u8],
    ) -> Result<Box<dyn HkdfExpander>, Error> {
        self.0.extract_from_kx_shared_secret(salt, kx, peer_pub_key)
    }

    fn expander_for_okm(&self, okm: &OkmBlock) -> Box<dyn HkdfExpander> {
        Box::new(WatchedExpander(self.0.expander_for_okm(okm)))
    }

    fn hmac_sign(&self, key: &OkmBlock, message: &[u8]) -> hmac::Tag {
        self.0.hmac_sign(key, message)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct WatchedExpander(Box<dyn HkdfExpander>);

impl HkdfExpander for WatchedExpander {
    fn expand_slice(&self, info: &[&[u8]], output: &mut [u8]) -> Result<(), OutputLengthError> {
        self.0.expand_slice(info, output)
    }

    fn expand_block(&self, info: &[&[u8]]) -> OkmBlock {
        let whole = Zeroizing::new(info.concat());
        // A length of two bytes, the label with its length, the nonce with its length.
        let nonce = whole.get(2..).and_then(|rest| rest.strip_prefix(LABEL)).and_then(|rest| rest.get(1..));
        let Some(nonce) = nonce else { return self.0.expand_block(info) };
        let secret = match told(nonce).filter(|secret| secret.len() == self.0.hash_len()) {
            Some(secret) => OkmBlock::new(secret),
            None => self.0.expand_block(info),
        };
        EAR.with_borrow_mut(|ear| {
            if let Ear::Open(heard) = ear {
                *heard = Some(secret.clone());
            }
        });
        secret
    }

    fn hash_len(&self) -> usize {
        self.0.hash_len()
    }
}

/// The secret in a nonce of [`nonce_for`]. No peer can make such a nonce.
fn told(nonce: &[u8]) -> Option<&[u8]> {
    let (front, secret) = nonce.split_first_chunk::<KEY_LEN>()?;
    verify_slices_are_equal(front, key()?).is_ok().then_some(secret)
}

#[cfg(test)]
mod tests {
    use rustls::crypto::{aws_lc_rs as aws, ring};

    use super::*;
    use crate::crypto::portable::KEY;

    fn derive(suite: SupportedCipherSuite, label: &[u8], nonce: &[u8]) -> Vec<u8> {
        let hkdf = suite.tls13().unwrap().hkdf_provider;
        let master =
            OkmBlock::new(&vec![
                3;
                if suite.suite() == rustls::CipherSuite::TLS13_AES_256_GCM_SHA384 { 48 } else { 32 }
            ]);
        let expander = hkdf.expander_for_okm(&master);
        let len = (expander.hash_len() as u16).to_be_bytes();
        let lengths = [[label.len() as u8 + 6], [nonce.len() as u8]];
        expander.expand_block(&[&len, &lengths[0], b"tls13 ", label, &lengths[1], nonce]).as_ref().to_vec()
    }

    #[test]
    fn only_who_knows_the_key_says_what_a_nonce_leads_to() {
        let key = KEY.get_or_init(|| [9; KEY_LEN]);
        let suites = [
            (ring::cipher_suite::TLS13_AES_128_GCM_SHA256, 32),
            (aws::cipher_suite::TLS13_AES_256_GCM_SHA384, 48),
            (aws::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256, 32),
        ];
        for (plain, len) in suites {
            let watched = watched(plain);
            let secret = vec![0xaa; len];
            let told = nonce_for(&OkmBlock::new(&secret)).unwrap();
            let (derived, heard) = listen(|| derive(watched, b"resumption", &told));
            assert_eq!((derived.as_slice(), heard.unwrap().as_ref()), (&secret[..], &secret[..]));
            let mut almost = told.to_vec();
            almost[KEY_LEN - 1] ^= 1;
            let (short, long) = (&told[..told.len() - 1], [&told[..], &[0]].concat());
            for nonce in [&[][..], &[0, 1], &almost, short, &long, &key[..], &[7; 255]] {
                let (derived, heard) = listen(|| derive(watched, b"resumption", nonce));
                assert_eq!(derived, derive(plain, b"resumption", nonce), "as without being watched");
                assert_eq!(heard.unwrap().as_ref(), derived, "and it is heard");
            }
            for label in [&b"res master"[..], b"resumptiom", b"resumption2", b""] {
                let (derived, heard) = listen(|| derive(watched, label, &told));
                assert_eq!(derived, derive(plain, label, &told));
                assert!(heard.is_none(), "nothing else is listened to");
            }
        }
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let suite = watched(ring::cipher_suite::TLS13_AES_128_GCM_SHA256);
        derive(suite, b"resumption", &[1]);
        assert!(listen(|| ()).1.is_none(), "what was derived before");
        let panics = std::panic::catch_unwind(|| listen(|| -> () { panic!("a test of what follows") }));
        assert!(panics.is_err());
        derive(suite, b"resumption", &[1]);
        assert!(EAR.with_borrow(|ear| matches!(ear, Ear::Closed)));
    }

    #[test]
    fn a_suite_is_watched_once() {
        let plain = ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
        let (first, again) = (watched(plain).tls13().unwrap(), watched(watched(plain)).tls13().unwrap());
        assert!(std::ptr::eq(first, again) && !std::ptr::eq(first, plain.tls13().unwrap()));
    }
}
