//! Bounds of the streams of a connection.

/// Gaps in the received data of a stream, and of all streams of a connection together. A path that loses one packet in twenty leaves about 1,200 in a window of 32 MiB; each costs some
/// 40 bytes here.
pub(super) const GAPS_MAX: usize = 16_384;

/// Bytes that a segment of received data holds on average before neighbours are merged: the memory that describes data stays a
/// small part of the data.
pub(super) const SEGMENT_MIN: u64 = 512;

/// Bytes that may wait on one stream without having been sent once. Beyond it a write blocks, so that one stream which the peer does not
/// read cannot take the whole send buffer.
pub(super) const UNSENT_MAX: u64 = 1 << 20;

/// Writes below this length are gathered in blocks: a chunk for each would cost more than copying its bytes.
pub(super) const SMALL_WRITE: usize = 1024;

/// Length of such a block.
pub(super) const BLOCK_LEN: usize = 4096;

/// Blocks that are kept for reuse.
pub(super) const SPARE_BLOCKS: usize = 16;

/// Bytes that a stream sends before the next of the same priority has its turn: about one GSO train's half, so that trains carry few streams and
/// readers get runs of their own data.
pub(super) const QUANTUM: i64 = 32 * 1024;
