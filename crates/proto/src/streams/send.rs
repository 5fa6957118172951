//! The sending half of a stream: what was written and is not yet acknowledged.

use std::collections::VecDeque;

use warpline_frame::Chunk;
use warpline_wire::Writer;

use super::limits::{BLOCK_LEN, SMALL_WRITE};
use super::state::SendState;
use crate::ranges::RangeSet;

/// Blocks for small writes, shared by the streams of a connection.
pub(super) type Spares = Vec<Vec<u8>>;

/// A piece of the stream, kept until it is acknowledged.
#[derive(Debug)]
enum Piece {
    /// What the application gave, not copied.
    Whole(Chunk),
    /// Small writes, gathered; grows at the end only.
    Block(Vec<u8>),
}

impl Piece {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Whole(chunk) => chunk,
            Self::Block(block) => block,
        }
    }

    /// Keeps the first `len` bytes, if there are more.
    fn truncate(&mut self, len: u64) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        match self {
            Self::Whole(chunk) if len < chunk.len() => *chunk = chunk.split_to(len),
            Self::Whole(_) => {}
            Self::Block(block) => block.truncate(len),
        }
    }
}

/// Data and state of the sending half.
#[derive(Debug, Default)]
pub(super) struct SendHalf {
    pub(super) state: SendState,
    /// Pieces with the offsets they begin at.
    pieces: VecDeque<(u64, Piece)>,
    /// Everything below is acknowledged.
    base: u64,
    /// Everything written ends here.
    pub(super) end: u64,
    /// The first byte that was never sent.
    pub(super) next: u64,
    pub(super) lost: RangeSet,
    acked: RangeSet,
    /// Offset up to which the peer takes data.
    pub(super) max_data: u64,
    pub(super) fin: Fin,
    /// Code of a RESET_STREAM that is to be sent or was sent.
    pub(super) reset: Option<u64>,
    /// The stream is given up behind a part that still arrives.
    pub(super) reset_at: Option<ResetAt>,
    /// Code of the peer's STOP_SENDING.
    pub(super) stopped: Option<u64>,
    /// A write said `Blocked`.
    pub(super) write_blocked: bool,
}

/// How far the end of the stream got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fin {
    #[default]
    Unwritten,
    ToSend,
    Sent,
    Acked,
}

/// A reset that keeps the front of the stream (draft-ietf-quic-reliable-stream-reset section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResetAt {
    pub(super) code: u64,
    /// Bytes that arrive all the same.
    pub(super) reliable: u64,
    /// RESET_STREAM_AT was acknowledged.
    pub(super) acked: bool,
}

impl SendHalf {
    pub(super) fn new(max_data: u64) -> Self {
        Self { max_data, ..Self::default() }
    }

    /// Back to a new stream's state; memory is kept.
    pub(super) fn recycle(&mut self, max_data: u64, spares: &mut Spares) {
        self.drop_data(spares);
        let pieces = std::mem::take(&mut self.pieces);
        *self = Self { pieces, max_data, ..Self::default() };
    }

    /// Nothing counts as sent any more: the peer took none of it.
    pub(super) fn rewind(&mut self) {
        debug_assert!(self.base == 0 || self.reset.is_some(), "nothing was acknowledged");
        self.next = 0;
        self.lost = RangeSet::default();
        self.acked = RangeSet::default();
        self.max_data = 0;
        if self.fin == Fin::Sent {
            self.fin = Fin::ToSend;
        }
    }

    /// Bytes held.
    #[inline]
    pub(super) fn buffered(&self) -> u64 {
        self.end - self.base
    }

    /// Takes `data` to the end of the stream.
    #[inline]
    pub(super) fn push(&mut self, data: Chunk, spares: &mut Spares) {
        let len = data.len();
        if len < SMALL_WRITE && !self.pieces.is_empty() {
            self.gather(&data, spares);
        } else {
            self.pieces.push_back((self.end, Piece::Whole(data)));
        }
        self.end += len as u64;
    }

