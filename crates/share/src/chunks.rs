//! Pieces of a file whose ends depend on what the file holds, not on where it stands: content that two versions share has the same
//! pieces in both, whatever was inserted before it.
//!
//! The ends are FastCDC's (2020, normalization 2): a rolling hash of the bytes decides, so both sides find the same ones. Average
//! lengths are powers of two; no piece but the last is shorter than a quarter of it, none longer than four times of it.

use fastcdc::v2020::{self, Normalization};

use crate::limits::{CHUNK_AVERAGE_BITS_MAX, CHUNK_AVERAGE_BITS_MIN, CHUNKS_MAX, PART_LEN};

/// The way in which ends are found. Another algorithm, table or normalization needs another number.
pub const METHOD: u8 = 1;

/// What a chunk is recognized by: the beginning of its BLAKE3 hash. The hash of the whole file has the last word.
pub type Sum = [u8; 16];

/// How long chunks are: the average's binary logarithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths(u8);

impl Lengths {
    /// Lengths that cut a file of `size` into about [`CHUNKS_MAX`] chunks at most; `None` for files that are too large to be compared.
    pub fn for_size(size: u64) -> Option<Self> {
        let fits = |bits: &u8| size >> bits <= CHUNKS_MAX || *bits == CHUNK_AVERAGE_BITS_MAX;
        let bits = (CHUNK_AVERAGE_BITS_MIN..=CHUNK_AVERAGE_BITS_MAX).find(fits)?;
        (size >> bits <= 2 * CHUNKS_MAX).then_some(Self(bits))
    }

    /// Lengths that the other side has named.
    pub fn from_bits(bits: u8) -> Option<Self> {
        (CHUNK_AVERAGE_BITS_MIN..=CHUNK_AVERAGE_BITS_MAX).contains(&bits).then_some(Self(bits))
    }

    /// The average's binary logarithm.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The average.
    pub fn average(self) -> usize {
        1 << self.0
    }

    /// The shortest but for the last of a file.
    pub fn min(self) -> usize {
        self.average() / 4
    }

    /// The longest.
    pub fn max(self) -> usize {
        self.average() * 4
    }
}

/// Cuts a file that is handed over from its beginning to its end, data and holes.
pub struct Chunker {
    lengths: Lengths,
    /// Decide about an end, as the algorithm has them: for pieces below and above the average, and the same shifted.
    masks: [u64; 4],
    /// Bytes that are not all cut yet.
    buffer: Vec<u8>,
    /// Where in them the next chunk begins.
    begin: usize,
    /// From here on they are zeros that stand for a hole.
    zeros_from: usize,
    /// What of the hole is not in the buffer.
    hole: u64,
    /// The chunk that a long hole is cut into.
    zero: (u32, Sum),
}

/// Takes a chunk: its length and sum.
pub type Sink<'a> = &'a mut dyn FnMut(u32, Sum);

impl Chunker {
    /// Cuts into chunks of `lengths`.
    pub fn new(lengths: Lengths) -> Self {
        let (short, long) = v2020::select_masks(lengths.average(), Normalization::Level2);
        let masks = [short, long, short << 1, long << 1];
        let buffer = Vec::with_capacity(lengths.max() + Self::piece(lengths));
        let mut this = Self { lengths, masks, buffer, begin: 0, zeros_from: 0, hole: 0, zero: (0, [0; 16]) };
        let zeros = vec![0; lengths.max()];
        let len = this.end(&zeros);
        this.zero = (len as u32, sum(&zeros[..len]));
        this
    }

    /// How many bytes are best handed over at once.
    fn piece(lengths: Lengths) -> usize {
        PART_LEN.max(lengths.max() / 4)
    }

    /// Length and sum of the chunks that long holes are cut into.
    pub fn zero(&self) -> (u32, Sum) {
        self.zero
    }

    /// Room for the next `len` bytes of the file, zeros, which [`cut`](Self::cut) takes once they are filled in.
    pub fn room(&mut self, len: usize) -> &mut [u8] {
        if self.hole > 0 {
            // Less than a chunk's length is left of a hole.
            let hole = std::mem::take(&mut self.hole) as usize;
            self.compact();
            self.buffer.resize(self.buffer.len() + hole, 0);
        }
        self.compact();
        let at = self.buffer.len();
        self.buffer.resize(at + len, 0);
        self.zeros_from = self.buffer.len();
        &mut self.buffer[at..]
    }

    /// The bytes that were handed over last.
    pub fn last(&self, len: usize) -> &[u8] {
        &self.buffer[self.buffer.len() - len..]
    }

    /// Cuts what was filled into the room that was given last.
    pub fn cut(&mut self, each: Sink<'_>) {
        while self.buffer.len() - self.begin >= self.lengths.max() {
            self.cut_one(each);
        }
    }

    /// The next `len` bytes of the file are a hole.
    pub fn skip(&mut self, len: u64, each: Sink<'_>) {
        self.hole += len;
        let max = self.lengths.max();
        loop {
            if self.begin >= self.zeros_from {
                // Nothing but zeros is left to be cut.
                self.hole += (self.buffer.len() - self.begin) as u64;
                self.clear();
                while self.hole >= max as u64 {
                    each(self.zero.0, self.zero.1);
                    self.hole -= u64::from(self.zero.0);
                }
                return;
            }
            let rest = self.buffer.len() - self.begin;
            if (rest as u64) + self.hole < max as u64 {
                return;
            }
            if rest < max {
                let fill = max - rest;
                self.compact();
                self.buffer.resize(max, 0);
                self.hole -= fill as u64;
            }
            self.cut_one(each);
        }
    }

