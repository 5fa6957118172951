//! tquic's calls behind the sessions' trait.

use bytes::Bytes;
use tquic::{Connection, Error};
use warpline_peer_kit::Result;
use warpline_peer_kit::driven::Link;

/// A connection.
pub struct TquicLink<'a>(pub &'a mut Connection);

impl TquicLink<'_> {
    fn write(&mut self, stream: u64, data: Bytes, fin: bool) -> Result<usize> {
        let length = data.len();
        let taken = match self.0.stream_write(stream, data, fin) {
            Ok(taken) => taken,
            Err(Error::Done) => 0,
            Err(error) => return Err(error.into()),
        };
        // Call again only if something is left.
        self.0.stream_want_write(stream, taken < length)?;
        Ok(taken)
    }
}

impl Link for TquicLink<'_> {
    fn open(&mut self) -> Result<Option<u64>> {
        match self.0.stream_bidi_new(0, false) {
            Ok(stream) => Ok(Some(stream)),
            Err(Error::StreamLimitError) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn send(&mut self, stream: u64, data: &[u8], fin: bool) -> Result<usize> {
        self.write(stream, Bytes::copy_from_slice(data), fin)
    }

    fn send_static(&mut self, stream: u64, data: &'static [u8], fin: bool) -> Result<usize> {
        self.write(stream, Bytes::from_static(data), fin)
    }

    fn recv(&mut self, stream: u64, buffer: &mut [u8]) -> Result<Option<(usize, bool)>> {
        match self.0.stream_read(stream, buffer) {
            Ok(read) => Ok(Some(read)),
            Err(Error::Done) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn send_datagram(&mut self, _: &[u8]) -> Result<bool> {
        Err("tquic has no datagrams".into())
    }

    fn recv_datagram(&mut self, _: &mut [u8]) -> Option<usize> {
        None
    }

    fn is_established(&self) -> bool {
        self.0.is_established()
    }

    fn is_early(&self) -> bool {
        self.0.is_in_early_data()
    }

    fn is_resumed(&self) -> bool {
        self.0.is_resumed()
    }

    fn early_accepted(&self) -> bool {
        matches!(self.0.early_data_reason(), Ok(Some("accepted")))
    }

    fn has_ticket(&self) -> bool {
        self.0.session().is_some()
    }
}
