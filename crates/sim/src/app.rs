//! Applications that run on top of the protocol: a client that works through a [`Workload`] and a server that answers it.
//!
//! A stream begins with a header of 16 bytes: a key and the number of bytes that the server shall send back, both big
//! endian. Then comes the client's content, the [pattern](crate::check::Pattern) of the key; the server's is the pattern
//! of the inverted key. Either side notices every byte that is wrong or not where it belongs. A datagram is a number and
//! the pattern of that number.

mod client;
mod server;
mod stream;

pub use client::Client;
pub use server::Server;

use std::net::SocketAddr;
use std::time::Duration;

use warpline_proto::{Dir, Event};

use crate::workers::{ConnectionKey, Workers};
use crate::{Instant, Report, Tally};

/// The ALPN token of these applications.
pub const ALPN: &[u8] = b"sim";
/// The code with which a client abandons what it sends.
pub const RESET_CODE: u64 = 0x1_0001;
/// The code with which a client refuses what it receives.
pub const STOP_CODE: u64 = 0x1_0002;
/// The code with which a client closes a connection that has done its work.
pub const CLOSE_CODE: u64 = 0x1_0003;

/// What runs on a host's workers.
pub trait App {
    /// Called once, at the start.
    fn start(&mut self, now: Instant, workers: &mut Workers) {
        let _ = (now, workers);
    }

    /// Something happened on a connection.
    fn handle_event(&mut self, now: Instant, workers: &mut Workers, key: ConnectionKey, event: Event);

    /// The time that [`next_wake`](Self::next_wake) named has come.
    fn wake(&mut self, now: Instant, workers: &mut Workers) {
        let _ = (now, workers);
    }

    /// When to call [`wake`](Self::wake).
    fn next_wake(&self) -> Option<Instant> {
        None
    }

    /// Where its host has moved to, if it has.
    fn address(&self) -> Option<SocketAddr> {
        None
    }

    /// Nothing is left to do.
    fn is_done(&self) -> bool;

    /// What it has done so far.
    fn tally(&self) -> Tally;

    /// The account for the end of the run.
    fn report(&self) -> Report;
}

/// What a client does.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Connections, one after the other.
    pub connections: u32,
    /// Those of which a session is known begin with early data.
    pub early_data: bool,
    /// What is done on each of them.
    pub exchanges: Vec<Exchange>,
    /// Exchanges that go on at the same time.
    pub at_once: usize,
    /// The most bytes that one call writes or reads.
    pub chunk_max: usize,
    /// Between the handshake and this time nothing is read.
    pub deaf_for: Duration,
    /// Time between the end of an exchange and the start of the next.
    pub pause: Duration,
    /// Each client begins so much later than the one before.
    pub apart: Duration,
    /// Datagrams sent once connected. They may be lost; those that arrive must be right and come once.
    pub datagrams: u32,
    /// When every client moves, in order of time. All of it happens before it is done.
    pub moves: Vec<Move>,
}

/// A client's decision to send from another address.
#[derive(Debug, Clone, Copy)]
pub struct Move {
    /// When; it may take longer until the protocol lets it.
    pub at: Instant,
    /// Where to.
    pub to: SocketAddr,
}

/// What is done on one stream.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    /// A unidirectional stream brings nothing back.
    pub dir: Dir,
    /// Content bytes to send.
    pub upload: u64,
    /// Content bytes to ask for.
    pub download: u64,
    /// How it ends.
    pub ending: Ending,
}

/// How an exchange ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Both sides send everything.
    Whole,
    /// The client resets its side after so many content bytes.
    ResetAfter(u64),
    /// The client stops reading after so many content bytes.
    StopAfter(u64),
}

impl Workload {
    /// `count` equal exchanges on bidirectional streams over one connection, all at once.
    pub fn streams(count: usize, upload: u64, download: u64) -> Self {
        let exchange = Exchange { dir: Dir::Bi, upload, download, ending: Ending::Whole };
        Self {
            connections: 1,
            early_data: false,
            exchanges: vec![exchange; count],
            at_once: count,
            chunk_max: 16 << 10,
            deaf_for: Duration::ZERO,
            pause: Duration::ZERO,
            apart: Duration::ZERO,
            datagrams: 0,
            moves: Vec::new(),
        }
    }

    /// Content bytes that go over the network, both ways, if nothing is reset.
    pub fn volume(&self) -> u64 {
        let per_connection: u64 = self.exchanges.iter().map(|exchange| exchange.upload + exchange.download).sum();
        u64::from(self.connections) * per_connection
    }

    /// Content bytes that one side may have taken and the other never gets, since their stream is abandoned.
    pub fn undelivered_max(&self) -> u64 {
        let of = |exchange: &Exchange| match exchange.ending {
            Ending::Whole => 0,
            Ending::ResetAfter(limit) => exchange.upload.min(limit + self.chunk_max as u64),
            Ending::StopAfter(limit) => exchange.download.saturating_sub(limit),
        };
        u64::from(self.connections) * self.exchanges.iter().map(of).sum::<u64>()
    }
}
