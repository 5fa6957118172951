//! Long sends: as much of them in msquic at a time as it says is ideal.

use warpline_peer_kit::Result;

use crate::quic::{FILLER_MAX, Stream};

/// Bytes that wait in msquic until it says what is ideal: the same number in it, and in its performance tool.
pub const IDEAL_FIRST: u64 = 128 << 10;

/// Filler on its way, with the stream's end after it.
#[derive(Debug)]
pub struct Sending {
    /// Not handed over yet.
    left: u64,
    /// Handed over and not acknowledged.
    outstanding: u64,
    ideal: u64,
}

impl Sending {
    /// Nothing, until [`start`](Self::start).
    pub fn nothing() -> Self {
        Self { left: 0, outstanding: 0, ideal: IDEAL_FIRST }
    }

    /// As [`start`](Self::start), where the stream's first bytes have gone already and [`sent`](Self::sent) will come for
    /// them.
    pub fn later(length: u64) -> Self {
        Self { left: length, ..Self::nothing() }
    }

    /// Begins to send `length` bytes.
    pub fn start(&mut self, stream: &Stream<'_>, length: u64) -> Result<()> {
        self.left = length;
        self.pump(stream)
    }

    /// The peer has acknowledged `bytes`.
    pub fn sent(&mut self, stream: &Stream<'_>, bytes: u32) -> Result<()> {
        self.outstanding = self.outstanding.saturating_sub(bytes.into());
        self.pump(stream)
    }

    /// msquic says that so many bytes should wait.
    pub fn set_ideal(&mut self, stream: &Stream<'_>, bytes: u64) -> Result<()> {
        self.ideal = bytes;
        self.pump(stream)
    }

    fn pump(&mut self, stream: &Stream<'_>) -> Result<()> {
        while self.left > 0 && self.outstanding < self.ideal {
            let part = self.left.min(FILLER_MAX.into());
            self.left -= part;
            self.outstanding += part;
            stream.send_filler(part as u32, self.left == 0)?;
        }
        Ok(())
    }
}
