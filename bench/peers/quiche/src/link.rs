//! quiche's calls behind the sessions' trait.

use quiche::{Connection, Error};
use warpline_peer_kit::Result;
use warpline_peer_kit::driven::Link;

/// BoringSSL's word for early data that was accepted (`ssl_early_data_accepted`).
const EARLY_DATA_ACCEPTED: u32 = 2;

/// A connection, and the next stream that its client opens.
pub struct QuicheLink<'a> {
    /// The connection.
    pub connection: &'a mut Connection,
    /// ID of the next stream of the client's.
    pub next_stream: &'a mut u64,
}

impl Link for QuicheLink<'_> {
    fn open(&mut self) -> Result<Option<u64>> {
        if self.connection.peer_streams_left_bidi() == 0 {
            return Ok(None);
        }
        let stream = *self.next_stream;
        *self.next_stream += 4;
        Ok(Some(stream))
    }

    fn send(&mut self, stream: u64, data: &[u8], fin: bool) -> Result<usize> {
        match self.connection.stream_send(stream, data, fin) {
            Ok(taken) => Ok(taken),
            Err(Error::Done) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn recv(&mut self, stream: u64, buffer: &mut [u8]) -> Result<Option<(usize, bool)>> {
        match self.connection.stream_recv(stream, buffer) {
            Ok(read) => Ok(Some(read)),
            Err(Error::Done) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn send_datagram(&mut self, data: &[u8]) -> Result<bool> {
        match self.connection.dgram_send(data) {
            Ok(()) => Ok(true),
            Err(Error::Done) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn recv_datagram(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.connection.dgram_recv(buffer).ok()
    }

    fn is_established(&self) -> bool {
        self.connection.is_established()
    }

    fn is_early(&self) -> bool {
        self.connection.is_in_early_data()
    }

    fn is_resumed(&self) -> bool {
        self.connection.is_resumed()
    }

    fn early_accepted(&self) -> bool {
        self.connection.early_data_reason() == EARLY_DATA_ACCEPTED
    }

    fn has_ticket(&self) -> bool {
        self.connection.session().is_some()
    }
}
