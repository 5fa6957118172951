//! What a session needs of a connection.

use crate::{Result, WRITE_CHUNK};

/// Filler of answers and uploads.
static BLOCK: [u8; WRITE_CHUNK] = [0x5a; WRITE_CHUNK];

/// A connection as the sessions see it.
pub trait Link {
    /// Begins a bidirectional stream; `None` if the peer's limit is reached.
    fn open(&mut self) -> Result<Option<u64>>;

    /// Takes bytes from the front of `data`; `fin` counts only if all of it was taken. The number of bytes taken, which
    /// is 0 while the stream is blocked.
    fn send(&mut self, stream: u64, data: &[u8], fin: bool) -> Result<usize>;

    /// As [`send`](Self::send), for data that lives on: stacks that can keep a reference to it need not copy it.
    fn send_static(&mut self, stream: u64, data: &'static [u8], fin: bool) -> Result<usize> {
        self.send(stream, data, fin)
    }

    /// Reads into `buffer`: how many bytes, and whether the stream ends there. `None` if there is nothing now.
    fn recv(&mut self, stream: u64, buffer: &mut [u8]) -> Result<Option<(usize, bool)>>;

    /// Queues a datagram; `false` if there is no room now.
    fn send_datagram(&mut self, data: &[u8]) -> Result<bool>;

    /// The length of the next datagram, which is in `buffer` then; `None` if there is none.
    fn recv_datagram(&mut self, buffer: &mut [u8]) -> Option<usize>;

    /// Whether the handshake is complete.
    fn is_established(&self) -> bool;

    /// Whether early data may be sent now.
    fn is_early(&self) -> bool;

    /// Whether the handshake was a resumed one.
    fn is_resumed(&self) -> bool;

    /// Whether the server took the early data.
    fn early_accepted(&self) -> bool;

    /// Whether a ticket for the next connection has come.
    fn has_ticket(&self) -> bool;
}

/// What remains to be sent on a stream: a few bytes, then filler, then the end.
#[derive(Debug)]
pub struct Outgoing {
    head: Vec<u8>,
    filler: u64,
    done: bool,
}

impl Outgoing {
    /// `head`, then `filler` bytes, then the end.
    #[must_use]
    pub fn new(head: Vec<u8>, filler: u64) -> Self {
        Self { head, filler, done: false }
    }

    /// Sends what there is room for. How many bytes of filler went.
    ///
    /// # Errors
    ///
    /// If the stream or the connection has failed.
    pub fn pump<L: Link>(&mut self, link: &mut L, stream: u64) -> Result<u64> {
        while !self.head.is_empty() {
            let last = self.filler == 0;
            let taken = link.send(stream, &self.head, last)?;
            self.head.drain(..taken);
            if taken == 0 {
                return Ok(0);
            }
            if self.head.is_empty() && last {
                self.done = true;
            }
        }
        let mut sent = 0;
        while !self.done {
            let part = self.filler.min(BLOCK.len() as u64);
            let taken = link.send_static(stream, &BLOCK[..part as usize], part == self.filler)? as u64;
            sent += taken;
            self.filler -= taken;
            if taken == part && self.filler == 0 {
                self.done = true;
            } else if taken < part {
                break;
            }
        }
        Ok(sent)
    }

    /// Whether everything went, the end included.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }
}

impl Outgoing {
    /// Sends one message of `length` bytes of the filler, with a write of its own. Whether it went whole; what is left
    /// of it goes first the next time.
    ///
    /// # Errors
    ///
    /// If the stream or the connection has failed.
    pub fn pump_message<L: Link>(&mut self, link: &mut L, stream: u64, length: u64) -> Result<bool> {
        if self.head.is_empty() {
            self.head.extend_from_slice(&BLOCK[..(length as usize).min(BLOCK.len())]);
        }
        let taken = link.send(stream, &self.head, false)?;
        self.head.drain(..taken);
        Ok(self.head.is_empty())
    }
}
