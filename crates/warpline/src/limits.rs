//! Every bound of this crate, with its reason.

/// Chunks that wait between a worker and the reader of a stream: about 180 KiB of packets, enough to keep both busy
/// while the other is woken (some 10 µs at 10 Gbit/s is 12 KiB).
pub const RECV_CHUNKS: usize = 128;

/// Chunks that wait between the writer of a stream and its worker.
pub const SEND_CHUNKS: usize = 32;

/// Bytes that one `poll_write` takes: with [`SEND_CHUNKS`] 1 MiB a stream at most. Longer pieces would save little,
/// shorter ones cost more wake-ups.
pub const WRITE_BYTES_MAX: usize = 32 << 10;

/// Connections that wait between a worker and `accept`. More wait in the worker, see
/// [`limits::ACCEPT_BACKLOG`](crate::engine::limits::ACCEPT_BACKLOG).
pub const ACCEPT_CONNECTIONS: usize = 64;

/// Streams that wait between a worker and `accept_bi` or `accept_uni`. More wait in the protocol, bounded by the number
/// of streams that the peer may open.
pub const ACCEPT_STREAMS: usize = 16;

/// Received datagrams that wait between a worker and `recv_datagram`. More wait in the protocol, bounded in bytes.
pub const RECV_DATAGRAMS: usize = 64;

/// Datagrams that wait between the program and a worker.
pub const SEND_DATAGRAMS: usize = 64;

/// Requests of the program (for a stream, for counters) that wait for a connection's worker. Each belongs to one
/// operation in progress; more wait for room.
pub const ASKS: usize = 16;
