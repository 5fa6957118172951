//! The event log: a hash over everything that happened on the network, and the last events in full.
//!
//! The hash covers times, nodes, addresses, sizes, ECN codepoints and drop reasons, and not the payload: TLS draws key
//! shares from the operating system, so ciphertext differs between runs that are otherwise the same.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

use crate::hop::Dropped;
use crate::rng::split_mix;
use crate::{Codepoint, Instant, Packet};

/// How many events are kept for a failure's report.
const TAIL_LEN: usize = 200;

/// What happened to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A node sent it.
    Sent,
    /// It reached its node.
    Delivered,
    /// It was lost on the way.
    Dropped(Dropped),
}

/// One line of the log.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// What happened.
    pub what: What,
    /// The packet's source as seen at that place.
    pub src: SocketAddr,
    /// The packet's destination.
    pub dst: SocketAddr,
    /// Its ECN codepoint.
    pub ecn: Codepoint,
    /// Payload bytes.
    pub len: usize,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, what, src, dst, ecn, len } = self;
        let ms = at.as_nanos() as f64 / 1e6;
        write!(f, "{ms:>12.3} ms  {src} > {dst}  {len:>5} B  {ecn:?}  {what:?}")
    }
}

/// The log of one run.
#[derive(Debug)]
pub struct Log {
    hash: u64,
    events: u64,
    tail: VecDeque<Entry>,
    verbose: bool,
}

impl Log {
    /// An empty log. A verbose one prints every event to the standard error stream.
    pub fn new(verbose: bool) -> Self {
        Self { hash: 0, events: 0, tail: VecDeque::with_capacity(TAIL_LEN), verbose }
    }

    /// Adds an event.
    pub fn record(&mut self, at: Instant, what: What, packet: &Packet) {
        let entry = Entry { at, what, src: packet.src, dst: packet.dst, ecn: packet.ecn, len: packet.payload.len() };
        let kind = match what {
            What::Sent => 1,
            What::Delivered => 2,
            What::Dropped(reason) => 3 + reason as u64,
        };
        let ports = u64::from(entry.src.port()) << 16 | u64::from(entry.dst.port());
        for word in [at.as_nanos(), kind, ports, entry.ecn as u64, entry.len as u64] {
            self.hash ^= word;
            self.hash = split_mix(&mut self.hash);
        }
        self.events += 1;
        if self.verbose {
            eprintln!("{entry}");
        }
        if self.tail.len() == TAIL_LEN {
            self.tail.pop_front();
        }
        self.tail.push_back(entry);
    }

    /// Equal for two runs in which the same happened at the same times.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events were recorded.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The last events, oldest first.
    pub fn tail(&self) -> impl Iterator<Item = &Entry> {
        self.tail.iter()
    }
}
