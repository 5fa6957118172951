//! One queue of the interface: its socket, its memory, and the frames that are kept for sending.

use std::io;

use warpline_frame::{Frame, Pages, Pool, PoolConfig};
use warpline_wire::net::HEADERS_MAX;

use super::config::{XdpConfig, XdpFrames, XdpMode, XdpModes};
use super::device::SINGLE_BUFFER_MTU;
use super::socket::{BindTo, Socket};
use super::umem::{KERNEL_HEADROOM, Places, Umem};
use crate::limits::{XDP_JUMBO_FRAMES, XDP_RECV_BATCH, XDP_RING_LEN, XDP_TX_FRAMES, XDP_WAITING_MAX};
use crate::pools::place;
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
    busy_poll: bool,
    /// The kernel could not take everything.
    blocked: bool,
    /// All frames for sending are on their way.
    starved: bool,
}

/// Room for packets of several frames in one piece. Two pools, so that a program that holds received ones does not stop
/// the sender.
struct Jumbo {
    rx: Pool,
    tx: Pool,
}

impl Jumbo {
    fn new(mtu: usize, node: Option<u32>) -> io::Result<Jumbo> {
        let config = |frames| PoolConfig { frame_size: PAYLOAD_AT + mtu, frames, huge_pages: false };
        let pool = |frames| place(Pool::new(config(frames))?, node);
        Ok(Jumbo { rx: pool(XDP_JUMBO_FRAMES)?, tx: pool(2 * XDP_WAITING_MAX)? })
    }
}

/// The beginning of a packet of several frames.
enum Partial {
    Kept(Frame, usize),
    /// There was no room for it, or it was too long: the rest goes the same way.
    Dropped,
}

/// How a lane came to its mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) mode: XdpMode,
    pub(super) why: String,
}

impl Lane {
    /// Makes the memory of a queue; there is no socket yet. Fails as mapping does.
    pub(super) fn new(queue: u32, config: &XdpConfig, node: Option<u32>, mtu: usize) -> io::Result<Lane> {
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
        let mut umem = Umem::new(frame_size, config.frames, node)?;
        let jumbo = (mtu > SINGLE_BUFFER_MTU).then(|| Jumbo::new(mtu, node));
        let tx_free: Vec<Frame> = std::iter::from_fn(|| umem.take()).take(XDP_TX_FRAMES).collect();
        Ok(Lane {
            socket: None,
            umem,
            jumbo: jumbo.transpose()?,
            partial: None,
            queue,
            tx_free,
            batch: Vec::with_capacity(XDP_RECV_BATCH),
            busy_poll: false,
            blocked: false,
            starved: false,
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
        let bind = |umem: &Umem, zero_copy| {
            Socket::new(umem, BindTo { ifindex, queue: self.queue, zero_copy, multi_buffer: self.jumbo.is_some() })
        };
        let copy = if native { XdpMode::Copy } else { XdpMode::Generic };
        let (socket, mode, why) = match config.modes {
            XdpModes::Best | XdpModes::ZeroCopy if native => match bind(&self.umem, true) {
                Ok(socket) => (socket, XdpMode::ZeroCopy, "the driver has zero-copy".to_owned()),
                Err(error) if config.modes == XdpModes::Best && lacks_zero_copy(&error) => {
                    let why = format!("the driver has no zero-copy ({error})");
                    (bind(&self.umem, false)?, copy, why)
                }
                Err(error) => return Err(error),
            },
            XdpModes::ZeroCopy => {
                let what = "zero-copy was asked for, and the program does not run in the driver";
                return Err(io::Error::new(io::ErrorKind::Unsupported, what));
            }
            XdpModes::Best | XdpModes::Generic => (bind(&self.umem, false)?, copy, String::new()),
            XdpModes::Copy => (bind(&self.umem, false)?, copy, "copy mode was asked for".to_owned()),
        };
        if config.busy_poll_budget > 0 {
            socket.prefer_busy_poll(BUSY_POLL_USECS, config.busy_poll_budget.into())?;
            self.busy_poll = true;
        }
        self.socket = Some(socket);
        self.blocked = false;
        self.refill();
        Ok(Opened { mode, why })
    }

    /// Gives up the socket: the interface is gone.
    pub(super) fn close(&mut self) {
        if self.socket.take().is_none() {
            return;
        }
        self.umem.kernel_is_gone();
        self.partial = None;
        self.blocked = false;
        while self.tx_free.len() < XDP_TX_FRAMES
            && let Some(frame) = self.umem.take()
        {
            self.tx_free.push(frame);
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
                Some(frame) if last && self.partial.is_none() => self.batch.push(frame),
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
    pub(super) fn poll_busily(&self) {
        if let Some(socket) = self.socket.as_ref().filter(|_| self.busy_poll) {
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
        if self.tx_free.is_empty() {
            self.reap();
        }
        if self.tx_free.is_empty() {
            self.flush(stats);
        }
        self.starved = self.tx_free.is_empty();
        self.tx_free.pop()
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

    /// Queues the packet that lies in the frame from `start` on. False if it was dropped, since there is no socket.
    #[inline]
    pub(super) fn send(&mut self, frame: Frame, start: usize, len: usize) -> bool {
        if self.jumbo.is_some() {
            return self.send_pieces(&frame[start..start + len]);
        }
        let Some(socket) = &mut self.socket else {
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
        let pushed = socket.tx.push(libc::xdp_desc { addr, len, options: 0 });
        // The ring has room for every frame that is kept for sending.
        assert!(pushed, "the TX ring is longer than there are frames for sending");
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

    /// Packets that the kernel has not taken yet.
    pub(super) fn pending(&self) -> usize {
        self.socket.as_ref().map_or(0, |socket| socket.tx.pending() as usize)
    }

    /// Whether the kernel could not take everything, or has not given back what it took.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked || self.starved
    }

    /// Whether there is something to receive.
    pub(super) fn is_ready(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| !socket.rx.is_empty())
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
        // The socket goes before the memory that it was told of.
        self.close();
    }
}

/// Puts the frames of a packet together; the packet with its last one, or `None`.
fn join(
    partial: &mut Option<Partial>,
    jumbo: Option<&mut Jumbo>,
    piece: &[u8],
    last: bool,
    stats: &StatsHandle,
) -> Option<Frame> {
    let begun = partial.take().unwrap_or_else(|| match jumbo.and_then(|jumbo| jumbo.rx.take()) {
        Some(frame) => Partial::Kept(frame, 0),
        None => Partial::Dropped,
    });
    let grown = match begun {
        Partial::Kept(mut frame, len) if frame.len() - len >= piece.len() => {
            frame[len..len + piece.len()].copy_from_slice(piece);
            Partial::Kept(frame, len + piece.len())
        }
        Partial::Kept(..) | Partial::Dropped => Partial::Dropped,
    };
    if !last {
        *partial = Some(grown);
        return None;
    }
    match grown {
        Partial::Kept(mut frame, len) => {
            frame.truncate(len);
            Some(frame)
        }
        Partial::Dropped => {
            stats.add(Stat::DropRxNoMemory, 1);
            None
        }
    }
}

/// What drivers answer that have no zero-copy, or not for this size of frames or this queue.
fn lacks_zero_copy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENXIO | libc::ENOENT))
}
