//! One queue of the interface: its socket, its memory, and the frames that are kept for sending.

use std::io;
use std::sync::Arc;

use warpline_frame::{Frame, Pages, PoolConfig};
use warpline_wire::net::HEADERS_MAX;

use super::checksums::{self, Demand, Offload};
use super::config::{XdpChecksums, XdpConfig, XdpFrames, XdpMode, XdpModes};
use super::device::SINGLE_BUFFER_MTU;
use super::guest::{GuestLink, Host};
use super::jumbo::{Jumbo, Partial, join};
use super::socket::{BindTo, Socket, until_released};
use super::umem::{KERNEL_HEADROOM, Places, Umem};
use crate::limits::{XDP_GUEST_FRAMES, XDP_RECV_BATCH, XDP_RING_LEN, XDP_TX_FRAMES};
use crate::stats::{Stat, StatsHandle};

/// Where payloads are built in their frames: behind the longest headers, on a cache line.
pub(super) const PAYLOAD_AT: usize = HEADERS_MAX.next_multiple_of(64);

/// Calls to have the kernel send what is in the ring, one after the other: with its default budget of 32 packets a call
/// this empties a full share of frames.
const TX_CALLS_MAX: usize = XDP_TX_FRAMES / 32;

/// Packets that are handed to the kernel together when it polls busily.
const BUSY_POLL_USECS: u32 = 20;

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

/// What the memory of a queue is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plot {
    pub(super) queue: u32,
    /// Workers without a queue of their own, for which this queue's worker may have to send at a time.
    pub(super) guests: usize,
    /// The NUMA node to take memory from.
    pub(super) node: Option<u32>,
    pub(super) mtu: usize,
}

/// How a lane came to its mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) mode: XdpMode,
    pub(super) why: String,
    /// Who computes checksums.
    pub(super) checksums: &'static str,
    /// What became of the wish for busy polling; `None` without one.
    pub(super) polling: Option<&'static str>,
}

