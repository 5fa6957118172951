//! ACK frames (RFC 9000 section 19.3).

use core::ops::RangeInclusive;

use super::{FrameError, kind};
use crate::{Reader, Writer, varint};

/// ECN counts of an ACK frame (section 19.3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EcnCounts {
    /// Packets received with ECT(0).
    pub ect0: u64,
    /// Packets received with ECT(1).
    pub ect1: u64,
    /// Packets received with CE.
    pub ce: u64,
}

/// An ACK frame whose ranges were checked: none is negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    largest: u64,
    delay: u64,
    first_range: u64,
    /// How many further ranges there are.
    count: u64,
    /// Gap and length of each of them.
    ranges: &'a [u8],
    ecn: Option<EcnCounts>,
}

impl<'a> Ack<'a> {
    /// The largest packet number acknowledged.
    #[inline]
    pub const fn largest(&self) -> u64 {
        self.largest
    }

    /// The ACK Delay field, in units of the sender's exponent.
    #[inline]
    pub const fn delay(&self) -> u64 {
        self.delay
    }

    /// ECN counts, if the frame has them.
    #[inline]
    pub const fn ecn(&self) -> Option<EcnCounts> {
        self.ecn
    }

    /// Bytes that [`encode`](Self::encode) writes.
    pub fn encoded_len(&self) -> usize {
        let fields = [self.largest, self.delay, self.count, self.first_range];
        1 + fields.into_iter().map(varint::len).sum::<usize>() + self.ranges.len() + ecn_len(self.ecn)
    }

    /// Writes the frame as it was received. (To acknowledge something, [`encode_ack`].)
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u8(if self.ecn.is_some() { kind::ACK_ECN } else { kind::ACK } as u8);
        for field in [self.largest, self.delay, self.count, self.first_range] {
            w.varint(field);
        }
        w.slice(self.ranges);
        encode_ecn(w, self.ecn);
    }

    /// The acknowledged ranges, highest first; at least one, and between any two there is a gap.
    #[inline]
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u64>> + Clone + use<'a> {
        let mut reader = Reader::new(self.ranges);
        let mut smallest = self.largest.saturating_sub(self.first_range);
        let first = smallest..=self.largest;
        core::iter::once(first).chain(core::iter::from_fn(move || {
            let (gap, len) = (reader.varint().ok()?, reader.varint().ok()?);
            let end = smallest.checked_sub(gap)?.checked_sub(2)?;
            smallest = end.checked_sub(len)?;
            Some(smallest..=end)
        }))
    }
}

pub(super) fn decode<'a>(r: &mut Reader<'a>, with_ecn: bool) -> Result<Ack<'a>, FrameError> {
    let largest = r.varint()?;
    let delay = r.varint()?;
    let count = r.varint()?;
    let first_range = r.varint()?;
    let negative = FrameError::Invalid("an ACK range goes below packet number 0");
    let mut smallest = largest.checked_sub(first_range).ok_or(negative)?;
    let mut look = r.clone();
    for _ in 0..count {
        let (gap, len) = (look.varint()?, look.varint()?);
        smallest = smallest
            .checked_sub(gap)
            .and_then(|s| s.checked_sub(2))
            .and_then(|s| s.checked_sub(len))
            .ok_or(negative)?;
    }
    let ranges = r.bytes(look.position() - r.position())?;
    let ecn = if with_ecn { Some(EcnCounts { ect0: r.varint()?, ect1: r.varint()?, ce: r.varint()? }) } else { None };
    Ok(Ack { largest, delay, first_range, count, ranges, ecn })
}

/// Writes an ACK frame of `ranges`, highest first, none of them empty and each at least two below the one before. The oldest
/// ranges that find no room in `w` are left out (RFC 9000 section 13.2.3); false, and nothing written, when not even the
/// first one does or when there is none. To give it less room than the packet has, pass a writer over a part of it.
#[inline]
pub fn encode_ack(
    w: &mut Writer<'_>,
    delay: u64,
    mut ranges: impl Iterator<Item = RangeInclusive<u64>> + Clone,
    ecn: Option<EcnCounts>,
) -> bool {
    let Some(first) = ranges.next() else { return false };
    let fixed = 1 + varint::len(*first.end()) + varint::len(delay) + 1 + varint::len(first.end() - first.start());
    let Some(mut room) = w.remaining().checked_sub(fixed + ecn_len(ecn)) else { return false };
    let mut count = 0;
    let mut smallest = *first.start();
    for range in ranges.clone() {
        let (gap, len) = (smallest - range.end() - 2, range.end() - range.start());
        // The count before the ranges grows with them; its first byte is in `fixed`.
        let size = varint::len(gap) + varint::len(len) + varint::len(count + 1) - varint::len(count);
        if size > room {
            break;
        }
        room -= size;
        count += 1;
        smallest = *range.start();
    }
    w.u8(if ecn.is_some() { kind::ACK_ECN } else { kind::ACK } as u8);
    w.varint(*first.end());
    w.varint(delay);
    w.varint(count);
    w.varint(first.end() - first.start());
    smallest = *first.start();
    for range in ranges.take(count as usize) {
        w.varint(smallest - range.end() - 2);
        w.varint(range.end() - range.start());
        smallest = *range.start();
    }
    encode_ecn(w, ecn);
    true
}

#[inline]
fn ecn_len(ecn: Option<EcnCounts>) -> usize {
    ecn.map_or(0, |c| varint::len(c.ect0) + varint::len(c.ect1) + varint::len(c.ce))
}

#[inline]
fn encode_ecn(w: &mut Writer<'_>, ecn: Option<EcnCounts>) {
    if let Some(counts) = ecn {
        w.varint(counts.ect0);
        w.varint(counts.ect1);
        w.varint(counts.ce);
    }
}
