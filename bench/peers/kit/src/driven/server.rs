//! The server's side of the `perf` protocol.

use std::collections::HashMap;

use super::link::{Link, Outgoing};
use crate::{COUNT_QUERY, DATAGRAM_SINK, HEADER_LEN, Result};

/// One connection's streams.
#[derive(Debug, Default)]
pub struct ServerSession {
    streams: HashMap<u64, Stream>,
    datagrams: u64,
}

#[derive(Debug, Default)]
struct Stream {
    header: [u8; HEADER_LEN],
    have: usize,
    answer: Option<Outgoing>,
    read_all: bool,
}

impl ServerSession {
    /// There may be something to read on `stream`. `buffer` is scratch space.
    ///
    /// # Errors
    ///
    /// If the stream or the connection has failed.
    pub fn readable<L: Link>(&mut self, link: &mut L, stream: u64, buffer: &mut [u8]) -> Result<()> {
        let state = self.streams.entry(stream).or_default();
        while let Some((length, end)) = link.recv(stream, buffer)? {
            if state.have < HEADER_LEN {
                let part = length.min(HEADER_LEN - state.have);
                state.header[state.have..state.have + part].copy_from_slice(&buffer[..part]);
                state.have += part;
                if state.have == HEADER_LEN {
                    state.answer = Some(match u64::from_be_bytes(state.header) {
                        COUNT_QUERY => Outgoing::new(self.datagrams.to_be_bytes().to_vec(), 0),
                        length => Outgoing::new(Vec::new(), length),
                    });
                }
            }
            if end {
                state.read_all = true;
                break;
            }
        }
        self.writable(link, stream)
    }

    /// There may be room to write on `stream`.
    ///
    /// # Errors
    ///
    /// If the stream or the connection has failed.
    pub fn writable<L: Link>(&mut self, link: &mut L, stream: u64) -> Result<()> {
        let Some(state) = self.streams.get_mut(&stream) else { return Ok(()) };
        let Some(answer) = &mut state.answer else { return Ok(()) };
        if !answer.is_done() {
            answer.pump(link, stream)?;
        }
        if answer.is_done() && state.read_all {
            self.streams.remove(&stream);
        }
        Ok(())
    }

    /// There may be datagrams. An echo that finds no room is lost, as datagrams are.
    ///
    /// # Errors
    ///
    /// If the connection has failed.
    pub fn datagrams<L: Link>(&mut self, link: &mut L, buffer: &mut [u8]) -> Result<()> {
        while let Some(length) = link.recv_datagram(buffer) {
            self.datagrams += 1;
            if buffer[..length].first().is_some_and(|&first| first != DATAGRAM_SINK) {
                link.send_datagram(&buffer[..length])?;
            }
        }
        Ok(())
    }
}
