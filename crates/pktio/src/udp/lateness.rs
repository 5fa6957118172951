//! How long what arrives waits in a socket that is not emptied in time.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime};

use super::socket::{Bound, set_option};
use crate::limits::{LATE_LOOKS, TIMELY_LOOKS};

/// Looks that emptied the socket which one that did not outweighs.
const FULL_LOOK: u32 = 16;

/// Has the kernel note when messages arrive, as long as a worker does not keep up: it costs each packet some 50 ns, so that
/// who finds the socket empty now and then does without.
#[derive(Debug, Default)]
pub(crate) struct Lateness {
    /// What counts towards the other state: looks in a row that did not empty the socket, or those that did, less some for each that
    /// did not (a ring may have to be asked again although nothing is there).
    looks: u32,
    noting: bool,
    /// How long the oldest message of the last look had waited.
    waited: Option<Duration>,
}

impl Lateness {
    /// A look is over; `full` says that there may be more.
    #[inline]
    pub(crate) fn looked(&mut self, bound: &Bound, full: bool) {
        if full == self.noting {
            self.looks = if self.noting { self.looks.saturating_sub(FULL_LOOK) } else { 0 };
            return;
        }
        self.looks += 1;
        if self.looks >= if self.noting { TIMELY_LOOKS } else { LATE_LOOKS } {
            self.switch(bound);
        }
    }

    #[cold]
    fn switch(&mut self, bound: &Bound) {
        self.looks = 0;
        let on = libc::c_int::from(!self.noting);
        // Without times the worker's own estimate has to do.
        if set_option(bound.socket(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, on).is_ok() {
            self.noting = !self.noting;
        }
    }

    /// The first message of a look arrived at that time.
    #[inline]
    pub(crate) fn note(&mut self, arrived: Option<Duration>) {
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
        self.waited = arrived.and_then(|arrived| now()?.checked_sub(arrived));
    }

    pub(crate) fn waited(&self) -> Option<Duration> {
        self.waited
    }
}

/// What the kernel holds for a socket that nobody has received yet: bytes of its own memory, so never fewer than the bytes of
/// the messages.
pub(crate) fn waiting_bytes(bound: &Bound) -> io::Result<usize> {
    let mut info = [const { MaybeUninit::<u32>::uninit() }; MEMINFO_VARS];
    let mut len = size_of_val(&info) as libc::socklen_t;
    let fd = bound.socket().as_raw_fd();
    // SAFETY: the pointer leads to `len` bytes that may be written.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, info.as_mut_ptr().cast(), &raw mut len) };
    if result != 0 || (len as usize) < size_of::<u32>() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has written the first word, `SK_MEMINFO_RMEM_ALLOC`.
    Ok(unsafe { info[0].assume_init() } as usize)
}

/// Words of `SO_MEMINFO` (`SK_MEMINFO_VARS`).
const MEMINFO_VARS: usize = 9;
