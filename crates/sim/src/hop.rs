//! What lies between two hosts. A path is a row of hops; each takes a packet and says what becomes of it: it is passed
//! on at some later time, changed, doubled or dropped.
//!
//! A hop sees both directions, because some of them (a NAT) need to. None has timers of its own: when a packet arrives,
//! the time when it leaves is already known.

mod blackhole;
mod bottleneck;
mod burst_loss;
mod corrupt;
mod dead;
mod delay;
mod drop_nth;
mod duplicate;
mod ecn;
mod loss;
mod mtu;
mod nat;
mod reorder;
mod repack;
mod shared;

pub use blackhole::BlackHole;
pub use bottleneck::{Bottleneck, BottleneckConfig};
pub use burst_loss::{BurstLoss, BurstLossConfig};
pub use corrupt::Corrupt;
pub use dead::DeadAddresses;
pub use delay::Delay;
pub use drop_nth::DropNth;
pub use duplicate::Duplicate;
pub use ecn::EcnBleach;
pub use loss::Loss;
pub use mtu::MtuLimit;
pub use nat::Nat;
pub use reorder::Reorder;
pub use repack::Repack;
pub use shared::Shared;

use std::time::Duration;

use crate::{Instant, Packet, Rng};

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

impl Direction {
    /// 0 for up and 1 for down: the place of this direction in a pair.
    pub fn index(self) -> usize {
        match self {
            Self::Up => 0,
            Self::Down => 1,
        }
    }
}

/// Which directions a hop acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ways {
    /// Both.
    Both,
    /// One of them.
    Only(Direction),
}

impl Ways {
    /// Whether packets that go this way are meant.
    pub fn contains(self, direction: Direction) -> bool {
        match self {
            Self::Both => true,
            Self::Only(only) => only == direction,
        }
    }
}

/// Why a packet went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dropped {
    /// Random loss.
    Loss,
    /// A queue was full.
    QueueFull,
    /// It was larger than the link takes.
    TooBig,
    /// A black hole swallowed it.
    BlackHole,
    /// No NAT mapping leads to its destination any more.
    NoMapping,
    /// Nobody has the address.
    NoRoute,
}

/// One hop of a path.
pub trait Hop: std::fmt::Debug + Send {
    /// Takes a packet that goes in `direction` and tells `cx` what becomes of it.
    fn forward(&mut self, cx: &mut HopCx<'_>, direction: Direction, packet: Packet);

    /// The least time that a packet spends here. Checkers use the sum over the path as the shortest possible delay.
    fn least_delay(&self) -> Duration {
        Duration::ZERO
    }
}

/// What a hop may use and where it puts its answer.
#[derive(Debug)]
pub struct HopCx<'a> {
    /// The time at which the packet arrived here.
    pub now: Instant,
    /// The path's own randomness.
    pub rng: &'a mut Rng,
    /// What leaves, and when.
    pub passed: &'a mut Vec<(Instant, Packet)>,
    /// What was dropped, and why.
    pub dropped: &'a mut Vec<(Dropped, Packet)>,
    /// How many were damaged.
    pub damaged: &'a mut u64,
}

impl HopCx<'_> {
    /// Passes the packet on at once.
    pub fn pass(&mut self, packet: Packet) {
        self.passed.push((self.now, packet));
    }

    /// Passes the packet on at a later time.
    pub fn pass_at(&mut self, at: Instant, packet: Packet) {
        self.passed.push((at, packet));
    }

    /// Drops the packet.
    pub fn drop(&mut self, reason: Dropped, packet: Packet) {
        self.dropped.push((reason, packet));
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Drives a hop alone.

    use super::*;
    use crate::Codepoint;

    /// A packet of `len` payload bytes.
    pub fn packet(len: usize) -> Packet {
        Packet {
            src: ([10, 0, 1, 1], 50_000).into(),
            dst: ([192, 0, 2, 1], 4433).into(),
            ecn: Codepoint::Ect0,
            payload: vec![0x5a; len],
        }
    }

    /// What became of the packets given to a hop.
    #[derive(Debug)]
    pub struct Drive<H> {
        pub hop: H,
        pub rng: Rng,
        pub passed: Vec<(Instant, Packet)>,
        pub dropped: Vec<(Dropped, Packet)>,
        pub damaged: u64,
    }

    impl<H: Hop> Drive<H> {
        pub fn new(hop: H) -> Self {
            Self { hop, rng: Rng::new(1), passed: Vec::new(), dropped: Vec::new(), damaged: 0 }
        }

        pub fn give(&mut self, at: Duration, direction: Direction, packet: Packet) {
            let mut cx = HopCx {
                now: Instant::from_nanos(0) + at,
                rng: &mut self.rng,
                passed: &mut self.passed,
                dropped: &mut self.dropped,
                damaged: &mut self.damaged,
            };
            self.hop.forward(&mut cx, direction, packet);
        }

        pub fn times_ms(&self) -> Vec<u64> {
            self.passed.iter().map(|(at, _)| at.as_nanos() / 1_000_000).collect()
        }
    }
}
