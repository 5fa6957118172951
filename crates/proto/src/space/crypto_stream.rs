//! The CRYPTO stream of one space: handshake bytes, reliable and in order (RFC 9000 section 19.6).

use core::ops::Range;

use warpline_wire::{TransportErrorCode, Writer, frame, varint};

use crate::error::TransportError;
use crate::limits::{CRYPTO_BUFFER_MAX, CRYPTO_PIECES_MAX, CRYPTO_TOTAL_MAX, INITIAL_DATAGRAM_MIN};
use crate::ranges::RangeSet;

/// Least room in which a CRYPTO frame is begun: type, offset, length, and some bytes of data.
const FRAME_ROOM_MIN: usize = 24;

/// Both directions of a CRYPTO stream.
#[derive(Debug, Default)]
pub(crate) struct CryptoStream {
    /// What has to be sent, for the first time or again.
    pending: RangeSet,
    /// By itself, since packets look at nothing but whether something is pending.
    data: Box<Data>,
}

/// The bytes.
#[derive(Debug, Default)]
struct Data {
    /// Bytes to send from offset `send_base` on; those before are acknowledged.
    send: Vec<u8>,
    send_base: u64,
    acked: RangeSet,
    /// Received bytes from offset `read_at` on, with gaps.
    receive: Vec<u8>,
    read_at: u64,
    received: RangeSet,
}

impl CryptoStream {
    /// Queues bytes to send.
    pub(crate) fn queue(&mut self, bytes: &[u8]) {
        let start = self.data.send_base + self.data.send.len() as u64;
        self.data.send.extend_from_slice(bytes);
        self.pending.insert(start..start + bytes.len() as u64);
    }

