//! The reactor: how fibers wait for the kernel.
//!
//! One interface, two back ends. With **`io_uring`** ([`Backend::Uring`]) reads and writes are given to the kernel as
//! operations with the fiber's own buffers; all that the fibers of a turn asked for goes down in one system call. What the
//! kernel's queue cannot take waits in an overflow queue, in order. A cancelled fiber asks the kernel to cancel its
//! operation and leaves only when the kernel says that it is done with the buffer: no buffer is freed while the kernel may
//! write to it. With **readiness** ([`Backend::Readiness`]: epoll, kqueue, IOCP, by the `polling` crate) operations are
//! tried and repeated when the descriptor is ready; files, which know no readiness, go to a few helper threads.
//!
//! Which one it is, is decided when the scheduler is made: [`ReactorConfig`].

#[cfg(unix)]
mod file;
mod net;
mod offload;
mod readiness;
#[cfg(target_os = "linux")]
mod uring;

#[cfg(unix)]
pub use file::File;
#[cfg(target_os = "linux")]
pub use file::OpenHow;
pub use net::{TcpListener, TcpStream, UdpSocket};
pub use offload::blocking;
#[cfg(target_os = "linux")]
pub use uring::RegisteredBuffer;

use crate::remote::Notifier;
use crate::sched::{Inner, SetupError};
use polling::AsSource;
use readiness::{Readiness, Watched};
use std::io;
use std::time::Duration;

/// Which kernel interface a scheduler uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// `io_uring` (Linux).
    Uring,
    /// epoll, kqueue or IOCP.
    Readiness,
}

/// Which reactor a scheduler has.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum ReactorConfig {
    /// None: batons, timers and other threads only.
    #[default]
    None,
    /// `io_uring` if the kernel lets this process use it, otherwise readiness, which is said in one warning.
    Auto(UringConfig),
    /// `io_uring` or no scheduler.
    Uring(UringConfig),
    /// Readiness.
    Readiness,
}

/// How a ring is set up.
#[derive(Clone, Debug)]
pub struct UringConfig {
    /// Entries of the submission queue; the kernel rounds up to a power of two. More operations wait in the overflow queue.
    pub entries: u32,
    /// A kernel thread looks for submissions, and sleeps after so long without any. It costs a core while it looks.
    pub sqpoll: Option<Duration>,
    /// Sockets and files that are registered with the ring, which saves the kernel a look-up per operation. Those beyond
    /// are used as they are. 0 registers none.
    pub files: u32,
    /// Registered buffers: how many, and of how many bytes. They count against `RLIMIT_MEMLOCK`; if it is too small, there
    /// are none and a warning says so.
    pub buffers: (u16, usize),
}

impl Default for UringConfig {
    fn default() -> UringConfig {
        UringConfig { entries: 256, sqpoll: None, files: 0, buffers: (0, 0) }
    }
}

/// The figures of a reactor.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ReactorStats {
    /// The kernel interface.
    pub backend: Backend,
    /// Operations given to the kernel, or waits for readiness.
    pub operations: u64,
    /// The most operations that waited in the overflow queue at once.
    pub overflow_max: usize,
    /// Sockets and files that are registered with the ring.
    pub registered_files: usize,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    Write,
}

pub(crate) enum Reactor {
    #[cfg(target_os = "linux")]
    Uring(Box<uring::Uring>),
    Readiness(Readiness),
}

impl Reactor {
    /// Makes the reactor that the configuration asks for.
    pub(crate) fn new(config: &ReactorConfig) -> Result<Option<Reactor>, SetupError> {
        #[cfg(target_os = "linux")]
        let uring = match config {
            ReactorConfig::Auto(uring) | ReactorConfig::Uring(uring) => Some(uring::Uring::new(uring)),
            ReactorConfig::None | ReactorConfig::Readiness => None,
        };
        #[cfg(not(target_os = "linux"))]
        let uring = match config {
            ReactorConfig::Uring(_) => return Err(SetupError::Reactor(io::ErrorKind::Unsupported.into())),
            _ => None::<io::Result<Reactor>>,
        };
        match (config, uring) {
            (ReactorConfig::None, _) => return Ok(None),
            #[cfg(target_os = "linux")]
            (_, Some(Ok(uring))) => return Ok(Some(Reactor::Uring(Box::new(uring)))),
            (ReactorConfig::Uring(_), Some(Err(error))) => return Err(SetupError::Reactor(error)),
            (_, Some(Err(error))) => {
                tracing::warn!("io_uring cannot be used here ({error}); fibers wait by readiness instead");
            }
            _ => {}
        }
        Readiness::new().map(|readiness| Some(Reactor::Readiness(readiness))).map_err(SetupError::Reactor)
    }

