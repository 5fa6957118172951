//! One queue of the interface: its socket, its memory, and the frames that are kept for sending.

mod hosting;
mod open;

pub(super) use self::open::{Opened, Plot};

use std::sync::Arc;

use warpline_frame::{Frame, Pages};
use warpline_wire::net::HEADERS_MAX;

use super::config::XdpFrames;
use super::guest::{GuestLink, Host};
use super::jumbo::{Jumbo, Partial, join};
use super::socket::Socket;
use super::umem::{Places, Umem};
use crate::limits::{XDP_RECV_BATCH, XDP_RING_LEN, XDP_TX_FRAMES};
use crate::stats::{Stat, StatsHandle};

/// Where payloads are built in their frames: behind the longest headers, on a cache line.
pub(super) const PAYLOAD_AT: usize = HEADERS_MAX.next_multiple_of(64);

/// Calls to have the kernel send what is in the ring, one after the other: with its default budget of 32 packets a call
/// this empties a full share of frames.
const TX_CALLS_MAX: usize = XDP_TX_FRAMES / 32;

/// A queue.
pub(super) struct Lane {
    /// `None` while the interface does not exist.
    socket: Option<Socket>,
    umem: Umem,
    /// Room for packets of several frames; `None` where one frame holds every packet.
    jumbo: Option<Jumbo>,
    /// The frames of a received packet whose last one has not come yet, in one piece.
    partial: Option<Partial>,
    queue: u32,
    /// Frames for sending that are not in use.
    tx_free: Vec<Frame>,
    /// Received and not looked at yet; empty between calls.
    batch: Vec<Frame>,
    /// Workers without a queue of their own, for which this one sends.
    guests: Vec<GuestLink>,
    /// What they are told.
    host: Arc<Host>,
    /// How many guests the memory has frames for.
    guests_max: usize,
    /// Frames for sending that are to be taken from the pool again: those that guests had when they went, as they come home.
    owed: usize,
    busy_poll: bool,
    /// The kernel could not take everything.
    blocked: bool,
    /// All frames for sending are on their way.
    starved: bool,
    /// Guests have packets for which there was no room.
    held_back: bool,
}

/// A packet to be sent: with its headers, in a frame from `start` on.
pub(super) struct Outbound {
    pub(super) frame: Frame,
    pub(super) start: usize,
    pub(super) len: usize,
    /// Its checksum is to be finished as the bytes in front of it say.
    pub(super) unfinished: bool,
}

impl Lane {
    /// Whether packets are built outside the memory that the kernel reads.
    pub(super) fn is_jumbo(&self) -> bool {
        self.jumbo.is_some()
    }

    /// Bytes of a frame of the memory that the kernel reads and writes.
    pub(super) fn frame_size(&self) -> usize {
        self.umem.frame_size()
    }

    pub(super) fn queue(&self) -> u32 {
        self.queue
    }

    pub(super) fn pages(&self) -> Pages {
        self.umem.pages()
    }

    pub(super) fn socket(&self) -> Option<&Socket> {
        self.socket.as_ref()
    }

    /// Gives up the socket: the interface is gone. `elsewhere` as in [`frames`](Self::frames).
    pub(super) fn close(&mut self, elsewhere: usize) {
        if self.socket.take().is_none() {
            return;
        }
        self.umem.kernel_is_gone();
        self.partial = None;
        self.blocked = false;
        let lent = self.guests.iter().map(GuestLink::out).sum::<usize>();
        let kept = self.tx_frames().saturating_sub(lent + elsewhere);
        self.owed = kept.saturating_sub(self.tx_free.len());
        self.take_owed();
    }

    /// Takes up to one batch of packets out of the RX ring; they are read with [`packets`](Self::packets).
    #[inline]
    pub(super) fn receive(&mut self, stats: &StatsHandle) -> usize {
        let Some(socket) = &mut self.socket else { return 0 };
        let mut any = false;
        for _ in 0..XDP_RECV_BATCH {
            let Some(descriptor) = socket.rx.pop() else { break };
            any = true;
            let last = descriptor.options & libc::XDP_PKT_CONTD == 0;
            match self.umem.received(descriptor.addr, descriptor.len) {
                Some(frame) if last && self.partial.is_none() => {
                    // Another core or the card wrote it. By the time that the first one is looked at, the others are on
                    // their way.
                    frame.prefetch();
                    self.batch.push(frame);
                }
                Some(frame) => {
                    if let Some(whole) = join(&mut self.partial, self.jumbo.as_mut(), &frame, last, stats) {
                        self.batch.push(whole);
                    }
                }
                // An address that was not given is nobody's.
                None => stats.add(Stat::DropRxTruncated, 1),
            }
        }
        if any {
            socket.rx.release();
            // Before the packets are looked at: bursts must find the fill ring full.
            self.refill();
        } else if self.busy_poll || socket.fill.needs_wakeup() {
            stats.add(Stat::RecvCalls, 1);
            // The kernel runs the queue; what it finds is in the ring the next time. An error shows when sending.
            let _ = socket.wake_rx();
        }
        self.batch.len()
    }

