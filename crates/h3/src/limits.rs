//! Every bound of this crate, with its reason.

/// Bytes of the longest frame that is not DATA, on any stream. Such frames are held in memory until they are whole, and
/// nothing else bounds them: HEADERS and reserved frames may claim 2^62 bytes. Four times [`FIELD_SECTION_MAX`], because
/// reserved frames and padding by literals take more room on the wire than the fields count for.
pub const FRAME_MAX: u64 = 64 << 10;

/// What a field section may come to by the measure of RFC 9114 section 4.2.2, bytes. What servers and browsers commonly
/// take.
pub const FIELD_SECTION_MAX: u64 = 16 << 10;

/// Requests that a client may have open at once. RFC 9114 section 6.1 asks for at least 100.
pub const REQUESTS_MAX: u64 = 100;

/// Unidirectional streams that the peer may have open at once: control, two of QPACK, and some that exercise extensions
/// (RFC 9114 section 6.2 asks for at least three).
pub const UNI_STREAMS_MAX: u64 = 16;

/// Bytes that are handed to a stream at once: as much as one write to a worker takes, so that a long body does not wait
/// in memory twice.
pub const PIECE: usize = 32 << 10;