    /// How another thread ends the reactor's sleep.
    pub(crate) fn notifier(&self) -> Notifier {
        match self {
            #[cfg(target_os = "linux")]
            Reactor::Uring(uring) => uring.notifier(),
            Reactor::Readiness(readiness) => readiness.notifier(),
        }
    }

    /// Gives the kernel what was asked for and takes what is done, without sleeping.
    pub(crate) fn poll(&self) {
        match self {
            #[cfg(target_os = "linux")]
            Reactor::Uring(uring) => uring.poll(),
            Reactor::Readiness(readiness) => readiness.poll(Some(Duration::ZERO)),
        }
    }

    /// The same, sleeping until something is done, somebody rings, or the time is over.
    pub(crate) fn sleep(&self, at_most: Option<Duration>) {
        match self {
            #[cfg(target_os = "linux")]
            Reactor::Uring(uring) => uring.sleep(at_most),
            Reactor::Readiness(readiness) => readiness.poll(at_most),
        }
    }

    pub(crate) fn stats(&self) -> ReactorStats {
        match self {
            #[cfg(target_os = "linux")]
            Reactor::Uring(uring) => uring.stats(),
            Reactor::Readiness(readiness) => readiness.stats(),
        }
    }
}

/// Calls `f` with the reactor of this thread's scheduler. Fails if there is none.
pub(crate) fn with_reactor<R>(f: impl FnOnce(&Reactor) -> io::Result<R>) -> io::Result<R> {
    Inner::try_with(|inner| match inner.reactor() {
        Some(reactor) => f(reactor),
        None => Err(io::Error::new(io::ErrorKind::Unsupported, "this thread's fiber scheduler has no reactor")),
    })
    .unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::Unsupported, "this thread has no fiber scheduler")))
}

/// Tries `operation` until it does something else than block, parking the fiber until the socket is ready in between.
pub(crate) fn retry<S: AsSource, T>(
    socket: &Watched<S>,
    interest: Interest,
    mut operation: impl FnMut(&S) -> io::Result<T>,
) -> io::Result<T> {
    Inner::try_with(Inner::pace).unwrap_or(());
    loop {
        match operation(socket.socket()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_for_socket(socket, interest)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn wait_for_socket<S: AsSource>(socket: &Watched<S>, interest: Interest) -> io::Result<()> {
    with_reactor(|reactor| match reactor {
        #[cfg(target_os = "linux")]
        Reactor::Uring(uring) => uring.wait_for(socket.socket().source(), interest),
        Reactor::Readiness(readiness) => readiness.wait_for_socket(socket, interest),
    })
}

fn wait_for(source: &impl AsSource, interest: Interest) -> io::Result<()> {
    with_reactor(|reactor| match reactor {
        #[cfg(target_os = "linux")]
        Reactor::Uring(uring) => uring.wait_for(source.source(), interest),
        Reactor::Readiness(readiness) => readiness.wait_for(source, interest),
    })
}

/// Parks the fiber until a descriptor of any kind can be read from without blocking, or has an error or its end to tell.
/// A point of cancellation. For what the program or another library made; the types here do this themselves.
///
/// Fails if there is no reactor, or the kernel cannot wait for this kind of descriptor. A descriptor that is closed
/// meanwhile, behind the back of its borrow, need not end the wait: the kernel may keep the open file, or forget about it. With
/// readiness the wait fails with `EBADF` once somebody waits for the next owner of the descriptor's number.
pub fn readable(source: &impl AsSource) -> io::Result<()> {
    wait_for(source, Interest::Read)
}

/// The same for writing.
pub fn writable(source: &impl AsSource) -> io::Result<()> {
    wait_for(source, Interest::Write)
}
