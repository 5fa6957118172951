//! What the application calls.

use std::net::{IpAddr, SocketAddr};

use rustls_pki_types::CertificateDer;
use warpline_frame::Chunk;
use warpline_wire::{Dir, Side, StreamId};

use super::{Connection, ConnectionStats, EarlyData};
use crate::datagram::SendDatagramError;
use crate::error::ExportError;
use crate::streams::{ClosedStream, ReadError, ResetAtError, WriteError};
use crate::time::Instant;

/// Methods for the application.
impl Connection {
    /// Which side of the connection this is.
    pub fn side(&self) -> Side {
        self.identity.side
    }

    /// The peer's address on the path in use.
    pub fn remote(&self) -> SocketAddr {
        self.paths.current.remote
    }

    /// The address of ours on the path in use, if the socket tells.
    pub fn local(&self) -> Option<IpAddr> {
        self.paths.current.local
    }

    /// True until the handshake is complete.
    pub fn is_handshaking(&self) -> bool {
        !self.progress.complete
    }

    /// What became of the data that was sent before the handshake was complete, or that came so early.
    pub fn early_data(&self) -> EarlyData {
        self.handshake.early
    }

    /// (Server) True if some of the stream's data came as early data. Until the handshake is complete it may be a replay of what
    /// the client sent to another server of the fleet, and a client that was answered by a Retry or a full handshake sends
    /// it again: see RFC 8446 section 8.
    pub fn is_early(&self, id: StreamId) -> bool {
        self.streams.is_early(id)
    }

    /// True when the handshake resumed an earlier session; known once it is complete.
    pub fn is_resumed(&self) -> bool {
        self.handshake.session.is_resumed()
    }

    /// True once the connection has ended, whoever ended it.
    pub fn is_closed(&self) -> bool {
        !self.lifecycle.is_open()
    }

    /// Opens a stream; `None` while the peer allows no more of its kind (then [`crate::Event::StreamsAvailable`] follows).
    #[inline]
    pub fn open(&mut self, dir: Dir) -> Option<StreamId> {
        if self.is_closed() { None } else { self.streams.open(dir) }
    }

    /// The next stream that the peer opened.
    #[inline]
    pub fn accept(&mut self, dir: Dir) -> Option<StreamId> {
        self.streams.accept(dir)
    }

    /// Takes as much as fits from the front of `data`, without copying it. `Blocked` when nothing fits; then
    /// [`crate::Event::Writable`] follows.
    #[inline]
    pub fn write(&mut self, id: StreamId, data: &mut Chunk) -> Result<usize, WriteError> {
        if self.is_closed() {
            return Err(WriteError::ClosedStream);
        }
        self.streams.write(id, data)
    }

    /// Ends the sending side of a stream after what was written.
    #[inline]
    pub fn finish(&mut self, id: StreamId) -> Result<(), ClosedStream> {
        self.streams.finish(id)
    }

    /// Abandons the sending side of a stream (RESET_STREAM).
    pub fn reset(&mut self, id: StreamId, code: u64) -> Result<(), ClosedStream> {
        self.streams.reset(id, code)
    }

    /// Abandons the sending side of a stream behind its first `reliable` bytes, which still arrive (RESET_STREAM_AT); the peer
    /// reads them and then the reset. Counts no more than what was written.
    ///
    /// # Errors
    /// The peer does not understand it, or the stream is over or was reset before.
    pub fn reset_at(&mut self, id: StreamId, code: u64, reliable: u64) -> Result<(), ResetAtError> {
        self.streams.reset_at(id, code, reliable)
    }

    /// Asks the peer to stop sending (STOP_SENDING); what arrived is dropped.
    pub fn stop_sending(&mut self, id: StreamId, code: u64) -> Result<(), ClosedStream> {
        self.streams.stop_sending(id, code)
    }

    /// Streams with a higher priority are served first; equals take turns. The default is 0.
    pub fn set_priority(&mut self, id: StreamId, priority: i32) -> Result<(), ClosedStream> {
        self.streams.set_priority(id, priority)
    }

    /// Up to `max` bytes in order; `None` at the end of the stream. `Blocked` when nothing is there; then
    /// [`crate::Event::Readable`] follows. `now` is for the tuning of the receive window.
    #[inline]
    pub fn read(&mut self, now: Instant, id: StreamId, max: usize) -> Result<Option<Chunk>, ReadError> {
        let rtt = self.paths.current.rtt.smoothed();
        self.streams.read(id, max, now, rtt)
    }

    /// Queues an unreliable datagram (RFC 9221).
    #[inline]
    pub fn send_datagram(&mut self, data: Chunk) -> Result<(), SendDatagramError> {
        let max = self.max_datagram_size();
        self.datagrams.send(data, max)
    }

    /// The next datagram received.
    #[inline]
    pub fn recv_datagram(&mut self) -> Option<Chunk> {
        self.datagrams.recv()
    }

    /// Largest datagram that fits a packet on the path now; `None` when the peer takes none.
    pub fn max_datagram_size(&self) -> Option<usize> {
        // First byte, ID, packet number, tag.
        let overhead = 1 + self.remote_cids.current().len() + 4 + crate::crypto::packet::TAG_LEN;
        self.datagrams.max_size(usize::from(self.paths.current.mtu.current()) - overhead)
    }

    /// Sends a PING: the peer acknowledges it.
    pub fn ping(&mut self) {
        self.spaces.data.ping |= self.progress.complete && !self.is_closed();
    }

    /// Updates the keys of packets with the first packet that may (RFC 9001 section 6.1): once the handshake is confirmed, and a
    /// packet under the present keys is acknowledged. Connections do so by themselves long before keys wear out. Asking
    /// again before it has happened asks for nothing more; before there are 1-RTT keys, there is nothing to update.
    pub fn update_keys(&mut self) {
        if let Some(keys) = &mut self.keys.one_rtt {
            keys.request_update();
            self.ping();
        }
    }

    /// Closes the connection; data that was not acknowledged may be lost.
    pub fn close(&mut self, now: Instant, code: u64, reason: &[u8]) {
        self.close_application(now, code, reason);
    }

    /// The application protocol that was agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.handshake.session.alpn()
    }

    /// The name that the client asked for (server side).
    pub fn server_name(&self) -> Option<&str> {
        self.handshake.session.server_name()
    }

    /// The peer's certificates, end entity first.
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.handshake.session.peer_certificates()
    }

    /// Keying material that only the two ends of this connection can compute (RFC 8446 section 7.5).
    pub fn export_keying_material(&self, out: &mut [u8], label: &[u8], context: &[u8]) -> Result<(), ExportError> {
        self.handshake.session.export(out, label, context).then_some(()).ok_or(ExportError)
    }

    /// Counters and the state of the path.
    pub fn stats(&self) -> ConnectionStats {
        let path = &self.paths.current;
        ConnectionStats {
            datagram_frames_dropped: self.datagrams.dropped(),
            retransmitted_bytes: self.streams.retransmitted_bytes(),
            rtt: path.rtt.smoothed(),
            min_rtt: path.rtt.min(),
            cwnd: path.congestion.window(),
            bytes_in_flight: self.spaces.bytes_in_flight(),
            mtu: path.mtu.current(),
            careful_resume: path.resume.as_ref().map(|resume| resume.state()),
            ..self.counters.snapshot()
        }
    }
}
