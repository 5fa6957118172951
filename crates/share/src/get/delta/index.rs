//! What an older version of a file holds, and what of a new one it has.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::chunks::{Chunker, Lengths, Sum};
use crate::limits::{CHUNKS_KEPT_MAX, PART_LEN};

/// Where a sample is taken from the older version, and how long each piece of it is, in average chunks. The first of a piece are no
/// chunks of the whole: their beginning is none that the content has decided.
const SAMPLES: u64 = 64;
const SAMPLE_CHUNKS: u64 = 16;
/// Chunks that both versions must have, about, for a sample to be worth its while.
const SAMPLED_CHUNKS_MIN: u64 = 4096;

/// The place of bytes that are zeros and need not be read.
const ZEROS: u64 = u64::MAX;

/// The chunks of the older version, sorted by sum and place.
pub(super) struct Index(Vec<(Sum, u64)>);

/// Bytes of the new version that the older one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// Where they are in the new version.
    pub(super) at: u64,
    pub(super) len: u64,
    /// Where they are in the older one; `None` for zeros, wherever they are.
    pub(super) from: Option<u64>,
}

/// Passes the older version's first `len` bytes to `chunker`; `go_on` is asked after each piece. What cannot be read ends it.
fn feed(
    old: &File,
    (start, len): (u64, u64),
    chunker: &mut Chunker,
    each: &mut dyn FnMut(u32, Sum),
    mut go_on: impl FnMut() -> bool,
) -> bool {
    let end = start + len;
    let mut at = start;
    while at < end {
        let data = match seek(old, SeekFrom::Data(at)) {
            Ok(data) => data.min(end),
            Err(Errno::NXIO) => end,
            // A file system that cannot tell has data everywhere.
            Err(_) => at,
        };
        if data > at {
            chunker.skip(data - at, each);
            at = data;
        }
        let piece = (end - at).min(PART_LEN as u64) as usize;
        if piece > 0 {
            if let Err(error) = old.read_exact_at(chunker.room(piece), at) {
                // What is there so far may still be of use.
                tracing::debug!(%error, "an older version cannot be read");
                return true;
            }
            chunker.cut(each);
            at += piece as u64;
        }
        if !go_on() {
            return false;
        }
    }
    chunker.finish(each);
    true
}

/// Sums of chunks from all over the older version; `None` where either version is too short to be worth it.
pub(super) fn sample(old: &File, old_len: u64, size: u64, lengths: Lengths) -> Option<HashSet<Sum>> {
    if old_len.min(size) >> lengths.bits() < SAMPLED_CHUNKS_MIN {
        return None;
    }
    let mut sums = HashSet::new();
    let mut chunker = Chunker::new(lengths);
    let len = SAMPLE_CHUNKS << lengths.bits();
    for nth in 0..SAMPLES {
        let mut add = |_, sum| {
            sums.insert(sum);
        };
        feed(old, (old_len / SAMPLES * nth, len), &mut chunker, &mut add, || true);
    }
    Some(sums)
}

impl Index {
    /// Of the older version's first `len` bytes; `None` when `go_on` says that it is not needed any more.
    pub(super) fn of(old: &File, len: u64, lengths: Lengths, go_on: impl FnMut() -> bool) -> Option<Self> {
        let expected = (len >> lengths.bits()) as usize;
        let mut chunks: Vec<(Sum, u64)> = Vec::with_capacity((expected + expected / 4).min(CHUNKS_KEPT_MAX));
        let mut chunker = Chunker::new(lengths);
        let zero = chunker.zero().1;
        chunks.push((zero, ZEROS));
        let mut at = 0;
        let mut add = |len: u32, sum: Sum| {
            if chunks.len() < CHUNKS_KEPT_MAX && sum != zero {
                chunks.push((sum, at));
            }
            at += u64::from(len);
        };
        if !feed(old, (0, len), &mut chunker, &mut add, go_on) {
            return None;
        }
        chunks.sort_unstable();
        Some(Self(chunks))
    }

    /// An index of nothing.
    pub(super) fn empty() -> Self {
        Self(Vec::new())
    }

    /// Where the chunk is, at `preferred` if it is there, too.
    fn find(&self, sum: &Sum, preferred: u64) -> Option<u64> {
        if let Ok(found) = self.0.binary_search(&(*sum, preferred)) {
            return self.0.get(found).map(|(_, at)| *at);
        }
        let first = self.0.partition_point(|(known, _)| known < sum);
        self.0.get(first).filter(|(known, _)| known == sum).map(|(_, at)| *at)
    }
}

