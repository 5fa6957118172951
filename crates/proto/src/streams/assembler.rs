//! Ordered reassembly of received data.

use std::collections::VecDeque;

use warpline_frame::Chunk;

use super::limits::{GAPS_MAX, SEGMENT_MIN};

/// The peer left more gaps than any loss explains (the attack of RUSTSEC-2026-0185).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyGaps;

/// Data that may have to wait for what is before it: a small piece must not pin the frame that it arrived in.
fn unpinned(data: Chunk) -> Chunk {
    if (data.len() as u64) < SEGMENT_MIN { Chunk::copy_from_slice(&data) } else { data }
}

/// Data beyond the read position: sorted segments that do not overlap.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    segments: VecDeque<(u64, Chunk)>,
    /// Segments that do not follow their predecessor directly.
    gaps: usize,
    /// Bytes held.
    buffered: u64,
}

impl Assembler {
    /// Takes `data` at `offset`; what lies below `read_at` or is there already is dropped.
    #[inline]
    pub(super) fn insert(&mut self, read_at: u64, mut offset: u64, mut data: Chunk) -> Result<(), TooManyGaps> {
        if offset < read_at {
            let known = (read_at - offset).min(data.len() as u64);
            data.advance(known as usize);
            offset += known;
        }
        if data.is_empty() {
            return Ok(());
        }
        let end = self.segments.back().map(|(at, last)| at + last.len() as u64);
        match end {
            // In order: nearly every frame of a bulk transfer. What is before it has not been read, so this may wait, too.
            Some(end) if end == offset => self.push_back(offset, unpinned(data)),
            None if offset == read_at => self.push_back(offset, data),
            None => {
                self.gaps += 1;
                self.push_back(offset, unpinned(data));
            }
            Some(end) if end < offset => {
                self.gaps += 1;
                self.push_back(offset, unpinned(data));
            }
            Some(_) => self.insert_within(read_at, offset, unpinned(data)),
        }
        self.check()
    }

    #[inline]
    fn push_back(&mut self, offset: u64, data: Chunk) {
        self.buffered += data.len() as u64;
        self.segments.push_back((offset, data));
    }

    /// Data that begins before the end of what is there: a gap is filled, or it is a repetition.
    #[cold]
    fn insert_within(&mut self, read_at: u64, mut offset: u64, mut data: Chunk) {
        let mut at = self.segments.partition_point(|(start, chunk)| start + chunk.len() as u64 <= offset);
        while !data.is_empty() {
            let next = self.segments.get(at).map(|(start, chunk)| (*start, start + chunk.len() as u64));
            let Some((start, end)) = next else {
                self.buffered += data.len() as u64;
                self.segments.insert(at, (offset, data));
                break;
            };
            if start <= offset {
                let known = (end - offset).min(data.len() as u64);
                data.advance(known as usize);
                offset += known;
                at += 1;
                continue;
            }
            let fresh = (start - offset).min(data.len() as u64);
            let piece = data.split_to(fresh as usize);
            self.buffered += fresh;
            self.segments.insert(at, (offset, piece));
            offset += fresh;
            at += 1;
        }
        self.count_gaps(read_at);
    }

    fn count_gaps(&mut self, read_at: u64) {
        let mut expected = read_at;
        self.gaps = 0;
        for (start, chunk) in &self.segments {
            self.gaps += usize::from(*start != expected);
            expected = start + chunk.len() as u64;
        }
    }

    /// Segments that do not follow their predecessor directly.
    #[inline]
    pub(super) fn gaps(&self) -> usize {
        self.gaps
    }

    /// Keeps the number of segments in proportion to the bytes in them.
    #[inline]
    fn check(&mut self) -> Result<(), TooManyGaps> {
        if self.gaps > GAPS_MAX {
            return Err(TooManyGaps);
        }
        if self.segments.len() > 64 + self.gaps * 2 + (self.buffered / SEGMENT_MIN) as usize {
            self.compact();
        }
        Ok(())
    }

