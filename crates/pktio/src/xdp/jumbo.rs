//! Packets of several frames: put together when they come, and built in one piece.

use std::io;

use warpline_frame::{Frame, Pool, PoolConfig};

use super::lane::PAYLOAD_AT;
use crate::limits::{XDP_JUMBO_FRAMES, XDP_WAITING_MAX};
use crate::pools::place;
use crate::stats::{Stat, StatsHandle};

/// Room for packets of several frames in one piece. Two pools, so that a program that holds received ones does not stop
/// the sender.
pub(super) struct Jumbo {
    pub(super) rx: Pool,
    pub(super) tx: Pool,
}

impl Jumbo {
    pub(super) fn new(mtu: usize, node: Option<u32>) -> io::Result<Jumbo> {
        let config = |frames| PoolConfig { frame_size: PAYLOAD_AT + mtu, frames, huge_pages: false };
        let pool = |frames| place(Pool::new(config(frames))?, node);
        Ok(Jumbo { rx: pool(XDP_JUMBO_FRAMES)?, tx: pool(2 * XDP_WAITING_MAX)? })
    }

    /// The shape of the pool that packets to be sent are built in.
    pub(super) fn tx_config(&self) -> PoolConfig {
        PoolConfig { frame_size: self.tx.frame_size(), frames: self.tx.capacity(), huge_pages: false }
    }
}

/// The beginning of a packet of several frames.
pub(super) enum Partial {
    Kept(Frame, usize),
    /// There was no room for it, or it was too long: the rest goes the same way.
    Dropped,
}

/// Puts the frames of a packet together; the packet with its last one, or `None`.
pub(super) fn join(
    partial: &mut Option<Partial>,
    jumbo: Option<&mut Jumbo>,
    piece: &[u8],
    last: bool,
    stats: &StatsHandle,
) -> Option<Frame> {
    let begun = partial.take().unwrap_or_else(|| match jumbo.and_then(|jumbo| jumbo.rx.take()) {
        Some(frame) => Partial::Kept(frame, 0),
        None => Partial::Dropped,
    });
    let grown = match begun {
        Partial::Kept(mut frame, len) if frame.len() - len >= piece.len() => {
            frame[len..len + piece.len()].copy_from_slice(piece);
            Partial::Kept(frame, len + piece.len())
        }
        Partial::Kept(..) | Partial::Dropped => Partial::Dropped,
    };
    if !last {
        *partial = Some(grown);
        return None;
    }
    match grown {
        Partial::Kept(mut frame, len) => {
            frame.truncate(len);
            Some(frame)
        }
        Partial::Dropped => {
            stats.add(Stat::DropRxNoMemory, 1);
            None
        }
    }
}
