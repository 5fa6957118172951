//! What stands at the ends of a path: anything that takes datagrams and timeouts and gives datagrams.

use std::net::SocketAddr;

use warpline_proto::Kept;

use crate::{Instant, Packet};

/// A host of the simulated network. The calls are those of the protocol core, one level up: whole datagrams with their
/// addresses instead of GSO trains, and an application inside.
pub trait Node {
    /// The node's own address, before any NAT.
    fn address(&self) -> SocketAddr;

    /// Takes a datagram.
    fn handle_datagram(&mut self, now: Instant, packet: Packet);

    /// Takes datagrams that were received at once.
    fn handle_datagrams(&mut self, now: Instant, packets: Vec<Packet>) {
        packets.into_iter().for_each(|packet| self.handle_datagram(now, packet));
    }

    /// Does what is due at `now`. The first call, at the start of the run, is the node's chance to begin.
    fn handle_timeout(&mut self, now: Instant);

    /// Appends some datagrams to send to `out`, at least one if there is any. Called until it appends nothing.
    fn poll_transmit(&mut self, now: Instant, out: &mut Vec<Packet>);

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    fn next_timeout(&self) -> Option<Instant>;

    /// Whether the application inside has nothing left to do. Asked after every event.
    fn is_done(&self) -> bool;

    /// What it has done so far, in numbers. Asked after every event.
    fn tally(&self) -> Tally;

    /// What the protocol code keeps for connections. Asked after every event.
    fn kept(&self) -> Kept {
        Kept::default()
    }

    /// What the application inside has done so far.
    fn report(&self) -> Report;
}

/// What a node's application has done, in numbers that only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Handshakes that completed.
    pub connected: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Content bytes that the protocol took from the application to send.
    pub accepted_bytes: u64,
    /// Content bytes that arrived in order and right.
    pub delivered_bytes: u64,
    /// Content bytes of which the protocol said that the peer has them all.
    pub acknowledged_bytes: u64,
    /// Streams that ended as planned.
    pub completed: u64,
}

impl Tally {
    /// A number that grows whenever anything useful happens.
    pub fn progress(&self) -> u64 {
        self.delivered_bytes + self.connected + self.closed + self.completed
    }

    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            connected: self.connected + other.connected,
            closed: self.closed + other.closed,
            accepted_bytes: self.accepted_bytes + other.accepted_bytes,
            delivered_bytes: self.delivered_bytes + other.delivered_bytes,
            acknowledged_bytes: self.acknowledged_bytes + other.acknowledged_bytes,
            completed: self.completed + other.completed,
        }
    }
}

/// A node's account of the run, for the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Nothing is left to do.
    pub done: bool,
    /// What it has done.
    pub tally: Tally,
    /// What must not happen and did: wrong content, bytes after the end, unexpected errors.
    pub faults: Vec<String>,
}