    /// Has the kernel run the queue, if it polls busily.
    #[inline]
    pub(super) fn poll_busily(&self, stats: &StatsHandle) {
        if let Some(socket) = self.socket.as_ref().filter(|_| self.busy_poll) {
            stats.add(Stat::RecvCalls, 1);
            // An error shows when sending.
            let _ = socket.wake_rx();
        }
    }

    /// The packets that were received, and whether the program holds so many frames that they should be copied out.
    #[inline]
    pub(super) fn packets(&mut self) -> (impl Iterator<Item = Frame>, bool) {
        let low = self.umem.is_low();
        (self.batch.drain(..), low)
    }

    /// Lends the kernel what it may receive into.
    fn refill(&mut self) {
        let Some(socket) = &mut self.socket else { return };
        let room = socket.fill.free().min(XDP_RING_LEN);
        for _ in 0..room {
            let Some(address) = self.umem.lend_to_fill() else { break };
            let pushed = socket.fill.push(address);
            debug_assert!(pushed, "there was room");
        }
        socket.fill.publish();
    }

    /// A frame to build a packet in; the payload goes to [`PAYLOAD_AT`].
    #[inline]
    pub(super) fn take_tx(&mut self, stats: &StatsHandle) -> Option<Frame> {
        if let Some(jumbo) = &self.jumbo {
            // What is built there needs up to so many frames of the kernel's when it is sent.
            let pieces = jumbo.tx.frame_size().div_ceil(self.umem.frame_size()) + 1;
            if self.tx_free.len() < pieces {
                self.reap();
            }
            if self.tx_free.len() < pieces {
                self.flush(stats);
            }
            let jumbo = self.jumbo.as_mut()?;
            self.starved = self.tx_free.len() < pieces;
            return if self.starved { None } else { jumbo.tx.take() };
        }
        if self.is_short() {
            self.reap();
        }
        if self.is_short() {
            self.flush(stats);
        }
        self.starved = self.is_short();
        if self.starved { None } else { self.tx_free.pop() }
    }

    /// Whether there is no frame to build in, or no place for it in the TX ring: where guests send too there may be more frames than
    /// places.
    #[inline]
    fn is_short(&mut self) -> bool {
        self.tx_free.is_empty() || self.socket.as_mut().is_some_and(|socket| !socket.tx.has_room())
    }

    /// Takes a frame for sending back unused.
    #[inline]
    pub(super) fn put_tx(&mut self, frame: Frame) {
        // Frames of the other pool find their way home.
        if self.jumbo.is_none() {
            self.tx_free.push(frame);
        }
    }

    /// Bytes of the longest payload that a frame has room for.
    pub(super) fn payload_max(&self) -> usize {
        self.jumbo.as_ref().map_or(self.umem.frame_size(), |jumbo| jumbo.tx.frame_size()) - PAYLOAD_AT
    }

    /// Whether packets may be given away with their checksums unfinished.
    #[inline]
    pub(super) fn finishes_checksums(&self) -> bool {
        self.socket.as_ref().is_some_and(Socket::finishes_checksums)
    }

    /// Queues a packet. False if it was dropped, since there is no socket, or one of another kind than it was made for.
    #[inline]
    pub(super) fn send(&mut self, packet: Outbound) -> bool {
        let Outbound { frame, start, len, unfinished } = packet;
        if self.jumbo.is_some() {
            return self.send_pieces(&frame[start..start + len]);
        }
        // Where guests send too there may be more frames on their way than the ring has places.
        let fits = |socket: &mut Socket| socket.tx.has_room() && (!unfinished || socket.finishes_checksums());
        let has_room = self.socket.as_mut().is_some_and(fits);
        let Some(socket) = self.socket.as_mut().filter(|_| has_room) else {
            self.tx_free.push(frame);
            return false;
        };
        let addr = match self.umem.lend_to_send(frame, start) {
            Ok(addr) => addr,
            Err(frame) => {
                debug_assert!(false, "frames for sending are not shared");
                self.tx_free.push(frame);
                return false;
            }
        };
        let len = u32::try_from(len).expect("packets are short");
        let options = if unfinished { libc::XDP_TX_METADATA } else { 0 };
        let pushed = socket.tx.push(libc::xdp_desc { addr, len, options });
        debug_assert!(pushed, "there was room");
        true
    }

