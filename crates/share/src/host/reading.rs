//! How files are read: several at once by `io_uring`, or one call after the other.
//!
//! Whatever serves wants is a program of fibers on a thread of its own ([`warpline_fiber`]). With `io_uring` a fiber that waits for the disk
//! lets the others go on, so files are opened and read ahead of their turn; without it each call holds the thread.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use warpline_fiber::reactor::{self, ReactorConfig, UringConfig};
use warpline_fiber::{Config, Scheduler, SetupError};

use crate::limits::{FILES_AHEAD, FILES_AHEAD_LEN};

/// How a host reads the files that receivers want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileIo {
    /// By `io_uring` where the kernel lets this process use it, otherwise plainly, which is said in one warning.
    #[default]
    Auto,
    /// By `io_uring`, several files at once, or not at all.
    Uring,
    /// By plain calls, one after the other.
    Plain,
}

/// How a host does read files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Several at once by `io_uring`.
    uring: bool,
    /// Why it is this way.
    reason: String,
}

impl Reading {
    /// Finds out what this process may use.
    pub(super) fn choose(wanted: FileIo) -> Result<Self, String> {
        let plain = |reason: String| Self { uring: false, reason };
        if wanted == FileIo::Plain {
            return Ok(plain("as asked for".into()));
        }
        // A thread has one scheduler at most, and this one may have one already.
        let tried = std::thread::spawn(|| Scheduler::new(config(true)).map(drop).map_err(|error| error.to_string()));
        match (tried.join().unwrap_or_else(|_| Err("the trial failed".into())), wanted) {
            (Ok(()), FileIo::Uring) => Ok(Self { uring: true, reason: "as asked for".into() }),
            (Ok(()), _) => Ok(Self { uring: true, reason: "io_uring works here".into() }),
            (Err(error), FileIo::Uring) => Err(error),
            (Err(error), _) => {
                tracing::warn!("io_uring cannot be used here ({error}); files are read one after the other");
                Ok(plain(error))
            }
        }
    }

    /// Whether it is by `io_uring`.
    pub(super) fn is_uring(&self) -> bool {
        self.uring
    }

    /// The name of it: `uring` or `plain`.
    pub fn name(&self) -> &'static str {
        if self.uring { "uring" } else { "plain" }
    }

    /// Why it is this way.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The scheduler of the calling thread. Should the ring fail that worked before (descriptors or memory may be used up), files are read
    /// plainly by this thread.
    pub(super) fn scheduler(&self) -> Result<Scheduler, SetupError> {
        Scheduler::new(config(self.uring)).or_else(|error| {
            tracing::warn!("{error}; files are read one after the other for this receiver");
            Scheduler::new(config(false))
        })
    }
}

fn config(uring: bool) -> Config {
    let reactor = if uring {
        let buffers = (FILES_AHEAD as u16, FILES_AHEAD_LEN);
        ReactorConfig::Uring(UringConfig { entries: 4 * FILES_AHEAD as u32, buffers, ..UringConfig::default() })
    } else {
        ReactorConfig::None
    };
    Config { reactor, fibers_max: 256, ..Config::default() }
}

/// A file that is open for reading.
#[derive(Debug)]
pub(super) enum Opened {
    /// Its reads are operations of the fiber's ring.
    Ring(reactor::File),
    /// Its reads are calls.
    Plain(File),
}

impl Opened {
    /// Reads at a position; may be short, 0 is the end.
    pub(super) fn read_at(&self, target: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Ring(file) => file.read_at(target, offset),
            Self::Plain(file) => again(|| file.read_at(target, offset)),
        }
    }
}

impl AsFd for Opened {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Ring(file) => file.as_std().as_fd(),
            Self::Plain(file) => file.as_fd(),
        }
    }
}

fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