impl Lane {
    /// Makes the memory of a queue, with frames for so many guests; there is no socket yet. Fails as mapping does.
    pub(super) fn new(plot: Plot, config: &XdpConfig) -> io::Result<Lane> {
        let Plot { queue, guests, node, mtu } = plot;
        // With two VLAN tags in front of it and the kernel's headroom; on virtual interfaces the kernel also needs room
        // for its own record (`skb_shared_info`, 320 bytes) behind it.
        let small = KERNEL_HEADROOM + 22 + mtu <= 2048;
        let frame_size = match config.frame_size {
            Some(2048) if !small => {
                let what = format!("frames of 2048 bytes are too small for an MTU of {mtu}: it takes 4096");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            Some(size) => size,
            None => {
                if small {
                    2048
                } else {
                    4096
                }
            }
        };
        let jumbo = (mtu > SINGLE_BUFFER_MTU).then(|| Jumbo::new(mtu, node)).transpose()?;
        // Guests build packets of several frames elsewhere.
        let lent = if jumbo.is_some() { 0 } else { guests * XDP_GUEST_FRAMES };
        let mut umem = Umem::new(frame_size, config.frames + lent, node)?;
        let tx_free: Vec<Frame> = std::iter::from_fn(|| umem.take()).take(XDP_TX_FRAMES + lent).collect();
        Ok(Lane {
            socket: None,
            umem,
            jumbo,
            partial: None,
            queue,
            tx_free,
            batch: Vec::with_capacity(XDP_RECV_BATCH),
            guests: Vec::with_capacity(guests),
            host: Arc::default(),
            guests_max: guests,
            owed: 0,
            busy_poll: false,
            blocked: false,
            starved: false,
            held_back: false,
        })
    }

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

    /// Binds a socket, zero-copy first if the modes allow it. Fails as bind(2) does.
    pub(super) fn open(&mut self, ifindex: u32, native: bool, config: &XdpConfig) -> io::Result<Opened> {
        let (queue, multi_buffer) = (self.queue, self.jumbo.is_some());
        let bind = |zero_copy| {
            let (interface, wanted) = (config.interface, config.checksums);
            let demand = Demand { interface, wanted, zero_copy, several_frames: multi_buffer };
            let (checksums, who) = checksums::choose(demand)?;
            let socket = Socket::new(&self.umem, BindTo { ifindex, queue, zero_copy, multi_buffer, checksums })?;
            let is_old = checksums != Offload::Own && !socket.finishes_checksums();
            if is_old && wanted != XdpChecksums::Best {
                return Err(checksums::refusal("the kernel is older than 6.8"));
            }
            let who = if is_old { "checksums computed here: the kernel is older than 6.8" } else { who };
            io::Result::Ok((socket, who))
        };
        let copy = if native { XdpMode::Copy } else { XdpMode::Generic };
        let ((socket, checksums), mode, why) = match config.modes {
            XdpModes::Best | XdpModes::ZeroCopy if native => match bind(true) {
                Ok(bound) => (bound, XdpMode::ZeroCopy, "the driver has zero-copy".to_owned()),
                Err(error) if config.modes == XdpModes::Best && lacks_zero_copy(&error) => {
                    // Until the socket of the first try is gone its memory counts against the limit, too.
                    let bound = until_released(|error| error.kind() == io::ErrorKind::OutOfMemory, || bind(false))?;
                    (bound, copy, format!("the driver has no zero-copy ({error})"))
                }
                Err(error) => return Err(error),
            },
            XdpModes::ZeroCopy => {
                let what = "zero-copy was asked for, and the program does not run in the driver";
                return Err(io::Error::new(io::ErrorKind::Unsupported, what));
            }
            XdpModes::Best | XdpModes::Generic => (bind(false)?, copy, String::new()),
            XdpModes::Copy => (bind(false)?, copy, "copy mode was asked for".to_owned()),
        };
        let mut polling = None;
        if config.busy_poll_budget > 0 {
            socket.prefer_busy_poll(BUSY_POLL_USECS, config.busy_poll_budget.into())?;
            self.busy_poll = true;
            polling = Some(if socket.can_poll_busily() {
                "busy polling"
            } else {
                "no busy polling yet: the driver does not say by which NAPI the queue runs (before Linux 6.14 packets do)"
            });
        }
        self.socket = Some(socket);
        self.blocked = false;
        self.refill();
        Ok(Opened { mode, why, checksums, polling })
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

    /// How many frames are for sending, those of all guests that there may be included.
    fn tx_frames(&self) -> usize {
        let lent = if self.is_jumbo() { 0 } else { self.guests_max * XDP_GUEST_FRAMES };
        XDP_TX_FRAMES + lent
    }

    /// The shape of the pool that a guest builds packets of several frames in; `None` if each fits one.
    pub(super) fn jumbo_config(&self) -> Option<PoolConfig> {
        self.jumbo.as_ref().map(Jumbo::tx_config)
    }

    /// What all guests are told.
    pub(super) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Sends for another worker from now on. The memory was made for so many.
    pub(super) fn take_in(&mut self, guest: GuestLink) {
        self.guests.push(guest);
        self.supply_guests();
    }

    /// Enters in the TX ring what the guests have ready.
    #[inline]
    pub(super) fn serve_guests(&mut self, stats: &StatsHandle) {
        if !self.guests.is_empty() {
            self.serve_all_guests(stats);
        }
        if self.owed > 0 {
            self.take_owed();
        }
    }

    fn serve_all_guests(&mut self, stats: &StatsHandle) {
        let mut guests = std::mem::take(&mut self.guests);
        self.held_back = false;
        guests.retain_mut(|guest| {
            // Asked before the look into its ring: what it gave before it went is there.
            let left = guest.signs().has_left();
            let all = self.serve(guest, stats);
            self.held_back |= !all;
            if left && all {
                self.owed += guest.out();
            }
            !(left && all)
        });
        self.guests = guests;
        self.supply_guests();
    }

    /// Enters in the TX ring what a guest has ready; `false` if there was no room for all of it.
    fn serve(&mut self, guest: &mut GuestLink, stats: &StatsHandle) -> bool {
        while !guest.is_done() {
            if !self.has_room_for_guests() {
                return false;
            }
            let Some(packet) = guest.next() else { break };
            if !self.is_jumbo() {
                guest.settle();
                self.umem.take_over();
            }
            if !self.send(packet) {
                stats.add(Stat::DropTxRefused, 1);
            }
        }
        true
    }

    /// Takes those frames for sending from the pool that came home there.
    #[cold]
    fn take_owed(&mut self) {
        while self.owed > 0
            && let Some(frame) = self.umem.take()
        {
            self.tx_free.push(frame);
            self.owed -= 1;
        }
    }

    /// Whether a guest's packet can be sent and leaves room in the rings for the own ones.
    fn has_room_for_guests(&mut self) -> bool {
        if let Some(jumbo) = &self.jumbo {
            let pieces = jumbo.tx.frame_size().div_ceil(self.umem.frame_size()) + 1;
            if self.tx_free.len() < pieces {
                self.reap();
            }
            return self.tx_free.len() >= pieces;
        }
        self.umem.sending() < XDP_RING_LEN as usize - XDP_TX_FRAMES
    }

    /// Gives the guests frames to build in, as long as half of the own share is left.
    fn supply_guests(&mut self) {
        if self.is_jumbo() {
            self.guests.iter().for_each(GuestLink::wake_if_starved);
            return;
        }
        for guest in &mut self.guests {
            while guest.has_room()
                && self.tx_free.len() > XDP_TX_FRAMES / 2
                && let Some(frame) = self.tx_free.pop()
            {
                match guest.give(frame) {
                    Ok(()) => self.umem.hand_on(),
                    Err(frame) => {
                        self.tx_free.push(frame);
                        break;
                    }
                }
            }
            guest.wake_if_starved();
        }
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

/// What drivers answer that have no zero-copy, or not for this size of frames or this queue; also that it would not come with
/// the checksums that were asked for.
fn lacks_zero_copy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENXIO | libc::ENOENT))
}

#[cfg(test)]
mod tests {
    use super::super::config::InterfaceName;
    use super::super::reception::Reception;
    use super::*;
    use crate::IoKind;
    use crate::bell::{Doorbell, Waker};

