//! Connection IDs that a load balancer can route by (draft-ietf-quic-load-balancers).
//!
//! A server behind such a balancer writes its server ID into every connection ID, in the clear or under a key that it shares
//! with the balancer. Behind that part stand two bytes of its own, which the draft permits: the partition key, by which the
//! kernel finds the worker without any key ([`warpline_wire::cid::Layout`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use warpline_wire::cid::Layout;

use crate::error::ConfigError;
use crate::rng::Rng;

/// Bytes of the partition key behind the balancer's part.
const KEY_LEN: usize = 2;
/// Shortest nonce (section 5.3 of the draft).
const NONCE_MIN: usize = 4;
/// Longest server ID and nonce together: the rest of an ID's 20 bytes is the first octet and the partition key.
const ROUTING_MAX: usize = 20 - 1 - KEY_LEN;
/// Marks IDs that carry no server ID: balancers route them by other means (section 3.2).
const UNROUTABLE: u8 = 0b111;
/// Nonces that a worker takes at once from what all workers share.
const NONCE_BLOCK: u64 = 1_024;
/// Length of one AES block, the case of a single pass (section 5.4.1).
const BLOCK: usize = 16;

/// One configuration of the balancers, as its agent gives it to a server.
#[derive(Clone)]
pub struct QuicLb {
    rotation: u8,
    server_id: Vec<u8>,
    nonce_len: usize,
    cipher: Option<Arc<EncryptingKey>>,
    self_length: bool,
    nonces: Arc<Nonces>,
}

/// The nonces of a key, shared by all workers: none is used twice (section 9.6).
struct Nonces {
    first: u64,
    used: AtomicU64,
    count: u64,
}

impl QuicLb {
    /// A configuration with `server_id` (1 to 13 bytes) and nonces of `nonce_len` bytes (4 to 16), 17 together at most, marked by the
    /// config rotation bits `rotation` (0 to 6). With `key` both are encrypted; without it whoever sees an ID sees the server,
    /// and connections get no further IDs (section 9.1).
    ///
    /// `nonce_start` is where the nonces of a key begin: random, so that a server that starts anew does not repeat itself. After
    /// 2^32 IDs a nonce of 4 bytes is used up and IDs become unroutable; give a new configuration before that.
    ///
    /// # Errors
    /// Lengths or rotation bits out of range.
    pub fn new(
        rotation: u8,
        server_id: &[u8],
        nonce_len: usize,
        key: Option<&[u8; 16]>,
        nonce_start: u64,
    ) -> Result<Self, ConfigError> {
        let check = |ok: bool, name, why| if ok { Ok(()) } else { Err(ConfigError::OutOfRange { name, why }) };
        check(rotation < UNROUTABLE, "rotation", "takes 0 to 6")?;
        check(!server_id.is_empty(), "server_id", "has at least one byte")?;
        check(nonce_len >= NONCE_MIN, "nonce_len", "is at least 4 bytes")?;
        check(server_id.len() + nonce_len <= ROUTING_MAX, "nonce_len", "server ID and nonce have 17 bytes at most")?;
        let cipher = key.map(|key| {
            let key = UnboundCipherKey::new(&AES_128, key).expect("16 bytes are a key of AES-128");
            Arc::new(EncryptingKey::ecb(key).expect("AES-128 has ECB"))
        });
        let count = if nonce_len >= 8 { u64::MAX } else { 1 << (nonce_len * 8) };
        let nonces = Arc::new(Nonces { first: nonce_start, used: AtomicU64::new(0), count });
        Ok(Self { rotation, server_id: server_id.to_vec(), nonce_len, cipher, self_length: false, nonces })
    }

    /// The same with the ID's length in its first octet, for devices that need it there (section 3.3).
    #[must_use]
    pub fn self_describing(mut self) -> Self {
        self.self_length = true;
        self
    }

    /// The IDs' length and the place of the partition key in them.
    pub fn layout(&self) -> Layout {
        let routing = self.routing_len() as u8;
        Layout { len: 1 + routing + KEY_LEN as u8, key_offset: 1 + routing }
    }

    fn routing_len(&self) -> usize {
        self.server_id.len() + self.nonce_len
    }

    /// Connections may have several IDs: they do not tell that they belong together.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.cipher.is_some()
    }
}

impl std::fmt::Debug for QuicLb {
    /// Leaves out the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicLb")
            .field("rotation", &self.rotation)
            .field("server_id", &self.server_id)
            .field("nonce_len", &self.nonce_len)
            .field("encrypted", &self.cipher.is_some())
            .finish_non_exhaustive()
    }
}

/// Writes IDs by one configuration, for one worker.
#[derive(Debug)]
pub(crate) struct Encoder {
    config: QuicLb,
    next: u64,
    end: u64,
}

