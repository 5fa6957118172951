//! What the load program needs of a stack.

use std::future::Future;

use bytes::Bytes;

use crate::Result;

/// Buffers that one read may fill.
pub type ReadBuffers = [Bytes; 32];

/// How a connection came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As asked: resumed, or with its early data accepted.
    AsAsked,
    /// With a full handshake, or without early data.
    Fallback,
}

/// A client endpoint that can open connections.
pub trait Dialer: Send + Sync + 'static {
    /// The connections it opens.
    type Connection: Connection;

    /// Opens a connection and waits for the handshake to complete.
    fn dial(&self) -> impl Future<Output = Result<Self::Connection>> + Send;

    /// Opens a connection that may send at once (0-RTT) if the dialer has a ticket, else as [`dial`](Self::dial).
    fn dial_early(&self) -> impl Future<Output = Result<Self::Connection>> + Send;

    /// A dialer with the same socket and a ticket cache of its own, so that each of several loops of resumed handshakes
    /// has its own sequence of tickets.
    fn with_own_tickets(&self) -> Result<Self>
    where
        Self: Sized;

    /// Waits until the next dial can be resumed. `connection` is the one that the ticket comes on.
    fn ticket(&self, connection: &Self::Connection) -> impl Future<Output = Result<()>> + Send;
}

/// A connection of either side.
pub trait Connection: Clone + Send + Sync + 'static {
    /// The sending half of its streams.
    type Send: SendHalf;
    /// The receiving half of its streams.
    type Recv: RecvHalf;

    /// Opens a bidirectional stream, waiting for the peer's limit.
    fn open(&self) -> impl Future<Output = Result<(Self::Send, Self::Recv)>> + Send;

    /// The next bidirectional stream of the peer; `None` when the connection is closed.
    fn accept(&self) -> impl Future<Output = Option<(Self::Send, Self::Recv)>> + Send;

    /// Queues a datagram, waiting for room.
    fn send_datagram(&self, data: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// The next datagram; `None` when the connection is closed or the stack has no datagrams.
    fn recv_datagram(&self) -> impl Future<Output = Option<Bytes>> + Send;

    /// Closes the connection with code 0.
    fn close(&self);

    /// The mean size in bytes of the UDP payloads that the connection has received, where the stack can say, else the
    /// largest that it sends: in bulk scenarios, either is the size of the full packets.
    fn received_payload(&self) -> Option<u64>;

    /// The same of those that it has sent.
    fn sent_payload(&self) -> Option<u64>;

    /// The cipher suite, where the stack has more than the one of the comparison and says which it uses.
    fn cipher(&self) -> Option<String> {
        None
    }

    /// How the connection came about: waits for the server's word on early data if need be.
    fn outcome(&self) -> impl Future<Output = Outcome> + Send;
}

/// The sending half of a stream.
pub trait SendHalf: Send + 'static {
    /// Hands over all of `data`, waiting for room.
    fn write(&mut self, data: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// Marks the end of the stream.
    fn finish(&mut self) -> Result<()>;
}

/// The receiving half of a stream.
pub trait RecvHalf: Send + 'static {
    /// Reads in order what has come into the front of `buffers`; the number of buffers filled, `None` at the end of the
    /// stream.
    fn read(&mut self, buffers: &mut ReadBuffers) -> impl Future<Output = Result<Option<usize>>> + Send;
}