    /// Nothing else wakes a worker that sleeps while the kernel has all that fits the ring.
    #[test]
    fn what_guests_have_to_send_and_there_is_no_room_for_keeps_the_owner_looking() {
        let config = XdpConfig::new(InterfaceName::new("eth0").expect("a short name"));
        let (guests, stats) = (7, StatsHandle::new(IoKind::Xdp));
        let mut lane = Lane::new(Plot { queue: 0, guests, node: None, mtu: 1500 }, &config).expect("there is memory");
        let bell = || Doorbell::new(Waker::thread());
        let (mut reception, mut arrivals) = Reception::new(&lane, bell(), guests, None);
        let mut guest = reception.admit(bell()).expect("there is room");
        lane.take_in(arrivals.pop().expect("it was admitted"));
        let mut lent = Vec::new();
        while lane.umem.sending() < XDP_RING_LEN as usize - XDP_TX_FRAMES {
            let frame = lane.tx_free.pop().expect("there are so many");
            lent.push(lane.umem.lend_to_send(frame, 0).expect("nobody else has it"));
        }
        let frame = guest.take_tx().expect("it was given some");
        assert!(guest.send(Outbound { frame, start: PAYLOAD_AT, len: 100, unfinished: false }));
        assert!(!lane.is_blocked());
        lane.serve_guests(&stats);
        assert!(lane.is_blocked(), "its packet waits");
        lane.tx_free.push(lane.umem.sent(lent[0]).expect("it was lent"));
        lane.serve_guests(&stats);
        assert!(!lane.is_blocked() && lane.frames(0).add_up());
    }
}
