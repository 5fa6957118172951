//! A UDP socket with everything that Linux offers to move many datagrams per system call.
//!
//! - Reception: `recvmmsg` into large frames with `UDP_GRO` (one message is a train of datagrams of one sender).
//! - Transmission: `sendmmsg` with `UDP_SEGMENT` (one message is a train). What does not go out stays queued.
//! - Each message carries its ECN codepoint and the local address, both ways.
//! - "Don't fragment" is set and the kernel's own path MTU estimate is ignored (`IP_PMTUDISC_PROBE`), as a protocol
//!   that searches the path MTU itself needs it (RFC 9000 §14).
//! - [Groups](crate::Io::bind_group) of sockets on one port, one per worker, with the kernel steering by connection ID.

pub(crate) mod address;
pub(crate) mod control;
mod group;
pub(crate) mod lateness;
pub(crate) mod probe;
mod receive;
pub(crate) mod socket;
mod steering;
pub(crate) mod transmit;

pub use group::{Export, Group, Neighbour};
pub(crate) use socket::set_option;
pub use steering::Steering;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use warpline_frame::Pages;

use crate::bell::{Doorbell, Waker};
use crate::config::IoConfig;
use crate::kind::IoKind;
use crate::limits::DEVICE_RETRY;
use crate::meta::{Received, TxMeta};
use crate::pools::Pools;
use crate::stats::{Stat, StatsHandle};
use crate::tx::TxQueue;

use lateness::waiting_bytes;
use receive::ReceiveRing;
use socket::Bound;
use transmit::{Blocked, Sender};

/// One worker's socket.
pub struct Udp {
    bound: Arc<Bound>,
    pools: Pools,
    receive: ReceiveRing,
    queue: TxQueue,
    sender: Sender,
    bell: Doorbell,
    busy_poll: Duration,
    stats: StatsHandle,
}

impl Udp {
    /// The backend on a bound socket, counting for a backend of the given kind.
    pub(crate) fn new(bound: Arc<Bound>, config: &IoConfig, kind: IoKind) -> io::Result<Udp> {
        let mut pools = Pools::new(config, 0)?;
        let stats = StatsHandle::new(kind).watching(pools.spill());
        let receive = ReceiveRing::new(&mut pools)?;
        let segments_max = if config.gso { probe::gso_segments_max() } else { 1 };
        Ok(Udp {
            sender: Sender::new(bound.family(), bound.is_wildcard(), segments_max),
            bound,
            pools,
            receive,
            queue: TxQueue::new(config.numa_node)?,
            bell: Doorbell::new(Waker::event()?),
            busy_poll: config.busy_poll,
            stats,
        })
    }

    /// Goes over to a socket of its own at another address; pools, queue and counters stay.
    pub(crate) fn rebind(&mut self, addr: SocketAddr, config: &IoConfig) -> io::Result<()> {
        self.go_over(Bound::new(addr, config, false)?);
        Ok(())
    }

    /// Uses another socket from now on.
    pub(crate) fn go_over(&mut self, bound: Bound) {
        self.sender = Sender::new(bound.family(), bound.is_wildcard(), self.sender.segments_max());
        self.bound = Arc::new(bound);
    }

    pub(crate) fn recv(&mut self, out: &mut Vec<Received>) -> io::Result<usize> {
        self.receive.recv(&self.bound, &mut self.pools, out, &self.stats)
    }

    /// See [`Io::waited`](crate::Io::waited).
    pub(crate) fn waited(&self) -> Option<Duration> {
        self.receive.waited()
    }

    /// See [`Io::waiting_bytes`](crate::Io::waiting_bytes).
    pub(crate) fn waiting_bytes(&self) -> Option<usize> {
        waiting_bytes(&self.bound).ok()
    }

    pub(crate) fn taken_bytes(&self) -> u64 {
        self.receive.taken_bytes()
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

    /// Whether what is queued waits for room.
    pub(crate) fn tx_blocked(&self) -> bool {
        self.sender.blocked() != Blocked::No
    }

    pub(crate) fn tx_pending(&self) -> usize {
        self.queue.pending().len()
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.sender.flush(&mut self.queue, &self.stats, |batch| transmit::sendmmsg(self.bound.socket(), batch))
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let bell = self.bell.clone();
        if bell.inner().take() {
            return Ok(());
        }
        let busy = timeout.map_or(self.busy_poll, |limit| limit.min(self.busy_poll));
        if !busy.is_zero() {
            let start = Instant::now();
            while start.elapsed() < busy {
                if bell.inner().take() || self.poll(Some(Duration::ZERO))? {
                    return Ok(());
                }
                std::hint::spin_loop();
            }
        }
        let timeout = timeout.map(|limit| limit.saturating_sub(busy));
        if timeout == Some(Duration::ZERO) || !bell.inner().prepare_sleep() {
            return Ok(());
        }
        let result = self.poll(timeout);
        bell.inner().wake();
        result.map(drop)
    }

    /// What to wait for on the socket, and for how long at most if nothing announces the end of a blockade.
    pub(crate) fn interest(&self, at_most: &mut impl FnMut(Duration)) -> PollFlags {
        match self.sender.blocked() {
            Blocked::No => PollFlags::IN,
            Blocked::Socket => PollFlags::IN | PollFlags::OUT,
            Blocked::Device => {
                at_most(DEVICE_RETRY);
                PollFlags::IN
            }
        }
    }

    /// Waits for the socket or the eventfd; whether there was something.
    fn poll(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let mut timeout = timeout;
        let interest = self.interest(&mut |most| timeout = Some(timeout.map_or(most, |limit| limit.min(most))));
        let timeout = timeout.map(|limit| Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let Waker::Event(event) = self.bell.inner().notifier() else { return Ok(true) };
        let mut fds = [PollFd::new(self.bound.socket(), interest), PollFd::new(event, PollFlags::IN)];
        self.stats.add(Stat::WaitCalls, 1);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(ready) => {
                if fds[1].revents().contains(PollFlags::IN) {
                    clear(event);
                }
                Ok(ready > 0)
            }
            // A signal handler ran: the caller looks around and waits again.
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn doorbell(&self) -> Doorbell {
        self.bell.clone()
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.bound.local_addr()
    }

    pub(crate) fn stats(&self) -> StatsHandle {
        self.stats.clone()
    }

    pub(crate) fn gso_segments_max(&self) -> usize {
        self.sender.segments_max()
    }

    pub(crate) fn gro(&self) -> bool {
        self.bound.gro()
    }

    pub(crate) fn socket_buffers(&self) -> (usize, usize) {
        self.bound.buffers()
    }

    pub(crate) fn pages(&self) -> Pages {
        self.pools.pages()
    }
}

impl AsFd for Udp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bound.socket().as_fd()
    }
}

/// Makes the eventfd unreadable again. It cannot fail but by being so already.
pub(crate) fn clear(event: &OwnedFd) {
    let _ = rustix::io::read(event.as_fd(), &mut [0; 8]);
}
