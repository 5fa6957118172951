//! The plain backend: a standard socket, one datagram per system call. For systems without anything better.
//!
//! It neither sees nor sets ECN codepoints and local addresses ([`Received::local`] is the bound address, if that is
//! not a wildcard), and path MTU discovery is up to the system.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use warpline_frame::{Frame, Pages};

use crate::bell::{Doorbell, Waker};
use crate::config::IoConfig;
use crate::kind::IoKind;
use crate::limits::RECV_BATCH;
use crate::meta::{Received, TxMeta};
use crate::pools::{Arrival, Pools};
use crate::stats::{Stat, StatsHandle};
use crate::tx::TxQueue;

/// While trains wait for room: nothing announces it, so the next attempt is after this time.
const SEND_RETRY: Duration = Duration::from_millis(1);

/// One worker's socket.
pub struct Portable {
    socket: UdpSocket,
    addr: SocketAddr,
    pools: Pools,
    slot: Frame,
    queue: TxQueue,
    bell: Doorbell,
    stats: StatsHandle,
}

impl Portable {
    pub(crate) fn bind(addr: SocketAddr, config: &IoConfig) -> io::Result<Portable> {
        let socket = UdpSocket::bind(addr)?;
        socket.set_nonblocking(true)?;
        let mut pools = Pools::new(config, 0)?;
        let stats = StatsHandle::new(IoKind::Portable).watching(pools.spill());
        Ok(Portable {
            addr: socket.local_addr()?,
            slot: pools.take_large().ok_or(ErrorKind::OutOfMemory)?,
            pools,
            queue: TxQueue::new(config.numa_node)?,
            bell: Doorbell::new(Waker::datagram(&socket)?),
            socket,
            stats,
        })
    }

    pub(crate) fn recv(&mut self, out: &mut Vec<Received>) -> io::Result<usize> {
        out.clear();
        let local = Some(self.addr.ip()).filter(|ip| !ip.is_unspecified());
        for _ in 0..RECV_BATCH {
            self.stats.add(Stat::RecvCalls, 1);
            match self.socket.recv_from(&mut self.slot) {
                // Empty: the doorbell, or nothing worth a look.
                Ok((0, _)) => (),
                Ok((len, remote)) => {
                    let arrival = Arrival { len, segment_size: len, remote: canonical(remote), local, ecn: None };
                    self.pools.deliver(&mut self.slot, arrival, out, &self.stats);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if is_about_one_datagram(&error) => (),
                Err(error) => return Err(error),
            }
        }
        Ok(out.len())
    }

    pub(crate) fn tx_buffer(&mut self) -> Option<&mut [u8]> {
        if self.queue.buffer().is_none() && self.flush().is_err() {
            // The caller's own flush meets the same error and reports it.
            return None;
        }
        self.queue.buffer()
    }

    pub(crate) fn tx_commit(&mut self, meta: TxMeta) {
        self.queue.commit(meta);
    }

    pub(crate) fn tx_pending(&self) -> usize {
        self.queue.pending().len()
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while let Some(train) = self.queue.pending().first() {
            let len = train.part(train.sent, 1);
            let bytes = self.queue.bytes(train, train.sent, len);
            self.stats.add(Stat::SendCalls, 1);
            match self.socket.send_to(bytes, for_socket(self.addr, train.meta.remote)) {
                Ok(_) => {
                    self.stats.add(Stat::TxTrains, 1);
                    self.stats.add(Stat::TxDatagrams, 1);
                    self.stats.add(Stat::TxBytes, len);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stats.add(Stat::TxBlocked, 1);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // What the network refuses is lost, as on the network.
                Err(_) => self.stats.add(Stat::DropTxRefused, 1),
            }
            self.queue.advance(len);
        }
        Ok(())
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout =
            if self.queue.is_empty() { timeout } else { Some(timeout.map_or(SEND_RETRY, |t| t.min(SEND_RETRY))) };
        let bell = self.bell.clone();
        if bell.inner().take() || timeout == Some(Duration::ZERO) || !bell.inner().prepare_sleep() {
            return Ok(());
        }
        let result = self.sleep(timeout);
        bell.inner().wake();
        result
    }

    /// Blocks until there is a datagram. There is no portable way to wait for two things, so the doorbell sends one.
    fn sleep(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(timeout)?;
        self.socket.set_nonblocking(false)?;
        self.stats.add(Stat::WaitCalls, 1);
        // An error is a time-out, or belongs to the datagram, which the next reception meets again.
        drop(self.socket.peek_from(&mut [0; 1]));
        self.socket.set_nonblocking(true)
    }

    pub(crate) fn doorbell(&self) -> Doorbell {
        self.bell.clone()
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn stats(&self) -> StatsHandle {
        self.stats.clone()
    }

    pub(crate) fn pages(&self) -> Pages {
        self.pools.pages()
    }
}

/// Errors of a receive call that concern one datagram, earlier or present: an ICMP error (Windows reports it as a
/// reset), a datagram larger than the buffer.
fn is_about_one_datagram(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Interrupted
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    ) || (cfg!(windows) && error.raw_os_error() == Some(10_040))
}

/// IPv4 as such even if it came through an IPv6 socket.
fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => SocketAddr::new(ip.into(), v6.port()),
            None => addr,
        },
        SocketAddr::V4(_) => addr,
    }
}

/// The reverse, for an IPv6 socket.
fn for_socket(socket: SocketAddr, addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(v4) if socket.is_ipv6() => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        _ => addr,
    }
}
