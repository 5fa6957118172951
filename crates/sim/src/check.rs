//! Checkers: what must be true of every run, each in a file of its own.
//!
//! They see only what a stranger on the network sees, or what the applications report. None asks the protocol code
//! whether it is right; two ask it what it keeps.

mod amplification;
mod buffers;
mod delivery;
mod ecn;
mod half_open;
mod headers;
mod initials;
mod jump;
mod leak;
mod liveness;
mod order;
mod volume;

pub use amplification::AntiAmplification;
pub use buffers::BufferLimit;
pub use delivery::check_delivery;
pub use ecn::{BleachedLimit, CeShareLimit};
pub use half_open::HalfOpenLimit;
pub use initials::InitialSize;
pub use jump::JumpLimit;
pub use leak::check_leaks;
pub use liveness::Liveness;
pub use order::Pattern;
pub use volume::VolumeLimit;

use warpline_proto::Kept;

use crate::world::NodeId;
use crate::{Instant, Packet, Tally};

/// Watches the network during a run.
pub trait Monitor {
    /// `node` hands `packet` to the network.
    fn sent(&mut self, now: Instant, node: NodeId, packet: &Packet) {
        let _ = (now, node, packet);
    }

    /// `packet` reaches `node`.
    fn delivered(&mut self, now: Instant, node: NodeId, packet: &Packet) {
        let _ = (now, node, packet);
    }

    /// What all applications together have done as of `now`.
    fn tally(&mut self, now: Instant, all: &Tally) {
        let _ = (now, all);
    }

    /// What the protocol code of `node` keeps. Asked after every event there.
    fn kept(&mut self, node: NodeId, kept: &Kept) {
        let _ = (node, kept);
    }

    /// The clients are done: what follows is the end of connections, and need bring nothing useful any more.
    fn over(&mut self) {}

    /// What has gone wrong, if anything has. Asked after every event.
    fn violation(&self) -> Option<String>;
}
