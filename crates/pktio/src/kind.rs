//! The names of the backends.

use std::fmt;

/// Which backend an [`Io`](crate::Io) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoKind {
    /// An io_uring on a Linux UDP socket with GSO and GRO.
    Uring,
    /// A Linux UDP socket with GSO and GRO.
    Udp,
    /// AF_XDP queues of an interface.
    Xdp,
    /// A plain UDP socket.
    Portable,
    /// Queues in the process.
    Memory,
}

impl IoKind {
    /// Its name in flags and output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            IoKind::Uring => "uring",
            IoKind::Udp => "udp",
            IoKind::Xdp => "xdp",
            IoKind::Portable => "portable",
            IoKind::Memory => "memory",
        }
    }
}

impl fmt::Display for IoKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
