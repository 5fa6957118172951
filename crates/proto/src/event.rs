//! What happened on a connection.

use warpline_wire::{Dir, StreamId};

use crate::error::ConnectionError;

/// News for the application. What an event announces is state of the connection: it is still there when asked for later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The handshake is complete. On a server this announces the connection.
    Connected,
    /// (Server) A client's first packet was taken; the handshake is under way. Nothing needs to be done.
    Accepting,
    /// (Server) The client sends early data, which was accepted: streams can be accepted, read and answered before
    /// the handshake is complete. `Connected` follows. What arrives until then may be a replay, see
    /// [`is_early`](crate::Connection::is_early).
    EarlyData,
    /// The connection ended. Nothing follows it; the handle is dead once the draining period is over.
    Closed(ConnectionError),
    /// The peer opened streams: call `accept` until `None`.
    StreamOpened(Dir),
    /// The peer allows more streams after `open` gave `None`.
    StreamsAvailable(Dir),
    /// Data or the end of the stream can be read, after `read` said `Blocked`.
    Readable(StreamId),
    /// There is room again, after `write` said `Blocked`.
    Writable(StreamId),
    /// The peer acknowledged everything that was sent on the stream, its end included; after `reset_at` everything that the
    /// stream still owed.
    Finished(StreamId),
    /// The peer will not read what is sent on the stream (STOP_SENDING, with its code).
    Stopped(StreamId, u64),
    /// The peer says at which address it sees this endpoint, or that it has changed: see
    /// [`Connection::observed_address`](crate::Connection::observed_address).
    AddressObserved,
    /// `recv_datagram` has something.
    DatagramReceived,
    /// There is room for datagrams again, after `send_datagram` said `Blocked`.
    DatagramsUnblocked,
}