    fn gather(&mut self, data: &[u8], spares: &mut Spares) {
        if let Some((_, Piece::Block(block))) = self.pieces.back_mut()
            && block.len() + data.len() <= BLOCK_LEN
        {
            block.extend_from_slice(data);
            return;
        }
        let mut block = spares.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK_LEN));
        block.extend_from_slice(data);
        self.pieces.push_back((self.end, Piece::Block(block)));
    }

    /// Copies `len` bytes from `offset` on into the packet.
    #[inline]
    pub(super) fn copy(&self, w: &mut Writer<'_>, offset: u64, len: usize) {
        if len == 0 {
            return;
        }
        let mut at = match self.pieces.front() {
            // One piece, or still in the first: most streams.
            Some((start, piece)) if offset < start + piece.bytes().len() as u64 => 0,
            _ => self.pieces.partition_point(|(start, _)| *start <= offset) - 1,
        };
        let (mut offset, mut left) = (offset, len);
        while left > 0 {
            let Some((start, piece)) = self.pieces.get(at) else {
                debug_assert!(false, "only written bytes are sent");
                return;
            };
            let from = (offset - start) as usize;
            let bytes = piece.bytes();
            let take = left.min(bytes.len() - from);
            w.slice(&bytes[from..from + take]);
            offset += take as u64;
            left -= take;
            at += 1;
        }
    }

    /// The bytes of `offset..offset + len` were acknowledged; returns how many bytes that freed.
    #[inline]
    pub(super) fn on_acked(&mut self, offset: u64, len: u64, spares: &mut Spares) -> u64 {
        let end = offset + len;
        let before = self.base;
        if offset <= self.base && self.acked.is_empty() {
            self.base = self.base.max(end);
        } else if end > self.base {
            self.acked.insert(offset.max(self.base)..end);
            while let Some(first) = self.acked.first() {
                if first.start > self.base {
                    break;
                }
                self.base = self.base.max(first.end);
                self.acked.pop_first();
            }
        }
        if self.base > before {
            // A late acknowledgement of what was taken for lost.
            self.lost.remove_below(self.base);
            self.release(spares);
        }
        self.base - before
    }

    fn release(&mut self, spares: &mut Spares) {
        while let Some((start, piece)) = self.pieces.front_mut() {
            let end = *start + piece.bytes().len() as u64;
            if end > self.base {
                break;
            }
            // A block that may still grow stays until the next one begins.
            if let Piece::Block(block) = piece {
                recycle_block(std::mem::take(block), spares);
            }
            self.pieces.pop_front();
        }
    }

    /// Gives the stream up behind `reliable`: what was not sent beyond it never is. Returns the bytes that frees.
    pub(super) fn reset_at(&mut self, code: u64, reliable: u64, spares: &mut Spares) -> u64 {
        let reliable = reliable.min(self.end);
        self.reset_at = Some(ResetAt { code, reliable, acked: false });
        self.lost.remove_above(reliable);
        if matches!(self.fin, Fin::Sent | Fin::Acked) {
            return 0;
        }
        self.fin = Fin::Unwritten;
        let end = self.next.max(reliable);
        let freed = self.end - end;
        self.end = end;
        while let Some((start, piece)) = self.pieces.back_mut() {
            let keep = end.saturating_sub(*start);
            if keep > 0 {
                piece.truncate(keep);
                break;
            }
            if let Some((_, Piece::Block(block))) = self.pieces.pop_back() {
                recycle_block(block, spares);
            }
        }
        freed
    }

    /// RESET_STREAM_AT may be sent: everything before its final size was (section 4 of the draft).
    pub(super) fn is_reset_at_due(&self) -> bool {
        self.reset_at.is_some_and(|r| !r.acked) && self.next == self.end && self.reset.is_none()
    }

    /// Everything that the stream still owes was acknowledged.
    #[inline]
    pub(super) fn is_complete(&self) -> bool {
        match self.reset_at {
            Some(reset) => reset.acked && self.base >= reset.reliable,
            None => self.fin == Fin::Acked && self.is_all_acked(),
        }
    }

    /// The bytes were lost: those that no other packet delivered go again. Returns how many.
    pub(super) fn on_lost(&mut self, offset: u64, len: u64) -> u64 {
        let reliable = self.reset_at.map_or(u64::MAX, |r| r.reliable);
        let end = (offset + len).min(reliable);
        let mut at = offset.max(self.base);
        let mut again = 0;
        for acked in self.acked.iter() {
            if acked.start >= end {
                break;
            }
            if acked.start > at {
                again += self.lost.insert(at..acked.start);
            }
            at = at.max(acked.end);
        }
        if at < end {
            again += self.lost.insert(at..end);
        }
        again
    }

    /// Forgets the data, after a reset; returns the bytes that frees.
    pub(super) fn drop_data(&mut self, spares: &mut Spares) -> u64 {
        let freed = self.buffered();
        for (_, piece) in self.pieces.drain(..) {
            if let Piece::Block(block) = piece {
                recycle_block(block, spares);
            }
        }
        self.base = self.end;
        self.lost = RangeSet::default();
        self.acked = RangeSet::default();
        freed
    }

    /// Everything written was acknowledged.
    #[inline]
    pub(super) fn is_all_acked(&self) -> bool {
        self.base == self.end
    }

    /// Something may be sent now, as far as this stream's own window goes; `credit` is the connection's.
    #[inline]
    pub(super) fn is_sendable(&self, credit: u64) -> bool {
        if self.reset.is_some() {
            return false;
        }
        !self.lost.is_empty()
            || self.fin == Fin::ToSend && self.next == self.end
            || credit > 0 && self.next < self.end.min(self.max_data)
    }

    /// New data waits and only the connection's window holds it back.
    #[inline]
    pub(super) fn wants_credit(&self) -> bool {
        self.reset.is_none() && self.next < self.end.min(self.max_data)
    }
}

fn recycle_block(mut block: Vec<u8>, spares: &mut Spares) {
    if spares.len() < super::limits::SPARE_BLOCKS {
        block.clear();
        spares.push(block);
    }
}
