//! Unreliable datagrams (RFC 9221).

use warpline_frame::Chunk;
use warpline_wire::{TransportErrorCode, Writer, frame, varint};

use crate::error::TransportError;
use crate::event::Event;
use crate::few::Few;

/// A datagram costs at least this much of a buffer, so that empty ones are bounded, too.
const COST_MIN: usize = 32;

/// Why a datagram was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendDatagramError {
    /// The peer takes no datagrams.
    #[error("the peer takes no datagrams")]
    Unsupported,
    /// It fits no packet on the path now, or exceeds what the peer takes.
    #[error("the datagram is larger than the path or the peer takes")]
    TooLarge,
    /// The send buffer is full; [`Event::DatagramsUnblocked`] follows.
    #[error("no room in the send buffer")]
    Blocked,
}

/// Datagrams that wait, in both directions.
#[derive(Debug)]
pub(crate) struct Datagrams {
    receive: Few<Chunk>,
    receive_len: usize,
    /// `None`: this side announced that it takes none.
    receive_max: Option<usize>,
    receive_dropped: u64,
    send: Few<Chunk>,
    send_len: usize,
    send_max: usize,
    /// The largest frame that the peer takes; 0 for none.
    peer_max: u64,
    blocked: bool,
    announce: bool,
    announce_room: bool,
}

impl Datagrams {
    pub(crate) fn new(receive_max: Option<usize>, send_max: usize) -> Self {
        Self {
            receive: Few::default(),
            receive_len: 0,
            receive_max,
            receive_dropped: 0,
            send: Few::default(),
            send_len: 0,
            send_max,
            peer_max: 0,
            blocked: false,
            announce: false,
            announce_room: false,
        }
    }

    pub(crate) fn set_peer_max(&mut self, frame_size: u64) {
        self.peer_max = frame_size;
    }

    /// The largest datagram for a packet with `room` bytes for frames.
    pub(crate) fn max_size(&self, room: usize) -> Option<usize> {
        let largest = usize::try_from(self.peer_max).unwrap_or(usize::MAX).min(room);
        // Type and a length of two bytes.
        (self.peer_max > 0).then(|| largest.saturating_sub(3))
    }

    pub(crate) fn send(&mut self, data: Chunk, max: Option<usize>) -> Result<(), SendDatagramError> {
        let max = max.ok_or(SendDatagramError::Unsupported)?;
        if data.len() > max {
            return Err(SendDatagramError::TooLarge);
        }
        let cost = data.len().max(COST_MIN);
        if self.send_len + cost > self.send_max {
            self.blocked = true;
            return Err(SendDatagramError::Blocked);
        }
        self.send_len += cost;
        self.send.push_back(data);
        Ok(())
    }

    /// Has what waits, if it is several, brought into the caches.
    #[inline]
    pub(crate) fn prefetch(&self) {
        self.receive.prefetch();
        self.send.prefetch();
    }

    /// Whether there is memory for more than one datagram each way.
    #[inline]
    pub(crate) fn holds_rings(&self) -> bool {
        self.receive.holds_ring() || self.send.holds_ring()
    }

    /// Gives back memory that is not needed now.
    pub(crate) fn shrink(&mut self) {
        self.receive.shrink();
        self.send.shrink();
    }

    #[inline]
    pub(crate) fn recv(&mut self) -> Option<Chunk> {
        let data = self.receive.pop_front()?;
        self.receive_len -= data.len().max(COST_MIN);
        Some(data)
    }

    /// Takes a DATAGRAM frame; the oldest unread ones make room.
    #[inline]
    pub(crate) fn on_datagram(&mut self, data: Chunk) -> Result<(), TransportError> {
        let Some(max) = self.receive_max else {
            return Err(TransportError::new(
                TransportErrorCode::PROTOCOL_VIOLATION,
                "a DATAGRAM frame that this side did not allow",
            ));
        };
        let cost = data.len().max(COST_MIN);
        while self.receive_len + cost > max && self.recv().is_some() {
            self.receive_dropped += 1;
        }
        self.announce |= self.receive.is_empty();
        self.receive_len += cost;
        self.receive.push_back(data);
        Ok(())
    }

    /// Datagrams that were dropped because the application did not read them in time.
    pub(crate) fn dropped(&self) -> u64 {
        self.receive_dropped
    }

    #[inline]
    pub(crate) fn has_data(&self) -> bool {
        !self.send.is_empty()
    }

    /// Writes as many datagrams as fit. What no packet can carry any more, since the path's MTU fell, is dropped: the packet
    /// `is_largest` if none will have more room.
    #[inline]
    pub(crate) fn write(&mut self, w: &mut Writer<'_>, is_largest: bool) -> usize {
        let mut written = 0;
        while let Some(next) = self.send.front() {
            let len = 1 + varint::len(next.len() as u64) + next.len();
            if len > w.remaining() {
                if !is_largest || written > 0 {
                    break;
                }
            } else {
                frame::encode_datagram_header(w, next.len());
                w.slice(next);
                written += 1;
            }
            self.send_len -= next.len().max(COST_MIN);
            self.send.pop_front();
        }
        if self.blocked && self.send_len <= self.send_max / 2 {
            self.blocked = false;
            self.announce_room = true;
        }
        written
    }

    #[inline]
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.announce) {
            return Some(Event::DatagramReceived);
        }
        std::mem::take(&mut self.announce_room).then_some(Event::DatagramsUnblocked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_unread_make_room_and_are_counted() {
        let mut d = Datagrams::new(Some(100), 100);
        for i in 0..5u8 {
            d.on_datagram(Chunk::copy_from_slice(&[i; 40])).unwrap();
        }
        assert_eq!(d.poll_event(), Some(Event::DatagramReceived));
        assert_eq!((d.recv().unwrap()[0], d.recv().unwrap()[0], d.recv()), (3, 4, None));
        assert_eq!(d.dropped(), 3);
    }

    #[test]
    fn a_full_send_buffer_blocks_and_announces_room() {
        let mut d = Datagrams::new(None, 128);
        d.set_peer_max(1200);
        let data = || Chunk::copy_from_slice(&[7; 60]);
        assert_eq!(d.send(data(), d.max_size(1000)), Ok(()));
        assert_eq!(d.send(data(), d.max_size(1000)), Ok(()));
        assert_eq!(d.send(data(), d.max_size(1000)), Err(SendDatagramError::Blocked));
        assert_eq!(d.write(&mut Writer::new(&mut [0; 1200]), true), 2);
        assert_eq!(d.poll_event(), Some(Event::DatagramsUnblocked));
    }
}
