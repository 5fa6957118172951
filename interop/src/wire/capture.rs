//! Datagrams as the proxy saw them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use warpline_sim::Codepoint;
use warpline_sim::hop::Direction;

/// Bytes kept at most; a longer run is only seen from its beginning.
const LEN_MAX: usize = 96 << 20;

/// Where a datagram was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// On its way into the network.
    Sent,
    /// On its way out, to the receiver.
    Delivered,
}

/// A datagram.
#[derive(Debug, Clone)]
pub struct Datagram {
    /// Where it was seen.
    pub point: Point,
    /// To the server or to the client.
    pub direction: Direction,
    /// The client's address.
    pub client: SocketAddr,
    /// ECN.
    pub ecn: Codepoint,
    /// UDP payload.
    pub payload: Vec<u8>,
}

/// A list of datagrams that several threads share, in the order in which they were seen.
#[derive(Debug, Clone, Default)]
pub struct Capture(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    datagrams: Vec<Datagram>,
    len: usize,
}

impl Capture {
    /// Adds one.
    pub fn add(&self, datagram: Datagram) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len < LEN_MAX {
            kept.len += datagram.payload.len();
            kept.datagrams.push(datagram);
        }
    }

    /// All of them so far.
    pub fn datagrams(&self) -> Vec<Datagram> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).datagrams.clone()
    }
}
