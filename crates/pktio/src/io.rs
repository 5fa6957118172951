//! The one type that the engine sees.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use warpline_frame::Pages;

use crate::bell::Doorbell;
use crate::config::IoConfig;
use crate::kind::IoKind;
use crate::memory::Port;
use crate::meta::{Received, TxMeta};
use crate::portable::Portable;
use crate::select::Choice;
use crate::stats::StatsHandle;
#[cfg(target_os = "linux")]
use crate::udp::{Steering, Udp};
#[cfg(target_os = "linux")]
use crate::uring::Uring;
use crate::xdp::XdpStatus;
#[cfg(target_os = "linux")]
use crate::xdp::{Xdp, XdpConfig};

/// One worker's end of the network. A closed set of backends: the branch is predicted, and there is no indirect call.
pub enum Io {
    /// An io_uring on a Linux UDP socket with GSO and GRO.
    #[cfg(target_os = "linux")]
    Uring(Box<Uring>),
    /// A Linux UDP socket with GSO and GRO.
    #[cfg(target_os = "linux")]
    Udp(Box<Udp>),
    /// AF_XDP queues of an interface.
    #[cfg(target_os = "linux")]
    Xdp(Box<Xdp>),
    /// A plain UDP socket.
    Portable(Box<Portable>),
    /// Queues in the process.
    Memory(Port),
}

/// The same call on whichever backend there is.
macro_rules! on {
    ($self:expr, $io:ident => $call:expr) => {
        match $self {
            #[cfg(target_os = "linux")]
            Io::Uring($io) => $call,
            #[cfg(target_os = "linux")]
            Io::Udp($io) => $call,
            #[cfg(target_os = "linux")]
            Io::Xdp($io) => $call,
            Io::Portable($io) => $call,
            Io::Memory($io) => $call,
        }
    };
}

impl Io {
    /// The backend that [`IoConfig::backend`] names, or the fastest that works, at `addr`; [`choice`](Self::choice) tells
    /// which. `[::]` is dual-stack.
    ///
    /// Fails as binding does, or if the backend that was named does not work, saying why.
    pub fn bind(addr: SocketAddr, config: &IoConfig) -> io::Result<Io> {
        #[cfg(target_os = "linux")]
        return crate::select::open_group(addr, 1, config, None)?
            .pop()
            .ok_or_else(|| io::ErrorKind::Unsupported.into());
        #[cfg(not(target_os = "linux"))]
        crate::select::check(config).and_then(|()| Io::portable(addr, config))
    }

    /// One socket per worker on the same port, in the order of the workers; the kernel steers by connection ID. Open
    /// and close a group as a whole. All have the same backend. Fails as [`bind`](Self::bind).
    #[cfg(target_os = "linux")]
    pub fn bind_group(addr: SocketAddr, workers: u16, config: &IoConfig, steering: &Steering) -> io::Result<Vec<Io>> {
        crate::select::open_group(addr, workers, config, Some(steering))
    }

    /// AF_XDP queues of an interface, in the order of the workers, each with a UDP socket of the kernel's on the same
    /// port beside it. Open and close a group as a whole. Fails if the interface, the kernel or the privileges do not
    /// suffice, and says which.
    #[cfg(target_os = "linux")]
    pub fn xdp_group(
        addr: SocketAddr,
        workers: u16,
        config: &IoConfig,
        xdp: XdpConfig,
        steering: &Steering,
    ) -> io::Result<Vec<Io>> {
        crate::select::queues(addr, workers, config, xdp, steering, false)
    }

    /// How AF_XDP uses its interface now; `None` for other backends.
    pub fn xdp_status(&self) -> Option<XdpStatus> {
        self.stats().xdp_status()
    }

    /// A plain UDP socket. Fails as binding does.
    pub fn portable(addr: SocketAddr, config: &IoConfig) -> io::Result<Io> {
        Portable::bind(addr, config).map(|portable| Io::Portable(Box::new(portable)))
    }

