//! What stands at the ends of a path: anything that takes datagrams and timeouts and gives datagrams.

use std::net::SocketAddr;

use crate::{Instant, Packet};

/// A host of the simulated network. The calls are those of the protocol core, one level up: whole datagrams with their
/// addresses instead of GSO trains, and an application inside.
pub trait Node {
    /// The node's own address, before any NAT.
    fn address(&self) -> SocketAddr;

    /// Takes a datagram.
    fn handle_datagram(&mut self, now: Instant, packet: Packet);

    /// Does what is due at `now`. The first call, at the start of the run, is the node's chance to begin.
    fn handle_timeout(&mut self, now: Instant);

    /// Appends some datagrams to send to `out`, at least one if there is any. Called until it appends nothing.
    fn poll_transmit(&mut self, now: Instant, out: &mut Vec<Packet>);

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    fn next_timeout(&self) -> Option<Instant>;

    /// Whether the application inside has nothing left to do. Asked after every event.
    fn is_done(&self) -> bool;

    /// A number that grows whenever anything useful happens: bytes delivered, handshakes, streams ended.
    fn progress(&self) -> u64;

    /// What the application inside has done so far.
    fn report(&self) -> Report;
}

/// What a node's application has done. All counts only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Nothing is left to do.
    pub done: bool,
    /// Handshakes that completed.
    pub connected: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Content bytes that arrived, were in order and were right.
    pub delivered_bytes: u64,
    /// Streams or requests that ended as planned.
    pub completed: u64,
    /// The most bytes that the protocol held for this node at a time, if known.
    pub buffered_bytes_max: u64,
    /// What must not happen and did: wrong content, bytes after the end, unexpected errors.
    pub faults: Vec<String>,
}

impl Report {
    /// A number that grows whenever anything useful happens.
    pub fn progress(&self) -> u64 {
        self.delivered_bytes + self.connected + self.closed + self.completed
    }
}