impl Encoder {
    pub(crate) fn new(config: QuicLb) -> Self {
        Self { config, next: 0, end: 0 }
    }

    pub(crate) fn config(&self) -> &QuicLb {
        &self.config
    }

    /// Writes all of an ID but the partition key; `out` has the layout's length.
    pub(crate) fn write(&mut self, rng: &mut Rng, out: &mut [u8]) {
        rng.fill(out);
        let len = out.len() - KEY_LEN;
        let Some((first, routing)) = out.get_mut(..len).and_then(|o| o.split_first_mut()) else { return };
        let mut rotation = self.config.rotation;
        let sid_len = self.config.server_id.len();
        let nonce = if self.config.is_encrypted() { self.next_nonce().map(Some) } else { Some(None) };
        match nonce {
            Some(counted) => {
                routing[..sid_len].copy_from_slice(&self.config.server_id);
                if let Some(counted) = counted {
                    // The front of a long nonce stays random.
                    let bytes = counted.to_be_bytes();
                    let take = bytes.len().min(self.config.nonce_len);
                    let at = routing.len() - take;
                    routing[at..].copy_from_slice(&bytes[bytes.len() - take..]);
                }
                if let Some(cipher) = &self.config.cipher {
                    encrypt(cipher, routing);
                }
            }
            // Section 9.6: used up. What is left is random.
            None => rotation = UNROUTABLE,
        }
        let describes_length = self.config.self_length || rotation == UNROUTABLE;
        let low = if describes_length { (out.len() - 1) as u8 } else { *first & 0x1f };
        out[0] = rotation << 5 | low;
    }

    fn next_nonce(&mut self) -> Option<u64> {
        let nonces = &self.config.nonces;
        if self.next == self.end {
            self.next = nonces.used.fetch_add(NONCE_BLOCK, Ordering::Relaxed);
            self.end = self.next.saturating_add(NONCE_BLOCK);
        }
        if self.next >= nonces.count {
            return None;
        }
        let nonce = nonces.first.wrapping_add(self.next);
        self.next += 1;
        Some(nonce)
    }
}

fn aes(cipher: &EncryptingKey, block: &mut [u8; BLOCK]) {
    cipher.less_safe_encrypt(block, EncryptionContext::None).expect("ECB takes whole blocks");
}

/// Server ID and nonce become their cipher text in place (sections 5.4.1 and 5.4.2).
fn encrypt(cipher: &EncryptingKey, routing: &mut [u8]) {
    if let Ok(block) = <&mut [u8; BLOCK]>::try_from(&mut *routing) {
        return aes(cipher, block);
    }
    let mut halves = Halves::split(routing);
    for pass in 1..=4 {
        halves.pass(cipher, pass);
    }
    halves.join(routing);
}

/// The two halves of the Feistel network; of an odd length both hold the middle byte, one its high and one its low bits.
struct Halves {
    left: [u8; BLOCK],
    right: [u8; BLOCK],
    /// Bytes of a half.
    half: usize,
    len: usize,
}

impl Halves {
    fn split(bytes: &[u8]) -> Self {
        let (len, half) = (bytes.len(), bytes.len().div_ceil(2));
        let mut halves = Self { left: [0; BLOCK], right: [0; BLOCK], half, len };
        halves.left[..half].copy_from_slice(&bytes[..half]);
        halves.right[..half].copy_from_slice(&bytes[len - half..]);
        halves.clear();
        halves
    }

    fn clear(&mut self) {
        if self.len % 2 == 1 {
            self.left[self.half - 1] &= 0xf0;
            self.right[0] &= 0x0f;
        }
    }

    /// Odd passes change the right half, even ones the left.
    fn pass(&mut self, cipher: &EncryptingKey, pass: u8) {
        let (from, to) = if pass % 2 == 1 { (&self.left, &mut self.right) } else { (&self.right, &mut self.left) };
        let mut block = [0; BLOCK];
        block[..self.half].copy_from_slice(&from[..self.half]);
        block[14] = self.len as u8;
        block[15] = pass;
        aes(cipher, &mut block);
        for (byte, mask) in to.iter_mut().zip(&block).take(self.half) {
            *byte ^= mask;
        }
        self.clear();
    }

