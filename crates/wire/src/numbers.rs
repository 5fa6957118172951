//! Packet numbers, stream IDs, sides and versions.

use core::fmt;
use core::ops::Not;

/// A packet number, 0 to 2^62 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketNumber(pub u64);

impl PacketNumber {
    /// Bytes, 1 to 4, that tell this number apart from all that may be in flight (RFC 9000 appendix A.2).
    #[inline]
    pub fn truncated_len(self, largest_acked: Option<u64>) -> usize {
        let unacked = largest_acked.map_or(self.0 + 1, |acked| self.0.saturating_sub(acked));
        match unacked {
            0..=0x7f => 1,
            0x80..=0x7fff => 2,
            0x8000..=0x7f_ffff => 3,
            _ => 4,
        }
    }

    /// The number that `truncated`, `len` bytes long, stands for (RFC 9000 appendix A.3).
    #[inline]
    pub fn expand(truncated: u64, len: usize, largest: Option<u64>) -> Self {
        let expected = largest.map_or(0, |n| n + 1);
        let window = 1u64 << (len * 8);
        let half = window / 2;
        let candidate = (expected & !(window - 1)) | truncated;
        if candidate + half <= expected && candidate < (1 << 62) - window {
            return Self(candidate + window);
        }
        if candidate > expected + half && candidate >= window {
            return Self(candidate - window);
        }
        Self(candidate)
    }
}

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one that began it.
    Client,
    /// The other one.
    Server,
}

impl Not for Side {
    type Output = Self;
    #[inline]
    fn not(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Whether data flows both ways on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dir {
    /// Both ways.
    Bi,
    /// From the one that opened it.
    Uni,
}

/// A stream ID (RFC 9000 section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

impl StreamId {
    /// The `index`th stream of its kind.
    #[inline]
    pub const fn new(side: Side, dir: Dir, index: u64) -> Self {
        let side = matches!(side, Side::Server) as u64;
        let dir = matches!(dir, Dir::Uni) as u64;
        Self(index << 2 | dir << 1 | side)
    }

    /// Who opened it.
    #[inline]
    pub const fn initiator(self) -> Side {
        if self.0 & 1 == 0 { Side::Client } else { Side::Server }
    }

    /// Its direction.
    #[inline]
    pub const fn dir(self) -> Dir {
        if self.0 & 2 == 0 { Dir::Bi } else { Dir::Uni }
    }

    /// Its number among those of its kind.
    #[inline]
    pub const fn index(self) -> u64 {
        self.0 >> 2
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A QUIC version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version(pub u32);

impl Version {
    /// RFC 9000.
    pub const V1: Self = Self(1);
    /// RFC 9369.
    pub const V2: Self = Self(0x6b33_43cf);
    /// Marks a Version Negotiation packet.
    pub const NEGOTIATION: Self = Self(0);

    /// True for versions that are reserved to exercise negotiation (RFC 9000 section 15).
    pub const fn is_greased(self) -> bool {
        self.0 & 0x0f0f_0f0f == 0x0a0a_0a0a
    }

    /// True for the versions whose packets this crate reads.
    #[inline]
    pub const fn is_supported(self) -> bool {
        self.0 == Self::V1.0 || self.0 == Self::V2.0
    }
}
