//! The `perf` protocol: what the bytes on the streams mean.

/// The application protocol that both sides negotiate.
pub const ALPN: &[u8] = b"perf";

/// The name in the certificate that clients verify, whatever address they dial.
pub const SERVER_NAME: &str = "localhost";

/// Every stream begins with this many bytes: the length of the response, big-endian.
pub const HEADER_LEN: usize = 8;

/// Length of a request in the request scenarios, header included.
pub const REQUEST_LEN: usize = 64;

/// Length of a response in the request scenarios.
pub const RESPONSE_LEN: u64 = 1_024;

/// Response length that asks for something else: the number of datagrams that the server has received on this
/// connection, as 8 bytes, big-endian.
pub const COUNT_QUERY: u64 = u64::MAX;

/// First byte of a datagram that the server counts and does not send back.
pub const DATAGRAM_SINK: u8 = 0;

/// First byte of a datagram that the server sends back.
pub const DATAGRAM_ECHO: u8 = 1;

/// Bytes handed to a stack in one write of bulk data: enough that the size of a write never limits it.
pub const WRITE_CHUNK: usize = 1 << 20;

/// The header that asks for a response of `length` bytes.
#[must_use]
pub const fn header(length: u64) -> [u8; HEADER_LEN] {
    length.to_be_bytes()
}

/// Messages of `smallmsg` that are counted at once.
pub const COUNT_EVERY: u64 = 16;
