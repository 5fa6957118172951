//! Every bound of the server and the client, with its reason.

use std::time::Duration;

/// Connections over HTTP/3 and over HTTP/1.1, each: at a few hundred KiB for a busy one, what a small machine holds.
pub const CONNECTIONS_MAX: usize = 1_000;

/// Requests of one connection that are worked on at once; more wait. A client that opens and resets streams at a rate
/// gets no more tasks out of it.
pub const REQUESTS_MAX: usize = warpline_h3::limits::REQUESTS_MAX as usize;

/// Longest path that is looked up, bytes: what Linux takes (`PATH_MAX`).
pub const PATH_MAX: usize = 4_096;

/// Bytes of headers of an HTTP/1.1 request; as much as a field section over HTTP/3.
pub const HEADERS_MAX: usize = warpline_h3::limits::FIELD_SECTION_MAX as usize;

/// What a response may bring in headers, for the client: servers are less economical than browsers.
pub const RESPONSE_HEADERS_MAX: u64 = 64 << 10;

/// Time for a client's headers to be whole, and for the TLS handshake over TCP.
pub const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that takes no byte of its response for this long has it cut off, a server that sends none is given up.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Time for what was begun to be delivered when the server ends.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that are read from a file at once: two pieces of the transport, so that a read takes little next to what it
/// brings.
pub const READ_BYTES: usize = 64 << 10;

/// Entries on the page for a directory: more than anybody reads, in a page of about a MiB.
pub const LISTING_MAX: usize = 5_000;

/// Redirections that are followed one after the other; what browsers do is 20.
pub const REDIRECTS_MAX: usize = 10;
