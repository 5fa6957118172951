//! What a connection has from an earlier one: resumption and early data.

use warpline_proto::EarlyData;
use warpline_wire::{StreamId, Version};

use super::hold::Hold;
use super::{Connection, RecvStream};
use crate::error::OperationError;

impl<H: Hold> Connection<H> {
    /// What became of the data that was sent, or came, before the handshake was complete.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn early_data(&self) -> Result<EarlyData, OperationError> {
        self.look(|conn| conn.early_data())
    }

    /// True until the handshake is complete.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn is_handshaking(&self) -> Result<bool, OperationError> {
        self.look(|conn| conn.is_handshaking())
    }

    /// (Server) True if some of the stream's data came as early data: until the handshake is complete it may be a replay
    /// (RFC 8446 section 8).
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn is_early(&self, stream: &RecvStream<H>) -> Result<bool, OperationError> {
        self.is_early_id(stream.id())
    }

    /// As [`is_early`](Self::is_early), by the stream's ID.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn is_early_id(&self, id: StreamId) -> Result<bool, OperationError> {
        self.look(|conn| conn.is_early(id))
    }

    /// True when the handshake resumed an earlier session; known once it is complete.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn is_resumed(&self) -> Result<bool, OperationError> {
        self.look(|conn| conn.is_resumed())
    }

    /// The version of QUIC in use; the server may choose another one during the handshake (RFC 9368).
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn version(&self) -> Result<Version, OperationError> {
        self.look(|conn| conn.version())
    }
}