    /// Queues a copy of a packet, in as many frames as it takes; all of it or nothing.
    fn send_pieces(&mut self, packet: &[u8]) -> bool {
        let size = self.umem.frame_size();
        let Some(socket) = self.socket.as_mut().filter(|_| self.tx_free.len() >= packet.len().div_ceil(size)) else {
            return false;
        };
        let mut pieces = packet.chunks(size).peekable();
        while let Some(piece) = pieces.next() {
            let mut frame = self.tx_free.pop().expect("as many were counted");
            frame[..piece.len()].copy_from_slice(piece);
            let Ok(addr) = self.umem.lend_to_send(frame, 0) else {
                unreachable!("frames for sending are not shared");
            };
            let options = if pieces.peek().is_some() { libc::XDP_PKT_CONTD } else { 0 };
            let len = u32::try_from(piece.len()).expect("frames are small");
            let pushed = socket.tx.push(libc::xdp_desc { addr, len, options });
            assert!(pushed, "the TX ring is longer than there are frames for sending");
        }
        true
    }

    /// Takes back what was sent.
    #[inline]
    fn reap(&mut self) {
        let Some(socket) = &mut self.socket else { return };
        let mut any = false;
        while let Some(address) = socket.completion.pop() {
            any = true;
            if let Some(frame) = self.umem.sent(address) {
                self.tx_free.push(frame);
            }
        }
        if any {
            socket.completion.release();
        }
    }

    /// Has the kernel send what is queued.
    #[inline]
    pub(super) fn flush(&mut self, stats: &StatsHandle) {
        let Some(socket) = &mut self.socket else { return };
        socket.tx.publish();
        self.blocked = false;
        let mut calls = 0;
        while socket.tx.pending() > 0 && (socket.tx.needs_wakeup() || self.busy_poll) {
            stats.add(Stat::SendCalls, 1);
            let result = socket.wake_tx();
            calls += 1;
            match result {
                // In zero-copy mode the call only wakes.
                Ok(()) if socket.is_zero_copy() => break,
                Ok(()) if calls < TX_CALLS_MAX => (),
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && calls < TX_CALLS_MAX => (),
                // No room behind the device, or the interface is down: what is in the ring stays there.
                Ok(()) | Err(_) => {
                    self.blocked = true;
                    stats.add(Stat::TxBlocked, 1);
                    break;
                }
            }
        }
        self.reap();
    }

    /// Shows the kernel what is queued; something else has it sent.
    #[inline]
    pub(super) fn publish(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.tx.publish();
        }
    }

    /// Packets that the kernel has not taken yet.
    pub(super) fn pending(&self) -> usize {
        self.socket.as_ref().map_or(0, |socket| socket.tx.pending() as usize)
    }

    /// Whether the kernel could not take everything, or has not given back what it took.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked || self.starved || self.held_back
    }

    /// Whether there is something to receive.
    pub(super) fn is_ready(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| !socket.rx.is_empty())
    }

    /// Packets that have arrived and were not received.
    pub(super) fn waiting(&self) -> usize {
        self.socket.as_ref().map_or(0, |socket| socket.rx.len() as usize)
    }

    /// Where the frames are. `elsewhere` of those for sending are neither here nor with the kernel: in the making, or
    /// waiting for a neighbour.
    pub(super) fn frames(&self, elsewhere: usize) -> XdpFrames {
        let Places { free, receiving, sending, with_program } = self.umem.places();
        let kept = self.tx_free.len() + elsewhere;
        XdpFrames { free, receiving, sending, kept, with_program, capacity: self.umem.capacity() }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.host.end();
        self.guests.iter().for_each(GuestLink::wake);
        // What the guests gave so far is on its way; an error would have shown before, and nobody is left to tell.
        if self.socket.is_some() && !self.guests.is_empty() {
            let stats = StatsHandle::new(crate::IoKind::Xdp);
            self.serve_guests(&stats);
            self.flush(&stats);
        }
        // The socket goes before the memory that it was told of.
        self.close(0);
    }
}