    fn join(&self, bytes: &mut [u8]) {
        let middle = self.left[self.half - 1] | self.right[0];
        bytes[..self.half].copy_from_slice(&self.left[..self.half]);
        bytes[self.len - self.half..].copy_from_slice(&self.right[..self.half]);
        if self.len % 2 == 1 {
            bytes[self.half - 1] = middle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::vectors::hex;

    fn cipher(key: &str) -> EncryptingKey {
        EncryptingKey::ecb(UnboundCipherKey::new(&AES_128, &hex(key)).unwrap()).unwrap()
    }

    /// What a balancer does with the encrypted part.
    fn decrypt(key: &EncryptingKey, bytes: &mut [u8]) {
        let mut halves = Halves::split(bytes);
        for pass in (1..=4).rev() {
            halves.pass(key, pass);
        }
        halves.join(bytes);
    }

    /// The example of section 5.4.2.4 of the draft.
    #[test]
    fn four_passes_give_the_drafts_example() {
        let key = cipher("fdf726a9893ec05c0632d3956680baf0");
        let mut halves = Halves::split(&hex("31441a9c69c275"));
        assert_eq!((&halves.left[..4], &halves.right[..4]), (&hex("31441a90")[..], &hex("0c69c275")[..]));
        halves.pass(&key, 1);
        assert_eq!(&halves.right[..4], hex("0e3c1ff9"));
        halves.pass(&key, 2);
        assert_eq!(&halves.left[..4], hex("d4a04850"));
        halves.pass(&key, 3);
        assert_eq!(&halves.right[..4], hex("09be054a"));
        halves.pass(&key, 4);
        assert_eq!(&halves.left[..4], hex("67947d20"));
        let mut out = [0; 7];
        halves.join(&mut out);
        assert_eq!(out[..], hex("67947d29be054a"));
    }

    #[test]
    fn a_balancer_finds_the_server_in_every_form() {
        let key = *b"0123456789abcdef";
        let mut rng = Rng::new([3; 32]);
        for (sid_len, nonce_len) in [(1, 4), (2, 4), (3, 4), (4, 8), (8, 8), (1, 16), (13, 4), (3, 13)] {
            let server_id: Vec<u8> = (1..=sid_len as u8).collect();
            let config = QuicLb::new(2, &server_id, nonce_len, Some(&key), 77).unwrap();
            let layout = config.layout();
            let balancer = config.cipher.clone().unwrap();
            let mut encoder = Encoder::new(config);
            let mut seen = std::collections::HashSet::new();
            for _ in 0..2_000 {
                let mut id = vec![0; layout.len.into()];
                encoder.write(&mut rng, &mut id);
                assert_eq!(id[0] >> 5, 2);
                let routing = &mut id[1..1 + sid_len + nonce_len];
                assert!(seen.insert(routing.to_vec()), "the same ID twice");
                if routing.len() == 16 {
                    let mut plain: [u8; 16] = routing.try_into().unwrap();
                    let unbound = UnboundCipherKey::new(&AES_128, &key).unwrap();
                    let block = aws_lc_rs::cipher::DecryptingKey::ecb(unbound).unwrap();
                    block.decrypt(&mut plain, aws_lc_rs::cipher::DecryptionContext::None).unwrap();
                    assert_eq!(plain[..sid_len], server_id);
                } else {
                    decrypt(&balancer, routing);
                    assert_eq!(routing[..sid_len], server_id);
                }
            }
        }
    }

    #[test]
    fn in_the_clear_the_server_stands_behind_the_first_octet_and_nonces_are_random() {
        let mut encoder = Encoder::new(QuicLb::new(5, &[0xaa, 0xbb], 6, None, 0).unwrap().self_describing());
        let mut rng = Rng::new([4; 32]);
        let (mut a, mut b) = ([0; 11], [0; 11]);
        encoder.write(&mut rng, &mut a);
        encoder.write(&mut rng, &mut b);
        assert_eq!((a[0], &a[1..3]), (5 << 5 | 10, &[0xaa, 0xbb][..]));
        assert_ne!(a[3..9], b[3..9]);
    }

    #[test]
    fn nonces_are_never_repeated_and_ids_become_unroutable_when_they_are_used_up() {
        let mut config = QuicLb::new(1, &[9], 4, Some(&[7; 16]), 5).unwrap();
        config.nonces = Arc::new(Nonces { first: 5, used: AtomicU64::new(0), count: 1_500 });
        let (mut one, mut two) = (Encoder::new(config.clone()), Encoder::new(config));
        let mut nonces: Vec<u64> = std::iter::from_fn(|| one.next_nonce()).collect();
        nonces.extend(std::iter::from_fn(|| two.next_nonce()));
        nonces.sort_unstable();
        assert_eq!(nonces, (5..1_505).collect::<Vec<u64>>());
        let mut id = [0; 8];
        one.write(&mut Rng::new([1; 32]), &mut id);
        assert_eq!(id[0], 0b111 << 5 | 7, "unroutable, with its length");
    }

    #[test]
    fn lengths_out_of_range_are_refused() {
        assert!(QuicLb::new(7, &[1], 4, None, 0).is_err());
        assert!(QuicLb::new(0, &[], 4, None, 0).is_err());
        assert!(QuicLb::new(0, &[1], 3, None, 0).is_err());
        assert!(QuicLb::new(0, &[1; 10], 8, None, 0).is_err());
        assert!(QuicLb::new(0, &[1; 9], 8, None, 0).is_ok());
    }
}
