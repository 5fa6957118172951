//! One AF_XDP socket: memory, rings, mode, and the system calls that wake the kernel.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use super::checksums::Offload;
use super::rings::{Consumer, Producer};
use super::umem::Umem;
use crate::limits::{XDP_BIND_RETRIES, XDP_RING_LEN};
use crate::udp::set_option;

/// Between attempts at a queue or at memory that the last socket has not left yet; that takes it 16 to 24 ms.
const BIND_RETRY: Duration = Duration::from_millis(5);

/// `XDP_MAX_TX_SKB_BUDGET` (Linux 6.17): packets per send call in copy mode, 32 by default.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// One queue's socket.
pub(super) struct Socket {
    fd: OwnedFd,
    pub(super) fill: Producer<u64>,
    pub(super) rx: Consumer<libc::xdp_desc>,
    pub(super) tx: Producer<libc::xdp_desc>,
    pub(super) completion: Consumer<u64>,
    zero_copy: bool,
    /// Whether packets may be given away with their checksums unfinished.
    finishes_checksums: bool,
}

/// How to bind.
#[derive(Debug, Clone, Copy)]
pub(super) struct BindTo {
    pub(super) ifindex: u32,
    pub(super) queue: u32,
    pub(super) zero_copy: bool,
    /// Packets may span several frames.
    pub(super) multi_buffer: bool,
    /// Who computes checksums; ourselves in any case before Linux 6.8.
    pub(super) checksums: Offload,
}

