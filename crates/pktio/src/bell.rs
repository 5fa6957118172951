//! Waking a worker that waits for the network.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Condvar, PoisonError};
use std::time::Duration;

use warpline_ring::{Lock, Notify};

/// The handle with which other threads end a worker's [`wait`](crate::Io::wait), or keep the next one from sleeping.
///
/// Ringing is one atomic operation while the worker runs; only for a sleeper there is a system call.
#[derive(Clone)]
pub struct Doorbell(Arc<warpline_ring::Doorbell<Waker>>);

impl Doorbell {
    /// Makes the worker look at its queues. What was queued before is visible to it then.
    pub fn ring(&self) {
        self.0.ring();
    }

    pub(crate) fn new(waker: Waker) -> Doorbell {
        Doorbell(Arc::new(warpline_ring::Doorbell::new(waker)))
    }

    pub(crate) fn inner(&self) -> &warpline_ring::Doorbell<Waker> {
        &self.0
    }
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doorbell").finish_non_exhaustive()
    }
}

/// How each backend is woken.
pub(crate) enum Waker {
    /// An eventfd that the worker polls beside its socket.
    #[cfg(target_os = "linux")]
    Event(std::os::fd::OwnedFd),
    /// An empty datagram to the worker's own socket, where there is nothing to poll several things with.
    Datagram { socket: UdpSocket, to: SocketAddr },
    /// A worker without a socket.
    Thread { woken: Lock<bool>, condvar: Condvar },
}

impl Notify for Waker {
    fn notify(&self) {
        match self {
            // It fails only if the counter is about to overflow, and then the eventfd is readable, which is the point.
            #[cfg(target_os = "linux")]
            Waker::Event(fd) => {
                let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
            }
            // It fails if the socket's buffer is full; what fills it wakes the worker as well.
            Waker::Datagram { socket, to } => drop(socket.send_to(&[], to)),
            Waker::Thread { woken, condvar } => {
                *woken.lock() = true;
                condvar.notify_one();
            }
        }
    }
}

impl Waker {
    #[cfg(target_os = "linux")]
    pub(crate) fn event() -> io::Result<Waker> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Waker::Event(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    /// Wakes the owner of `socket`. A wildcard address stands for all of the host's, so loopback reaches it.
    pub(crate) fn datagram(socket: &UdpSocket) -> io::Result<Waker> {
        let mut to = socket.local_addr()?;
        match to.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => to.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => to.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => (),
        }
        Ok(Waker::Datagram { socket: socket.try_clone()?, to })
    }

    pub(crate) fn thread() -> Waker {
        Waker::Thread { woken: Lock::new(false), condvar: Condvar::new() }
    }

    /// Sleeps until notified, for [`Waker::Thread`]; others have nothing to sleep on here and return at once.
    pub(crate) fn sleep(&self, timeout: Option<Duration>) {
        let Waker::Thread { woken, condvar } = self else { return };
        let guard = woken.lock();
        let mut guard = match timeout {
            Some(limit) => {
                condvar.wait_timeout_while(guard, limit, |woken| !*woken).unwrap_or_else(PoisonError::into_inner).0
            }
            None => condvar.wait_while(guard, |woken| !*woken).unwrap_or_else(PoisonError::into_inner),
        };
        *guard = false;
    }
}