    /// Goes over to a new socket at `addr`; the old one is closed, and what waits to be sent leaves by the new one. Fails as
    /// binding does, and with `Unsupported` where the back end's socket cannot be replaced; the old one stays in use then.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(unused_variables, reason = "only these back ends replace their socket")
    )]
    pub fn rebind(&mut self, addr: SocketAddr, config: &IoConfig) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Io::Uring(uring) => uring.rebind(addr, config),
            #[cfg(target_os = "linux")]
            Io::Udp(udp) => udp.rebind(addr, config),
            #[cfg(target_os = "linux")]
            Io::Xdp(xdp) => xdp.rebind(addr, config),
            _ => Err(io::Error::new(io::ErrorKind::Unsupported, "this back end keeps its socket")),
        }
    }

    /// Replaces the content of `out` by what has arrived: at most [`RECV_BATCH`](crate::limits::RECV_BATCH) messages
    /// (each may become several trains if memory is short). Never blocks; 0 if there is nothing. Fails only if the
    /// socket is unusable.
    pub fn recv(&mut self, out: &mut Vec<Received>) -> io::Result<usize> {
        on!(self, io => io.recv(out))
    }

    /// How long the oldest message of the last [`recv`](Self::recv) had waited in the socket, by the kernel's clock. `None` unless the
    /// last looks have all found more than they took ([`LATE_LOOKS`](crate::limits::LATE_LOOKS)), and on AF_XDP, whose rings have no
    /// times but [tell how much waits](Self::left_behind).
    pub fn waited(&self) -> Option<Duration> {
        match self {
            #[cfg(target_os = "linux")]
            Io::Uring(uring) => uring.waited(),
            #[cfg(target_os = "linux")]
            Io::Udp(udp) => udp.waited(),
            _ => None,
        }
    }

    /// What has arrived and was not received yet takes at most so many bytes: once [`taken_bytes`](Self::taken_bytes) has grown by as
    /// many, all of it has been received. `None` where only a look in vain tells. On AF_XDP it is about the kernel's socket beside the
    /// queues only: what a queue brings arrives here whatever steers the others.
    pub fn waiting_bytes(&mut self) -> Option<usize> {
        match self {
            #[cfg(target_os = "linux")]
            Io::Uring(uring) => uring.waiting_bytes(),
            #[cfg(target_os = "linux")]
            Io::Udp(udp) => udp.waiting_bytes(),
            #[cfg(target_os = "linux")]
            Io::Xdp(xdp) => xdp.waiting_bytes(),
            Io::Portable(_) => None,
            Io::Memory(port) => Some(port.waiting_bytes()),
        }
    }

    /// The bytes that [`recv`](Self::recv) has taken out so far, those of dropped messages included. Each message counts
    /// [`MESSAGE_COST_MIN`](crate::limits::MESSAGE_COST_MIN) at least, so that messages without content count as well. Not counted
    /// where [`waiting_bytes`](Self::waiting_bytes) does not tell.
    pub fn taken_bytes(&self) -> u64 {
        match self {
            #[cfg(target_os = "linux")]
            Io::Uring(uring) => uring.taken_bytes(),
            #[cfg(target_os = "linux")]
            Io::Udp(udp) => udp.taken_bytes(),
            #[cfg(target_os = "linux")]
            Io::Xdp(xdp) => xdp.taken_bytes(),
            Io::Portable(_) => 0,
            Io::Memory(port) => port.taken_bytes(),
        }
    }

    /// How many packets the last [`recv`](Self::recv) has left, where rings tell: on AF_XDP. `None` for sockets, which note
    /// [times](Self::waited) instead.
    pub fn left_behind(&self) -> Option<usize> {
        match self {
            #[cfg(target_os = "linux")]
            Io::Xdp(xdp) => Some(xdp.left_behind()),
            _ => None,
        }
    }

    /// A buffer to build a train in, aligned to 64 bytes; its content is unspecified. It has
    /// [`TRAIN_BYTES_MAX`](crate::limits::TRAIN_BYTES_MAX) bytes, or what one packet of the interface can carry where
    /// packets are built one by one (AF_XDP). Sends what is queued if there is no room otherwise; `None` if that did not help:
    /// [`wait`](Self::wait), then go on.
    pub fn tx_buffer(&mut self) -> Option<&mut [u8]> {
        on!(self, io => io.tx_buffer())
    }

    /// Queues the train that was built in the last buffer. It leaves with the next [`flush`](Self::flush).
    ///
    /// # Panics
    /// If there is no buffer, or the lengths are not as [`TxMeta`] demands.
    pub fn tx_commit(&mut self, meta: TxMeta) {
        on!(self, io => io.tx_commit(meta));
    }

    /// Whether the next [`tx_buffer`](Self::tx_buffer) would have to send first what had better go out together with the
    /// next [`recv`](Self::recv): time to end the turn. Never where a turn is several system calls anyway.
    pub fn tx_should_pause(&mut self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Io::Uring(uring) => uring.tx_should_pause(),
            _ => false,
        }
    }

    /// Whether what is queued waits for room: then [`wait`](Self::wait) ends when there may be.
    pub fn tx_blocked(&self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Io::Uring(uring) => uring.tx_blocked(),
            #[cfg(target_os = "linux")]
            Io::Udp(udp) => udp.tx_blocked(),
            #[cfg(target_os = "linux")]
            Io::Xdp(xdp) => xdp.tx_blocked(),
            Io::Portable(portable) => portable.tx_pending() > 0,
            Io::Memory(_) => false,
        }
    }

    /// As [`flush`](Self::flush), but what is queued may leave as late as with the next [`recv`](Self::recv) or a
    /// [`wait`](Self::wait) that sleeps: an io_uring then needs no system call of its own for it, and on AF_XDP what a few small
    /// batches of received packets lead to leaves together while more of them are there.
    pub fn flush_soon(&mut self) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Io::Uring(uring) => uring.flush_soon(),
            #[cfg(target_os = "linux")]
            Io::Xdp(xdp) => xdp.flush_soon(),
            _ => self.flush(),
        }
    }

    /// Whether it is known without a system call that nothing has arrived, so that a worker may go on to
    /// [`wait`](Self::wait) instead of looking again. `false` where a look is what it takes to know.
    pub fn is_drained(&mut self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Io::Uring(uring) => uring.is_drained(),
            #[cfg(target_os = "linux")]
            Io::Xdp(xdp) => xdp.is_drained(),
            _ => false,
        }
    }

    /// Sends what is queued. `Ok` with [`tx_pending`](Self::tx_pending) above 0 means that there was no room: the
    /// trains are kept, `wait` ends when there may be, and the next flush continues. What the network refuses is
    /// dropped and counted. Fails only if the socket is unusable.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Io::Uring(uring) => uring.flush(),
            #[cfg(target_os = "linux")]
            Io::Udp(udp) => udp.flush(),
            #[cfg(target_os = "linux")]
            Io::Xdp(xdp) => xdp.flush(),
            Io::Portable(portable) => portable.flush(),
            Io::Memory(port) => {
                port.flush();
                Ok(())
            }
        }
    }

    /// How many trains are queued.
    pub fn tx_pending(&self) -> usize {
        match self {
            #[cfg(target_os = "linux")]
            Io::Uring(uring) => uring.tx_pending(),
            #[cfg(target_os = "linux")]
            Io::Udp(udp) => udp.tx_pending(),
            #[cfg(target_os = "linux")]
            Io::Xdp(xdp) => xdp.tx_pending(),
            Io::Portable(portable) => portable.tx_pending(),
            // A port's flush sends everything.
            Io::Memory(_) => 0,
        }
    }

    /// Returns when there is something to receive, room for what could not be sent, the doorbell was rung (since the
    /// last wait), or the time is over; sometimes without any of these. `None` has no limit. Polls for
    /// [`busy_poll`](IoConfig::busy_poll) before it sleeps.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Io::Uring(uring) => uring.wait(timeout),
            #[cfg(target_os = "linux")]
            Io::Udp(udp) => udp.wait(timeout),
            #[cfg(target_os = "linux")]
            Io::Xdp(xdp) => xdp.wait(timeout),
            Io::Portable(portable) => portable.wait(timeout),
            Io::Memory(port) => {
                port.wait(timeout);
                Ok(())
            }
        }
    }

    /// The handle that ends a wait from another thread.
    pub fn doorbell(&self) -> Doorbell {
        on!(self, io => io.doorbell())
    }

    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        on!(self, io => io.local_addr())
    }

    /// The counters, for any thread.
    pub fn stats(&self) -> StatsHandle {
        on!(self, io => io.stats())
    }

    /// Which backend it is.
    pub fn kind(&self) -> IoKind {
        match self {
            #[cfg(target_os = "linux")]
            Io::Uring(_) => IoKind::Uring,
            #[cfg(target_os = "linux")]
            Io::Udp(_) => IoKind::Udp,
            #[cfg(target_os = "linux")]
            Io::Xdp(_) => IoKind::Xdp,
            Io::Portable(_) => IoKind::Portable,
            Io::Memory(_) => IoKind::Memory,
        }
    }

    /// Which backend it is, and why no faster one.
    pub fn choice(&self) -> Choice {
        self.stats().choice()
    }

    /// How many datagrams of a train leave in one message: 1 without GSO. Falls to 1 if the system turns out to
    /// refuse trains. Longer trains are cut.
    pub fn gso_segments_max(&self) -> usize {
        match self {
            #[cfg(target_os = "linux")]
            Io::Uring(uring) => uring.gso_segments_max(),
            #[cfg(target_os = "linux")]
            Io::Udp(udp) => udp.gso_segments_max(),
            #[cfg(target_os = "linux")]
            Io::Xdp(_) => 1,
            Io::Portable(_) => 1,
            Io::Memory(_) => crate::limits::GSO_SEGMENTS_NEW,
        }
    }

    /// Whether datagrams arrive as trains.
    pub fn gro(&self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Io::Uring(uring) => uring.gro(),
            #[cfg(target_os = "linux")]
            Io::Udp(udp) => udp.gro(),
            #[cfg(target_os = "linux")]
            Io::Xdp(_) => false,
            Io::Portable(_) => false,
            Io::Memory(_) => true,
        }
    }

    /// The granted socket buffers (receive, send) in bytes as the system accounts them; `None` if it does not say.
    pub fn socket_buffers(&self) -> Option<(usize, usize)> {
        match self {
            #[cfg(target_os = "linux")]
            Io::Uring(uring) => Some(uring.socket_buffers()),
            #[cfg(target_os = "linux")]
            Io::Udp(udp) => Some(udp.socket_buffers()),
            #[cfg(target_os = "linux")]
            Io::Xdp(_) => None,
            Io::Portable(_) | Io::Memory(_) => None,
        }
    }

    /// What kind of pages the receive memory is on; `None` if frames come from the heap.
    pub fn pages(&self) -> Option<Pages> {
        match self {
            #[cfg(target_os = "linux")]
            Io::Uring(uring) => Some(uring.pages()),
            #[cfg(target_os = "linux")]
            Io::Udp(udp) => Some(udp.pages()),
            #[cfg(target_os = "linux")]
            Io::Xdp(xdp) => Some(xdp.pages()),
            Io::Portable(portable) => Some(portable.pages()),
            Io::Memory(_) => None,
        }
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("kind", &self.kind()).field("local_addr", &self.local_addr()).finish_non_exhaustive()
    }
}
