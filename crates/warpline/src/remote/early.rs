//! What a connection has from an earlier one: resumption and early data.

use super::{Connection, RecvStream};
use crate::{EarlyData, OperationError, Version};

impl Connection {
    /// What became of the data that was sent, or came, before the handshake was complete.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn early_data(&self) -> Result<EarlyData, OperationError> {
        self.question(|conn| conn.early_data()).await
    }

    /// True until the handshake is complete; see [`handshake`](Self::handshake).
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn is_handshaking(&self) -> Result<bool, OperationError> {
        self.question(|conn| conn.is_handshaking()).await
    }

    /// (Server) True if some of the stream's data came as early data: until the handshake is complete it may be a replay
    /// (RFC 8446 section 8).
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn is_early(&self, stream: &RecvStream) -> Result<bool, OperationError> {
        let id = stream.id();
        self.question(move |conn| conn.is_early_id(id)).await
    }

    /// True when the handshake resumed an earlier session; known once it is complete.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn is_resumed(&self) -> Result<bool, OperationError> {
        self.question(|conn| conn.is_resumed()).await
    }

    /// The version of QUIC in use; the server may choose another one during the handshake (RFC 9368).
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn version(&self) -> Result<Version, OperationError> {
        self.question(|conn| conn.version()).await
    }
}
