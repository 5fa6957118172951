//! A UDP socket that receives trains as single datagrams and sends runs of datagrams as trains.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use warpline_sim::Codepoint;

/// Trains taken by one system call.
const BATCH: usize = 8;
/// The largest train.
const TRAIN_LEN_MAX: usize = 64 << 10;
/// Asked of the kernel for both directions: some ten milliseconds at line rate.
const SOCKET_BUFFER: usize = 8 << 20;

/// A socket that does not block.
#[derive(Debug)]
pub struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
    segments_max: usize,
}

/// Room for what one call receives.
#[derive(Debug)]
pub struct Buffers {
    memory: Vec<u8>,
    meta: [RecvMeta; BATCH],
}

impl Default for Buffers {
    fn default() -> Self {
        Self { memory: vec![0; BATCH * TRAIN_LEN_MAX], meta: [RecvMeta::default(); BATCH] }
    }
}

impl Socket {
    /// Binds to `address`.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        let state = UdpSocketState::new((&socket).into())?;
        let reference = socket2::SockRef::from(&socket);
        // Past the system's limit only root may go; without, the limit holds.
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER).is_err() {
            reference.set_recv_buffer_size(SOCKET_BUFFER)?;
        }
        reference.set_send_buffer_size(SOCKET_BUFFER)?;
        let segments_max = state.max_gso_segments();
        Ok(Self { socket, state, segments_max })
    }

    /// The address it is bound to.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// How many datagrams of one train it sends at most.
    pub fn segments_max(&self) -> usize {
        self.segments_max
    }

    /// Receives a batch and calls `each` for every datagram in it. Returns false when nothing was there.
    pub fn receive(
        &self,
        buffers: &mut Buffers,
        mut each: impl FnMut(SocketAddr, Codepoint, &[u8]),
    ) -> io::Result<bool> {
        let Buffers { memory, meta } = buffers;
        let mut parts = memory.chunks_exact_mut(TRAIN_LEN_MAX);
        let mut slices: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or_default()));
        let received = match self.state.recv((&self.socket).into(), &mut slices, meta) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // An ICMP message about an earlier datagram; the proxy is a network and does not care.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(true),
            Err(error) => return Err(error),
        };
        for (meta, slice) in meta.iter().zip(&slices).take(received) {
            let train = slice.get(..meta.len).unwrap_or_default();
            for datagram in train.chunks(meta.stride.max(1)) {
                each(meta.addr, codepoint(meta.ecn), datagram);
            }
        }
        Ok(true)
    }

    /// Sends one train to `to`. What the system cannot take is lost, as on any network.
    pub fn send(&self, to: SocketAddr, ecn: Codepoint, train: &[u8], segment: usize) {
        let transmit = Transmit {
            destination: to,
            ecn: EcnCodepoint::from_bits(ecn as u8),
            contents: train,
            segment_size: (segment < train.len()).then_some(segment),
            src_ip: None,
        };
        // A full socket buffer and an unreachable peer both mean loss.
        let _ = self.state.try_send((&self.socket).into(), &transmit);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn codepoint(ecn: Option<EcnCodepoint>) -> Codepoint {
    match ecn {
        None => Codepoint::NotEct,
        Some(EcnCodepoint::Ect0) => Codepoint::Ect0,
        Some(EcnCodepoint::Ect1) => Codepoint::Ect1,
        Some(EcnCodepoint::Ce) => Codepoint::Ce,
    }
}