/// Finds what the older version has of the new one, chunk by chunk.
pub(super) struct Matcher {
    index: Index,
    /// Where the next chunk of the new version begins.
    pub(super) listed: u64,
    /// What was found and not yet used, in order; neighbours in both versions are one.
    pub(super) found: VecDeque<Match>,
}

impl Matcher {
    pub(super) fn new(index: Index) -> Self {
        Self { index, listed: 0, found: VecDeque::new() }
    }

    /// Takes the next chunk of the new version.
    pub(super) fn push(&mut self, len: u32, sum: &Sum) {
        let (at, len) = (self.listed, u64::from(len));
        self.listed += len;
        let behind = self.found.back().filter(|last| last.at + last.len == at);
        let next = behind.and_then(|last| last.from.map(|from| from + last.len)).unwrap_or(at);
        let Some(place) = self.index.find(sum, next) else { return };
        let from = (place != ZEROS).then_some(place);
        let goes_on = behind.is_some_and(|last| match (last.from, from) {
            (Some(last_from), Some(from)) => last_from + last.len == from,
            (None, None) => true,
            _ => false,
        });
        match self.found.back_mut() {
            Some(last) if goes_on => last.len += len,
            _ => self.found.push_back(Match { at, len, from }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunks::tests::noise;

    fn file_of(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    /// The first eighth of the list of a file.
    fn list(bytes: &[u8], lengths: Lengths) -> Vec<(u32, Sum)> {
        let mut chunker = Chunker::new(lengths);
        let mut out = Vec::new();
        chunker.room(bytes.len()).copy_from_slice(bytes);
        chunker.cut(&mut |len, sum| out.push((len, sum)));
        chunker.finish(&mut |len, sum| out.push((len, sum)));
        out
    }

    #[test]
    fn a_sample_knows_what_was_moved_from_what_is_new() {
        let size = 72 << 20;
        let lengths = Lengths::for_size(size as u64).unwrap();
        let content = noise(1, size);
        let old = file_of(&content);
        let sums = sample(&old, size as u64, size as u64, lengths).unwrap();
        let known = |bytes: &[u8]| list(bytes, lengths).iter().filter(|(_, sum)| sums.contains(sum)).count();
        // As it is, and with all of it moved by some bytes.
        assert!(known(&content[..size / 8]) > 60);
        assert!(known(&[&[7; 12_345], &content[..size / 8]].concat()) > 60);
        assert_eq!(known(&noise(2, size / 8)), 0);
        assert!(sample(&old, 10 << 20, size as u64, lengths).is_none(), "too short to be worth it");
    }

    #[test]
    fn neighbours_in_both_versions_are_one_match() {
        let size = 3 << 20;
        let lengths = Lengths::for_size(size as u64).unwrap();
        // The same content twice: of two places the one that goes on is taken.
        let old = [noise(1, size / 2), noise(2, 100), noise(1, size / 2)].concat();
        let index = Index::of(&file_of(&old), old.len() as u64, lengths, || true).unwrap();
        let mut matcher = Matcher::new(index);
        for (len, sum) in list(&old, lengths) {
            matcher.push(len, &sum);
        }
        assert_eq!(matcher.listed, old.len() as u64);
        assert_eq!(matcher.found, [Match { at: 0, len: old.len() as u64, from: Some(0) }]);
        // Zeros are known without being there.
        let mut matcher = Matcher::new(Index::of(&file_of(&noise(3, size)), size as u64, lengths, || true).unwrap());
        let zeros = list(&vec![0; size], lengths);
        zeros.iter().for_each(|(len, sum)| matcher.push(*len, sum));
        assert_eq!(matcher.found.len(), 1);
        assert_eq!(matcher.found[0].from, None);
    }

    #[test]
    fn an_index_that_is_not_needed_any_more_is_given_up() {
        let mut pieces = 0;
        let go_on = || {
            pieces += 1;
            pieces < 2
        };
        let content = noise(1, 4 << 20);
        assert!(Index::of(&file_of(&content), 4 << 20, Lengths::for_size(1).unwrap(), go_on).is_none());
        assert_eq!(pieces, 2);
    }
}