impl Socket {
    /// Makes a socket on the memory, and binds it. Fails as socket(2), setsockopt(2) and bind(2) do; `EOPNOTSUPP` means
    /// that the device lacks the mode.
    pub(super) fn new(umem: &Umem, to: BindTo) -> io::Result<Socket> {
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(explain_socket(io::Error::last_os_error()));
        }
        // SAFETY: the call made this descriptor, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let register = |checksums| set_option(&fd, libc::SOL_XDP, libc::XDP_UMEM_REG, umem.registration(checksums));
        let registered = match register(to.checksums) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && to.checksums != Offload::Own => {
                register(Offload::Own).map(|()| Offload::Own)
            }
            result => result.map(|()| to.checksums),
        };
        let finishes_checksums = registered.map_err(explain_memory)? != Offload::Own;
        for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING, libc::XDP_TX_RING] {
            set_option(&fd, libc::SOL_XDP, ring, XDP_RING_LEN)?;
        }
        let offsets: libc::xdp_mmap_offsets = get_option(&fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS)?;
        let place = |offset: libc::off_t| u64::try_from(offset).expect("the kernel's offsets are positive");
        let socket = Socket {
            fill: Producer::map(&fd, offsets.fr, libc::XDP_UMEM_PGOFF_FILL_RING, XDP_RING_LEN)?,
            rx: Consumer::map(&fd, offsets.rx, place(libc::XDP_PGOFF_RX_RING), XDP_RING_LEN)?,
            tx: Producer::map(&fd, offsets.tx, place(libc::XDP_PGOFF_TX_RING), XDP_RING_LEN)?,
            completion: Consumer::map(&fd, offsets.cr, libc::XDP_UMEM_PGOFF_COMPLETION_RING, XDP_RING_LEN)?,
            zero_copy: to.zero_copy,
            finishes_checksums,
            fd,
        };
        socket.bind(to)?;
        // Longer batches per call; older kernels keep theirs.
        let _ = set_option(&socket.fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, XDP_RING_LEN / 2);
        Ok(socket)
    }

    fn bind(&self, to: BindTo) -> io::Result<()> {
        let mode = if to.zero_copy { libc::XDP_ZEROCOPY } else { libc::XDP_COPY };
        let several = if to.multi_buffer { libc::XDP_USE_SG } else { 0 };
        let name = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: mode | several | libc::XDP_USE_NEED_WAKEUP,
            sxdp_ifindex: to.ifindex,
            sxdp_queue_id: to.queue,
            sxdp_shared_umem_fd: 0,
        };
        let len = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
        until_released(
            |error| error.raw_os_error() == Some(libc::EBUSY),
            || {
                // SAFETY: the name is a `sockaddr_xdp` of that length.
                let result = unsafe { libc::bind(self.fd.as_raw_fd(), std::ptr::from_ref(&name).cast(), len) };
                if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
            },
        )
    }

    pub(super) fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Whether packets may be given away with their checksums unfinished.
    pub(super) fn finishes_checksums(&self) -> bool {
        self.finishes_checksums
    }

    /// Has system calls on this socket run the device's queue (`SO_PREFER_BUSY_POLL`, Linux 5.11), `budget` packets at a
    /// time and for `micros` at most. Fails as setsockopt(2) does.
    pub(super) fn prefer_busy_poll(&self, micros: u32, budget: u32) -> io::Result<()> {
        let set = |option, value: u32| set_option(&self.fd, libc::SOL_SOCKET, option, value);
        set(libc::SO_PREFER_BUSY_POLL, 1)?;
        set(libc::SO_BUSY_POLL, micros)?;
        set(libc::SO_BUSY_POLL_BUDGET, budget)
    }

    /// Whether the kernel knows by which NAPI the queue is run, without which polling busily does nothing. Since Linux 6.14 it
    /// asks the driver when the socket is bound; before, the first packet told it.
    pub(super) fn can_poll_busily(&self) -> bool {
        get_option::<u32>(&self.fd, libc::SOL_SOCKET, libc::SO_INCOMING_NAPI_ID).is_ok_and(|id| id != 0)
    }

    /// Tells the kernel of what is in the TX ring. `EAGAIN` means that it did a part.
    pub(super) fn wake_tx(&self) -> io::Result<()> {
        // SAFETY: nothing is sent but the wake-up.
        let result =
            unsafe { libc::sendto(self.fd.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Tells the kernel of what is in the fill ring, and lets it run the queue when it polls busily.
    pub(super) fn wake_rx(&self) -> io::Result<()> {
        let (fd, null) = (self.fd.as_raw_fd(), std::ptr::null_mut());
        // SAFETY: nothing is received but the wake-up.
        let result =
            unsafe { libc::recvfrom(fd, null, 0, libc::MSG_DONTWAIT, std::ptr::null_mut(), std::ptr::null_mut()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// What the kernel counted.
    pub(super) fn statistics(&self) -> io::Result<libc::xdp_statistics> {
        get_option(&self.fd, libc::SOL_XDP, libc::XDP_STATISTICS)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A structure of integers.
///
/// # Safety
/// Any bits are a value of the type.
unsafe trait Plain: Copy {}

// SAFETY: integers.
unsafe impl Plain for libc::xdp_mmap_offsets {}
// SAFETY: integers.
unsafe impl Plain for libc::xdp_statistics {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}

/// Reads a socket option, of at most the structure's length; what the kernel leaves out is 0.
fn get_option<T: Plain>(fd: &OwnedFd, level: libc::c_int, option: libc::c_int) -> io::Result<T> {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is writable for `len` bytes.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &mut len) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: any bits are a value, and all are initialized.
    Ok(unsafe { value.assume_init() })
}

/// Tries again while what fails does so because the kernel has not let go of the last socket.
pub(super) fn until_released<T>(
    is_held: impl Fn(&io::Error) -> bool,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    for _ in 0..XDP_BIND_RETRIES {
        match attempt() {
            Err(error) if is_held(&error) => thread::sleep(BIND_RETRY),
            result => return result,
        }
    }
    attempt()
}

fn explain_socket(error: io::Error) -> io::Error {
    let what = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "an AF_XDP socket needs the capability CAP_NET_RAW",
        Some(libc::EAFNOSUPPORT) => "this kernel was built without AF_XDP (CONFIG_XDP_SOCKETS), or a filter hides it",
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn explain_memory(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOBUFS) => {
            let what = "the packet memory exceeds the limit of locked memory: raise it (`ulimit -l`, LimitMEMLOCK=) or \
                        give the capability CAP_IPC_LOCK";
            io::Error::new(io::ErrorKind::OutOfMemory, what)
        }
        _ => error,
    }
}
