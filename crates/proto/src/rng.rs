//! Randomness that is passed in: one seeded generator per endpoint.

use aws_lc_rs::aead::quic::{AES_256, HeaderProtectionKey};

/// A deterministic generator, seeded by whoever makes the endpoint (from the system's generator in production,
/// from the run's seed in the simulator).
///
/// It is the AES-256 block function over a counter, so its output is unpredictable to peers: connection IDs,
/// path challenges and packet-number skips all come from it.
pub(crate) struct Rng {
    key: HeaderProtectionKey,
    counter: u128,
    block: [u8; 5],
    used: usize,
}

impl Rng {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        let key = HeaderProtectionKey::new(&AES_256, &seed).expect("an AES-256 key is 32 bytes long");
        Self { key, counter: 0, block: [0; 5], used: 5 }
    }

    /// Fills `out` with random bytes.
    #[inline]
    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            if self.used == self.block.len() {
                self.counter += 1;
                self.block =
                    self.key.new_mask(&self.counter.to_le_bytes()).expect("a sample is one block of 16 bytes long");
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    #[inline]
    pub(crate) fn bit(&mut self) -> bool {
        self.array::<1>()[0] & 1 == 1
    }

    /// A number below `bound` (which is not zero). The bias of the modulo is below 2^-32 for the small bounds used.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        (self.u64() % u64::from(bound)) as u32
    }
}
