//! The book of one instrument, and how its changes travel to subscribers.

use std::collections::BTreeMap;

/// A price in hundredths and an amount in thousandths.
pub type Level = (u64, u64);

/// Levels on each side that a checksum covers.
const CHECKED: usize = 10;

/// Bytes of a frame before its levels.
const HEAD: usize = 1 + 2 + 8 + 8 + 4 + 2 + 2;

/// Bids and asks by price.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Book {
    pub bids: BTreeMap<u64, u64>,
    pub asks: BTreeMap<u64, u64>,
}

impl Book {
    /// Sets levels; an amount of zero removes one.
    pub fn apply(&mut self, bids: &[Level], asks: &[Level]) {
        for (side, levels) in [(&mut self.bids, bids), (&mut self.asks, asks)] {
            for &(price, amount) in levels {
                if amount == 0 {
                    side.remove(&price);
                } else {
                    side.insert(price, amount);
                }
            }
        }
    }

    /// Of the best levels on each side.
    pub fn checksum(&self) -> u32 {
        hash(self.bids.iter().rev().take(CHECKED).chain(self.asks.iter().take(CHECKED)))
    }

    /// Of all levels.
    pub fn full_checksum(&self) -> u32 {
        hash(self.bids.iter().chain(&self.asks))
    }
}

/// FNV-1a over words.
fn hash<'a>(levels: impl Iterator<Item = (&'a u64, &'a u64)>) -> u32 {
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x0100_0000_01b3);
    let hash = levels.fold(0xcbf2_9ce4_8422_2325, |hash, (&price, &amount)| mix(mix(hash, price), amount));
    (hash ^ (hash >> 32)) as u32
}

/// What happened to a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The levels are the whole book; the checksum is the full one.
    Snapshot,
    /// The levels changed; the checksum is that of the best ones afterwards.
    Update,
    /// Nothing follows. The checksum is the full one.
    End,
}

/// A message to subscribers.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub kind: Kind,
    pub feed: u16,
    pub sequence: u64,
    /// When it was read from the feed's socket, in nanoseconds of the program's clock.
    pub stamp: u64,
    pub checksum: u32,
    pub bids: Vec<Level>,
    pub asks: Vec<Level>,
}

impl Frame {
    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind as u8);
        out.extend(self.feed.to_le_bytes());
        out.extend(self.sequence.to_le_bytes());
        out.extend(self.stamp.to_le_bytes());
        out.extend(self.checksum.to_le_bytes());
        out.extend((self.bids.len() as u16).to_le_bytes());
        out.extend((self.asks.len() as u16).to_le_bytes());
        for (price, amount) in self.bids.iter().chain(&self.asks) {
            out.extend(price.to_le_bytes());
            out.extend(amount.to_le_bytes());
        }
    }

    /// The first frame of `bytes` and its length; `None` if it is not all there.
    ///
    /// Fails on bytes that no frame begins with.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Frame, usize)>, String> {
        let mut reader = Reader { bytes };
        if bytes.len() < HEAD {
            return Ok(None);
        }
        let kind = match reader.take::<1>() {
            [0] => Kind::Snapshot,
            [1] => Kind::Update,
            [2] => Kind::End,
            [other] => return Err(format!("there is no frame of kind {other}")),
        };
        let feed = u16::from_le_bytes(reader.take());
        let sequence = u64::from_le_bytes(reader.take());
        let stamp = u64::from_le_bytes(reader.take());
        let checksum = u32::from_le_bytes(reader.take());
        let counts = [u16::from_le_bytes(reader.take()) as usize, u16::from_le_bytes(reader.take()) as usize];
        let len = HEAD + (counts[0] + counts[1]) * 16;
        if bytes.len() < len {
            return Ok(None);
        }
        let [bids, asks] = counts.map(|count| {
            (0..count).map(|_| (u64::from_le_bytes(reader.take()), u64::from_le_bytes(reader.take()))).collect()
        });
        Ok(Some((Frame { kind, feed, sequence, stamp, checksum, bids, asks }, len)))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    /// The next bytes; the caller has made sure that they are there.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.bytes.split_first_chunk().expect("the length was checked");
        self.bytes = rest;
        *head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        let (bids, asks) = (vec![(10_000, 5), (9_999, 0)], vec![(10_001, 7)]);
        Frame { kind: Kind::Update, feed: 49, sequence: 7, stamp: 1, checksum: 3, bids, asks }
    }

    #[test]
    fn frames_survive_the_way_and_wait_for_their_end() {
        let mut bytes = Vec::new();
        frame().encode(&mut bytes);
        for len in 0..bytes.len() {
            assert_eq!(Frame::decode(&bytes[..len]), Ok(None));
        }
        bytes.push(9);
        assert_eq!(Frame::decode(&bytes), Ok(Some((frame(), bytes.len() - 1))));
        bytes[0] = 9;
        assert!(Frame::decode(&bytes).is_err());
    }

    #[test]
    fn checksums_see_every_change_they_cover() {
        let mut book = Book::default();
        book.apply(&[(100, 1), (99, 2)], &[(101, 3)]);
        let (best, all) = (book.checksum(), book.full_checksum());
        book.apply(&[(99, 3)], &[]);
        assert_ne!((book.checksum(), book.full_checksum()), (best, all));
        book.apply(&[(99, 2)], &[]);
        assert_eq!((book.checksum(), book.full_checksum()), (best, all));
        // A level far from the best is the full one's business.
        book.apply(&(1..50).map(|price| (price, 1)).collect::<Vec<_>>(), &[]);
        let best = book.checksum();
        book.apply(&[(1, 0)], &[]);
        assert_eq!(book.checksum(), best);
    }
}