    /// The file ends here.
    pub fn finish(&mut self, each: Sink<'_>) {
        self.room(0);
        while self.begin < self.buffer.len() {
            self.cut_one(each);
        }
        self.clear();
    }

    fn clear(&mut self) {
        self.buffer.clear();
        (self.begin, self.zeros_from) = (0, 0);
    }

    /// Moves what is left to the buffer's beginning.
    fn compact(&mut self) {
        self.buffer.drain(..self.begin);
        self.zeros_from = self.zeros_from.saturating_sub(self.begin);
        self.begin = 0;
    }

    fn cut_one(&mut self, each: Sink<'_>) {
        let rest = &self.buffer[self.begin..];
        let len = self.end(rest);
        each(len as u32, sum(&rest[..len]));
        self.begin += len;
    }

    /// Length of the chunk at the beginning of `bytes`.
    fn end(&self, bytes: &[u8]) -> usize {
        let Lengths(bits) = self.lengths;
        let average = 1 << bits;
        let [short, long, short_shifted, long_shifted] = self.masks;
        v2020::cut(bytes, average / 4, average, average * 4, short, long, short_shifted, long_shifted).1
    }
}

fn sum(bytes: &[u8]) -> Sum {
    let mut out = [0; 16];
    out.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashSet;

    use super::*;

    pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn lengths() -> Lengths {
        Lengths::for_size(1 << 30).unwrap()
    }

    /// The chunks of `bytes`, handed over in pieces; those in `holes` as holes.
    fn chunks(bytes: &[u8], piece: usize, holes: &[std::ops::Range<usize>]) -> Vec<(u32, Sum)> {
        let mut out = Vec::new();
        let mut each = |len, sum| out.push((len, sum));
        let mut chunker = Chunker::new(lengths());
        let mut at = 0;
        while at < bytes.len() {
            if let Some(hole) = holes.iter().find(|hole| hole.contains(&at)) {
                chunker.skip((hole.end - at) as u64, &mut each);
                at = hole.end;
                continue;
            }
            let next = holes.iter().map(|hole| hole.start).filter(|start| *start > at).min().unwrap_or(bytes.len());
            let len = piece.min(next - at);
            chunker.room(len).copy_from_slice(&bytes[at..at + len]);
            assert_eq!(chunker.last(len), &bytes[at..at + len]);
            chunker.cut(&mut each);
            at += len;
        }
        chunker.finish(&mut each);
        out
    }

    #[test]
    fn ends_do_not_depend_on_how_the_file_is_handed_over() {
        let bytes = noise(1, 5 << 20);
        let whole = chunks(&bytes, bytes.len(), &[]);
        assert_eq!(whole.iter().map(|(len, _)| *len as usize).sum::<usize>(), bytes.len());
        let (last, others) = whole.split_last().unwrap();
        assert!(others.iter().all(|(len, _)| (4096..=65536).contains(len)) && last.0 <= 65536);
        let mean = bytes.len() / whole.len();
        assert!((12_000..24_000).contains(&mean), "{mean}");
        for piece in [1000, 65_536, 1 << 20] {
            assert_eq!(chunks(&bytes, piece, &[]), whole);
        }
    }

    #[test]
    fn holes_are_cut_as_zeros_are() {
        let mut bytes = noise(2, 6 << 20);
        let holes = [70_000..80_000, 100_000..1_000_000, 3 << 20..5 << 20, (6 << 20) - 5000..6 << 20];
        for hole in &holes {
            bytes[hole.clone()].fill(0);
        }
        assert_eq!(chunks(&bytes, 1 << 20, &holes), chunks(&bytes, 1 << 20, &[]));
        // A hole that is told in pieces, and a file that is nothing else.
        let pieces = [0..1 << 20, 1 << 20..3 << 20, 3 << 20..4 << 20];
        assert_eq!(chunks(&vec![0; 4 << 20], 1 << 20, &pieces), chunks(&vec![0; 4 << 20], 1 << 20, &[]));
    }

    #[test]
    fn what_is_inserted_changes_its_neighbours_only() {
        let bytes = noise(3, 8 << 20);
        let mut other = bytes.clone();
        other.splice(2_000_000..2_000_000, noise(4, 1000));
        let known: HashSet<_> = chunks(&bytes, 1 << 20, &[]).into_iter().collect();
        let new: u64 =
            chunks(&other, 1 << 20, &[]).iter().filter(|c| !known.contains(*c)).map(|(len, _)| u64::from(*len)).sum();
        assert!((1000..200_000).contains(&new), "{new}");
    }

    #[test]
    fn lengths_grow_with_the_size() {
        for (size, bits) in [(0, 14), (4 << 30, 14), (8 << 30, 15), (1 << 40, 22), (2 << 40, 22)] {
            assert_eq!(Lengths::for_size(size).map(Lengths::bits), Some(bits), "{size}");
        }
        assert_eq!(Lengths::for_size(3 << 40), None);
        assert_eq!((Lengths::from_bits(13), Lengths::from_bits(23)), (None, None));
    }
}
