//! Content that proves its place: byte `n` of a stream is a function of the stream's key and of `n`, so a receiver
//! notices every byte that is wrong, missing, repeated or out of order, without a copy of what was sent.

use crate::rng::split_mix;

/// The content of one direction of one stream.
#[derive(Debug, Clone)]
pub struct Pattern {
    key: u64,
    offset: u64,
}

impl Pattern {
    /// The content that belongs to `key`, from its beginning.
    pub fn new(key: u64) -> Self {
        Self { key, offset: 0 }
    }

    /// Bytes made or verified so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next `len` bytes.
    pub fn generate(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let (word, within) = self.position();
            let take = (8 - within).min(len - bytes.len());
            bytes.extend(word.iter().skip(within).take(take));
            self.offset += take as u64;
        }
        bytes
    }

    /// Compares the next bytes.
    ///
    /// # Errors
    ///
    /// The offset of the first byte that is not what belongs there. Verification cannot go on after that.
    pub fn verify(&mut self, mut bytes: &[u8]) -> Result<(), u64> {
        while !bytes.is_empty() {
            let (word, within) = self.position();
            let take = (8 - within).min(bytes.len());
            let (head, rest) = bytes.split_at(take);
            let right = word.iter().skip(within).zip(head).take_while(|(a, b)| a == b).count();
            self.offset += right as u64;
            if right < take {
                return Err(self.offset);
            }
            bytes = rest;
        }
        Ok(())
    }

    /// The eight bytes around the offset, and where in them the offset is.
    fn position(&self) -> ([u8; 8], usize) {
        let mut state = self.key ^ (self.offset / 8).wrapping_mul(0x2545_f491_4f6c_dd1d);
        (split_mix(&mut state).to_le_bytes(), (self.offset % 8) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_split_gives_the_same_bytes() {
        let whole = Pattern::new(5).generate(100);
        let mut parts = Pattern::new(5);
        let mut joined = Vec::new();
        for len in [1, 2, 3, 5, 8, 13, 21, 34, 13] {
            joined.extend(parts.generate(len));
        }
        assert_eq!(whole, joined);
        let mut check = Pattern::new(5);
        assert_eq!(check.verify(&whole[..37]), Ok(()));
        assert_eq!(check.verify(&whole[37..]), Ok(()));
        assert_eq!(check.offset(), 100);
    }

    #[test]
    fn a_wrong_a_repeated_and_a_missing_byte_are_seen() {
        let good = Pattern::new(6).generate(64);
        let mut wrong = good.clone();
        wrong[41] ^= 1;
        assert_eq!(Pattern::new(6).verify(&wrong), Err(41));
        assert_eq!(Pattern::new(7).verify(&good), Err(0));
        let mut skip = Pattern::new(6);
        assert_eq!(skip.verify(&good[..10]), Ok(()));
        assert!(skip.verify(&good[9..]).is_err());
        let mut gap = Pattern::new(6);
        assert_eq!(gap.verify(&good[..10]), Ok(()));
        assert!(gap.verify(&good[11..]).is_err());
    }
}
