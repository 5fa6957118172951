//! The manifest: what a tree consists of, entry by entry, in an order that proves itself.
//!
//! Entries come in pre-order with the names of every directory ascending. So a reader that remembers only the last path can tell
//! that no entry comes twice and that the parent of each is a directory which came before: a tree of a million entries
//! is checked in constant memory.

mod codec;
mod order;

pub use codec::{PARTIAL_DIR, decode_entry, encode_entry};
pub use order::OrderCheck;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory; what it holds follows.
    Directory,
    /// A regular file.
    File {
        /// Bytes, holes included.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, any bytes.
        target: Vec<u8>,
    },
    /// Another name of a file that came before.
    HardLink {
        /// The path of that file.
        target: Vec<u8>,
    },
}

/// Time of last change of the content, as the file system has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mtime {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds, below 10^9.
    pub nanos: u32,
}

/// One name in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From the root of the share, components parted by `/`; the root itself has the empty path.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, 12 of them.
    pub mode: u16,
    /// Last change of the content.
    pub mtime: Mtime,
    /// Extended attributes, names and values.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// The path without its last component.
    pub fn parent(&self) -> &[u8] {
        split(&self.path).0
    }

    /// The last component.
    pub fn name(&self) -> &[u8] {
        split(&self.path).1
    }
}

/// A path as parent and name.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}
