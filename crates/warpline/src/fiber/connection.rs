//! Connections, for fibers.

use super::{RecvStream, SendStream, Wait};
use crate::engine::OperationError;
use crate::{Chunk, ConnectionError, local};
use std::ops::Deref;

/// A QUIC connection, used from the fibers of its worker. Clones name the same one; its end is that of
/// [`local::Connection`], to which it dereferences.
///
/// Several fibers may wait for the same thing.
#[derive(Clone, Debug)]
pub struct Connection(local::Connection);

impl Connection {
    /// Takes over a handle of the same worker.
    #[must_use]
    pub fn new(connection: local::Connection) -> Self {
        Self(connection)
    }

    /// The handle for tasks of the same worker.
    #[must_use]
    pub fn into_inner(self) -> local::Connection {
        self.0
    }

    /// Waits for the peer to open a bidirectional stream.
    ///
    /// # Errors
    /// If the connection ends; streams that the peer had opened before come first.
    pub fn accept_bi(&self) -> Result<(SendStream, RecvStream), OperationError> {
        self.0.accept_bi().wait().map(|(send, recv)| (SendStream::new(send), RecvStream::new(recv)))
    }

    /// Waits for the peer to open a unidirectional stream.
    ///
    /// # Errors
    /// As [`accept_bi`](Self::accept_bi).
    pub fn accept_uni(&self) -> Result<RecvStream, OperationError> {
        self.0.accept_uni().wait().map(RecvStream::new)
    }

    /// Opens a bidirectional stream, waiting while the peer allows no more. The peer learns of it with the first bytes.
    ///
    /// # Errors
    /// If the connection ends.
    pub fn open_bi(&self) -> Result<(SendStream, RecvStream), OperationError> {
        self.0.open_bi().wait().map(|(send, recv)| (SendStream::new(send), RecvStream::new(recv)))
    }

    /// Opens a unidirectional stream, waiting while the peer allows no more.
    ///
    /// # Errors
    /// If the connection ends.
    pub fn open_uni(&self) -> Result<SendStream, OperationError> {
        self.0.open_uni().wait().map(SendStream::new)
    }

    /// Sends a datagram (RFC 9221), waiting while the queue of datagrams is full.
    ///
    /// # Errors
    /// [`local::SendDatagramError`].
    pub fn send_datagram(&self, datagram: impl Into<Chunk>) -> Result<(), local::SendDatagramError> {
        self.0.send_datagram(datagram.into()).wait()
    }

    /// Waits for the next datagram from the peer.
    ///
    /// # Errors
    /// If the connection ends; datagrams that arrived before come first.
    pub fn recv_datagram(&self) -> Result<Chunk, OperationError> {
        self.0.recv_datagram().wait()
    }

    /// Waits for the connection's end and says how it came.
    #[must_use]
    pub fn closed(&self) -> ConnectionError {
        self.0.closed().wait()
    }
}

impl Deref for Connection {
    type Target = local::Connection;

    fn deref(&self) -> &local::Connection {
        &self.0
    }
}
