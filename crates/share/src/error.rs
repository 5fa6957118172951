//! What can go wrong: the other side's doing, the caller's, the machine's.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

/// An error of a transfer: what happened, to which file, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The code's secret was refused, or the host could not prove that it knows it.
    #[error("the other side does not know this code's secret: ask for a fresh code from the host")]
    WrongSecret,
    /// The other side speaks another version of the protocol.
    #[error(
        "the other side speaks version {theirs} of the share protocol, this one speaks {ours}: update the older one"
    )]
    Version {
        /// The other side's.
        theirs: u32,
        /// This side's.
        ours: u32,
    },
    /// The other side sent what no honest one sends; nothing was written outside the target.
    #[error("the other side misbehaves: {0}")]
    Peer(String),
    /// The other side refuses or has failed, in its own words.
    #[error("the host says: {0}")]
    Remote(String),
    /// A path that was asked for cannot be shared or received into.
    #[error("{path}: {what}")]
    Misuse {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The same range was wrong again and again.
    #[error("{path}: bytes {start} to {end} came wrong {tries} times; the host's disk or memory may be faulty")]
    Corrupt {
        /// The file.
        path: String,
        /// First byte.
        start: u64,
        /// Byte after the last.
        end: u64,
        /// How often it was fetched.
        tries: u32,
    },
    /// The disk is full; what arrived is kept.
    #[error("{path}: the disk is full; make room and run the same command again, what arrived is kept")]
    DiskFull {
        /// The file.
        path: String,
    },
    /// The system refused something.
    #[error("{path}: {doing}: {error}")]
    Io {
        /// The file.
        path: String,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The connection ended; what arrived is kept.
    #[error("the connection ended: {0}; run the same command again, what arrived is kept")]
    Connection(String),
}

impl ShareError {
    /// An error of the system at `path`.
    pub(crate) fn io(path: impl Display, doing: &'static str, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        let path = path.to_string();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { path, doing, error },
        }
    }

    pub(crate) fn peer(what: impl Into<String>) -> Self {
        Self::Peer(what.into())
    }

    pub(crate) fn connection(what: impl Display) -> Self {
        Self::Connection(what.to_string())
    }

    /// True when the same command may succeed by itself a moment later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Connection(_))
    }
}

/// A name for people: bytes that are no UTF-8 and control characters are escaped.
pub fn display_path(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
        }
        for byte in chunk.invalid() {
            out += &format!("\\x{byte:02x}");
        }
    }
    out
}
