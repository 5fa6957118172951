//! What is traded: a book that changes by chance, the same way in every run.

use crate::book::{Book, Level};

/// Levels that a book keeps on each side, about.
const DEPTH: u64 = 50;

/// The state of one instrument.
pub struct Instrument {
    pub book: Book,
    /// The last change's number.
    pub sequence: u64,
    /// The price between bids and asks.
    pub middle: u64,
    random: u64,
}

impl Instrument {
    /// An instrument after some changes.
    pub fn new(seed: u64) -> Instrument {
        let mut instrument = Instrument { book: Book::default(), sequence: 0, random: seed * 2 + 1, middle: 1_000_000 };
        for _ in 0..DEPTH * 4 {
            instrument.change();
        }
        instrument
    }

    fn random(&mut self, below: u64) -> u64 {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }

    /// Changes the book: new or changed levels near the middle, which wanders; those it has crossed, and far ones, go.
    pub fn change(&mut self) -> (Vec<Level>, Vec<Level>) {
        self.middle = self.middle + self.random(3) - 1;
        let (mut bids, mut asks) = (Vec::with_capacity(4), Vec::with_capacity(4));
        for _ in 0..=self.random(3) {
            let level = (self.random(DEPTH), self.random(10_000));
            if self.random(2) == 0 {
                bids.push((self.middle - 1 - level.0, level.1));
            } else {
                asks.push((self.middle + 1 + level.0, level.1));
            }
        }
        let gone = |price: &u64| !(self.middle - 2 * DEPTH..self.middle).contains(price);
        bids.extend(self.book.bids.keys().filter(|price| gone(price)).map(|&price| (price, 0)));
        let gone = |price: &u64| !(self.middle + 1..self.middle + 2 * DEPTH).contains(price);
        asks.extend(self.book.asks.keys().filter(|price| gone(price)).map(|&price| (price, 0)));
        self.book.apply(&bids, &asks);
        self.sequence += 1;
        (bids, asks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_all_that_a_copy_needs() {
        let mut instrument = Instrument::new(7);
        let mut copy = instrument.book.clone();
        for _ in 0..10_000 {
            let (bids, asks) = instrument.change();
            copy.apply(&bids, &asks);
            let (best, worst) = (instrument.book.bids.keys().next_back(), instrument.book.asks.keys().next());
            assert!(best < worst && best.is_some(), "{best:?} is bid, {worst:?} is asked");
        }
        assert_eq!(copy, instrument.book);
        assert!(copy.bids.len() <= 100, "{} levels", copy.bids.len());
    }
}