    #[inline]
    pub(crate) fn has_data(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes one CRYPTO frame into the room left; `None` when nothing is pending or the room is too small.
    pub(crate) fn write(&mut self, w: &mut Writer<'_>) -> Option<Range<u64>> {
        let first = self.pending.first()?.clone();
        if w.remaining() < FRAME_ROOM_MIN {
            return None;
        }
        let overhead = 1 + varint::len(first.start) + 2;
        let len = (first.end - first.start).min((w.remaining() - overhead) as u64);
        let range = first.start..first.start + len;
        let at = (range.start - self.data.send_base) as usize;
        frame::encode_crypto(w, range.start, &self.data.send[at..at + len as usize]);
        self.pending.remove_below(range.end);
        Some(range)
    }

    pub(crate) fn on_acked(&mut self, range: Range<u64>) {
        self.data.acked.insert(range);
        if let Some(first) = self.data.acked.first().cloned()
            && first.start <= self.data.send_base
            && first.end > self.data.send_base
        {
            self.data.send.drain(..(first.end - self.data.send_base) as usize);
            self.data.send_base = first.end;
            // A late acknowledgement of what was taken for lost.
            self.pending.remove_below(self.data.send_base);
            if self.data.send.is_empty() {
                self.data.send = Vec::new();
            }
        }
    }

    pub(crate) fn on_lost(&mut self, range: Range<u64>) {
        // What another copy delivered meanwhile need not go again.
        let mut at = range.start.max(self.data.send_base);
        for acked in self.data.acked.iter() {
            if acked.start > at {
                self.pending.insert(at..acked.start.min(range.end));
            }
            at = at.max(acked.end);
        }
        if at < range.end {
            self.pending.insert(at..range.end);
        }
    }

    /// Sends the first bytes that nobody has acknowledged once more, as much as one packet holds.
    pub(crate) fn repeat(&mut self) {
        let end = self.data.send_base + self.data.send.len() as u64;
        self.on_lost(self.data.send_base..end.min(self.data.send_base + INITIAL_DATAGRAM_MIN as u64));
    }

    /// Takes the data of a CRYPTO frame.
    pub(crate) fn on_frame(&mut self, offset: u64, data: &[u8]) -> Result<(), TransportError> {
        let end = offset + data.len() as u64;
        if end > self.data.read_at + CRYPTO_BUFFER_MAX || end > CRYPTO_TOTAL_MAX {
            return Err(exceeded("more CRYPTO data than a handshake needs"));
        }
        let start = offset.max(self.data.read_at);
        if end <= start {
            return Ok(());
        }
        let at = (start - self.data.read_at) as usize;
        let needed = (end - self.data.read_at) as usize;
        if self.data.receive.len() < needed {
            self.data.receive.resize(needed, 0);
        }
        self.data.receive[at..needed].copy_from_slice(&data[(start - offset) as usize..]);
        self.data.received.insert(start..end);
        if self.data.received.len() > CRYPTO_PIECES_MAX {
            return Err(exceeded("CRYPTO data in more pieces than any loss explains"));
        }
        Ok(())
    }

    /// The bytes that follow in order, if any.
    pub(crate) fn read(&mut self) -> Option<Vec<u8>> {
        let first = self.data.received.first().filter(|r| r.start <= self.data.read_at && r.end > self.data.read_at)?;
        let len = (first.end - self.data.read_at) as usize;
        self.data.read_at = first.end;
        let rest = self.data.receive.split_off(len);
        self.data.received.remove_below(self.data.read_at);
        Some(std::mem::replace(&mut self.data.receive, rest))
    }

    /// Offset up to which bytes were read: data beyond it is new.
    pub(crate) fn read_offset(&self) -> u64 {
        self.data.read_at
    }

    /// Everything sent so far is to be sent again: after a Retry the handshake starts over with the same bytes.
    pub(crate) fn rewind(&mut self) {
        self.pending.insert(self.data.send_base..self.data.send_base + self.data.send.len() as u64);
    }
}

fn exceeded(why: &'static str) -> TransportError {
    TransportError::new(TransportErrorCode::CRYPTO_BUFFER_EXCEEDED, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_order_whatever_the_order_of_frames() {
        let mut s = CryptoStream::default();
        s.on_frame(3, b"def").unwrap();
        assert_eq!(s.read(), None);
        s.on_frame(0, b"abcd").unwrap();
        assert_eq!(s.read().as_deref(), Some(&b"abcdef"[..]));
        s.on_frame(0, b"abc").unwrap();
        assert_eq!(s.read(), None, "repeated data is ignored");
        s.on_frame(6, b"g").unwrap();
        assert_eq!(s.read().as_deref(), Some(&b"g"[..]));
    }

    #[test]
    fn what_is_repeated_is_the_beginning_of_what_nobody_acknowledged() {
        let mut s = CryptoStream::default();
        s.repeat();
        assert!(!s.has_data(), "nothing was ever sent");
        s.queue(&[7; 3_000]);
        let mut out = [0; 4_000];
        assert_eq!(s.write(&mut Writer::new(&mut out)), Some(0..3_000));
        s.on_acked(0..100);
        s.on_acked(200..300);
        s.repeat();
        let mut w = Writer::new(&mut out);
        assert_eq!((s.write(&mut w), s.write(&mut w), s.write(&mut w)), (Some(100..200), Some(300..1_300), None));
    }

    #[test]
    fn a_flood_is_refused() {
        let mut s = CryptoStream::default();
        assert!(s.on_frame(CRYPTO_BUFFER_MAX, b"x").is_err());
        let mut s = CryptoStream::default();
        let block = [0; 32 * 1024];
        let mut offset = 0;
        let refused = loop {
            if let Err(e) = s.on_frame(offset, &block) {
                break e;
            }
            s.read();
            offset += block.len() as u64;
        };
        assert_eq!(refused.code, TransportErrorCode::CRYPTO_BUFFER_EXCEEDED);
        assert_eq!(offset, CRYPTO_TOTAL_MAX);
    }

    #[test]
    fn as_many_pieces_as_are_allowed_come_together() {
        let mut s = CryptoStream::default();
        for piece in (1..=CRYPTO_PIECES_MAX as u64).rev() {
            s.on_frame(piece * 2, b"x").unwrap();
        }
        s.on_frame(2, b"x").unwrap();
        assert!(s.on_frame(CRYPTO_PIECES_MAX as u64 * 2 + 2, b"x").is_err());
        s.on_frame(0, &vec![b'x'; CRYPTO_PIECES_MAX * 2]).unwrap();
        assert_eq!(s.read().map(|bytes| bytes.len()), Some(CRYPTO_PIECES_MAX * 2 + 1));
    }

    #[test]
    fn lost_ranges_go_again_unless_acknowledged() {
        let mut s = CryptoStream::default();
        s.queue(&[7; 100]);
        let mut buf = [0; 200];
        assert_eq!(s.write(&mut Writer::new(&mut buf)), Some(0..100));
        assert!(!s.has_data());
        s.on_acked(40..60);
        s.on_lost(0..100);
        assert_eq!(s.write(&mut Writer::new(&mut buf)), Some(0..40));
        assert_eq!(s.write(&mut Writer::new(&mut buf)), Some(60..100));
        s.on_acked(0..40);
        s.on_acked(60..100);
        assert!(s.data.send.is_empty() && s.data.send_base == 100);
    }
}