    /// Copies runs of small neighbours into one segment each, so that neither their number nor the frames that they pin grow
    /// beyond the bytes they hold.
    #[cold]
    fn compact(&mut self) {
        let mut merged: VecDeque<(u64, Chunk)> = VecDeque::with_capacity(self.gaps + 8);
        let mut run: Vec<u8> = Vec::new();
        let mut run_at = 0;
        for (start, chunk) in self.segments.drain(..) {
            if run_at + run.len() as u64 != start || run.len() >= 64 * 1024 {
                if !run.is_empty() {
                    merged.push_back((run_at, Chunk::from(std::mem::take(&mut run))));
                }
                run_at = start;
            }
            run.extend_from_slice(&chunk);
        }
        if !run.is_empty() {
            merged.push_back((run_at, Chunk::from(run)));
        }
        self.segments = merged;
    }

    /// Up to `max` bytes at `read_at`, if they are there.
    #[inline]
    pub(super) fn read(&mut self, read_at: u64, max: usize) -> Option<Chunk> {
        let (start, front) = self.segments.front_mut()?;
        if *start != read_at {
            return None;
        }
        let out = if front.len() <= max {
            let (_, whole) = self.segments.pop_front()?;
            if self.segments.is_empty() {
                self.gaps = 0;
            }
            whole
        } else {
            *start += max as u64;
            front.split_to(max)
        };
        self.buffered -= out.len() as u64;
        Some(out)
    }

    /// True when the byte at `read_at` is there.
    #[inline]
    pub(super) fn has(&self, read_at: u64) -> bool {
        self.segments.front().is_some_and(|(start, _)| *start == read_at)
    }

    /// Forgets what lies from `bound` on.
    pub(super) fn truncate(&mut self, bound: u64) {
        while let Some((start, chunk)) = self.segments.back_mut() {
            if *start < bound {
                let keep = (bound - *start).min(chunk.len() as u64) as usize;
                self.buffered -= (chunk.len() - keep) as u64;
                *chunk = chunk.split_to(keep);
                break;
            }
            self.buffered -= chunk.len() as u64;
            self.segments.pop_back();
        }
        // What was counted for the part that is gone only makes the bound on gaps stricter.
    }

    pub(super) fn clear(&mut self) {
        self.segments.clear();
        self.gaps = 0;
        self.buffered = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_order_of_any_pieces_gives_the_stream(
            pieces in prop::collection::vec((0usize..300, 1usize..80), 1..60),
            reads in prop::collection::vec(1usize..100, 1..60),
        ) {
            let stream: Vec<u8> = (0..400u32).map(|i| (i * 7 % 251) as u8).collect();
            let mut have = vec![false; stream.len()];
            let mut assembler = Assembler::default();
            let mut out = Vec::new();
            let mut reads = reads.into_iter().cycle();
            for (start, len) in pieces {
                let end = (start + len).min(stream.len());
                let data = Chunk::copy_from_slice(&stream[start..end]);
                assembler.insert(out.len() as u64, start as u64, data).unwrap();
                have[start..end].fill(true);
                if let Some(chunk) = assembler.read(out.len() as u64, reads.next().unwrap()) {
                    out.extend_from_slice(&chunk);
                }
            }
            while let Some(chunk) = assembler.read(out.len() as u64, 64) {
                out.extend_from_slice(&chunk);
            }
            let contiguous = have.iter().position(|h| !h).unwrap_or(have.len());
            prop_assert_eq!(&out[..], &stream[..contiguous]);
        }
    }

    /// RUSTSEC-2026-0185: one byte every other offset must not cost memory without bound.
    #[test]
    fn a_flood_of_gaps_is_refused() {
        let mut assembler = Assembler::default();
        let refused = (0..1_000_000u64).find(|i| assembler.insert(0, 1 + i * 2, Chunk::from_static(b"x")).is_err());
        assert_eq!(refused, Some(GAPS_MAX as u64));
    }

    #[test]
    fn many_tiny_neighbours_are_merged() {
        let mut assembler = Assembler::default();
        for i in 0..100_000u64 {
            assembler.insert(0, i, Chunk::from_static(b"x")).unwrap();
        }
        assert!(assembler.segments.len() < 1_000, "{} segments", assembler.segments.len());
    }
}
