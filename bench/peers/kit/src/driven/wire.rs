//! A UDP socket with GSO and GRO.

use std::cell::Cell;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{Result, udp_socket};

/// Largest UDP datagram, and so the longest train.
const TRAIN_MAX: usize = 65_507;
/// Super-packets read in one system call.
const BATCH: usize = 8;
const SLOT: usize = 1 << 16;
/// Packets from which on a train tells the size of full packets.
const LONG_TRAIN: usize = 4;

/// The socket of a loop.
pub struct Wire {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    segment: Cell<usize>,
}

/// Room for one batch of what is read.
pub struct Inbox(Vec<u8>);

impl Default for Inbox {
    fn default() -> Self {
        Self(vec![0; BATCH * SLOT])
    }
}

impl Wire {
    /// Binds a socket with large buffers.
    ///
    /// # Errors
    ///
    /// If the address is taken or not ours.
    pub fn bind(address: SocketAddr) -> Result<Self> {
        let socket = udp_socket(address)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let local = socket.local_addr()?;
        Ok(Self { socket, state, local, segment: Cell::new(0) })
    }

    /// The address it is bound to.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Size of the packets of the last long train, sent or received: what really goes over the wire. `None` if there
    /// was no such train.
    #[must_use]
    pub fn full_packet(&self) -> Option<u64> {
        let segment = self.segment.get();
        (segment > 0).then_some(segment as u64)
    }

    /// Waits until there is something to read, or `limit` is over.
    ///
    /// # Errors
    ///
    /// If the kernel says so.
    pub fn wait(&self, limit: Duration) -> Result<()> {
        self.poll(PollFlags::IN, Some(limit))
    }

    fn poll(&self, flags: PollFlags, limit: Option<Duration>) -> Result<()> {
        let limit =
            limit.map(|limit| Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() });
        match poll(&mut [PollFd::new(&self.socket, flags)], limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads what is there, at most a batch, and gives every datagram with its sender to `each`. Whether there may be
    /// more.
    ///
    /// # Errors
    ///
    /// If the socket has failed.
    pub fn recv(&self, inbox: &mut Inbox, mut each: impl FnMut(&mut [u8], SocketAddr)) -> Result<bool> {
        let mut metas = [RecvMeta::default(); BATCH];
        let mut slices = inbox.0.chunks_mut(SLOT);
        let mut slots: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(slices.next().unwrap_or_default()));
        let count = match self.state.recv(UdpSockRef::from(&self.socket), &mut slots, &mut metas) {
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(false);
            }
            // An unreachable port of a client that is gone.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        for (meta, slot) in metas.iter().zip(&mut slots).take(count) {
            if meta.len >= LONG_TRAIN * meta.stride {
                self.segment.set(meta.stride);
            }
            for datagram in slot[..meta.len].chunks_mut(meta.stride.max(1)) {
                each(datagram, meta.addr);
            }
        }
        Ok(count == BATCH)
    }

    /// Sends everything that `next` writes into the buffers it gets, of `size` bytes each, in trains as long as can be.
    /// `next` gives the length and the destination of a packet, or `None` when there are no more.
    ///
    /// # Errors
    ///
    /// If the socket has failed, or `next` has.
    pub fn send_all(
        &self,
        train: &mut Train,
        size: usize,
        mut next: impl FnMut(&mut [u8]) -> Result<Option<(usize, SocketAddr)>>,
    ) -> Result<()> {
        let packets_max = self.state.max_gso_segments().max(1);
        loop {
            let start = train.length;
            let Some((length, destination)) = next(&mut train.buffer[start..start + size])? else {
                return self.send(train);
            };
            if train.packets > 0 && (length > train.segment || train.destination != Some(destination)) {
                self.send(train)?;
                train.buffer.copy_within(start..start + length, 0);
            }
            train.push(length, destination);
            if length < train.segment || train.packets >= packets_max || train.length + size > TRAIN_MAX {
                self.send(train)?;
            }
        }
    }

    /// Sends a train and empties it, waiting for room in the socket's buffer.
    fn send(&self, train: &mut Train) -> Result<()> {
        let Some(destination) = train.destination else { return Ok(()) };
        if train.packets >= LONG_TRAIN {
            self.segment.set(train.segment);
        }
        let segment_size = (train.length > train.segment).then_some(train.segment);
        let contents = &train.buffer[..train.length];
        let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
        loop {
            match self.state.try_send(UdpSockRef::from(&self.socket), &transmit) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.poll(PollFlags::OUT, None)?,
                // An unreachable port of a client that is gone.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => break,
                sent => {
                    sent?;
                    break;
                }
            }
        }
        (train.length, train.segment, train.packets, train.destination) = (0, 0, 0, None);
        Ok(())
    }
}

/// Packets of one size for one destination, the last of which may be shorter.
pub struct Train {
    buffer: Vec<u8>,
    length: usize,
    segment: usize,
    packets: usize,
    destination: Option<SocketAddr>,
}

impl Default for Train {
    fn default() -> Self {
        Self { buffer: vec![0; SLOT], length: 0, segment: 0, packets: 0, destination: None }
    }
}

impl Train {
    fn push(&mut self, length: usize, destination: SocketAddr) {
        if self.packets == 0 {
            self.segment = length;
            self.destination = Some(destination);
        }
        self.length += length;
        self.packets += 1;
    }
}
