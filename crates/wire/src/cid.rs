//! The layout of the connection IDs that Warpline issues, and the partition they belong to.
//!
//! ```text
//!  0             1 … 5            6 … 7
//! ┌─────────────┬────────────────┬───────────────┐
//! │ first octet │ random         │ partition key │
//! └─────────────┴────────────────┴───────────────┘
//! ```
//! The first octet is reserved for a load balancer's configuration (QUIC-LB). The key gives a slot, `key mod 1021`, and a
//! table gives the worker of a slot. The key stands at a fixed place so that a program in the kernel can read it, and at
//! one that every ID a client may choose for its first packet has (RFC 9000 section 7.2 asks for 8 bytes).

/// Length of the IDs that this implementation issues.
pub const CID_LEN: usize = 8;
/// Where the partition key, two bytes big-endian, begins.
pub const PARTITION_KEY_OFFSET: usize = 6;
/// Number of slots: prime, so that neither keys nor worker counts line up with it, and much larger than any number of workers.
pub const PARTITION_SLOTS: u16 = 1021;

/// The partition key of a connection ID; `None` when it is too short to have one.
#[inline]
pub fn partition_key(cid: &[u8]) -> Option<u16> {
    let key = cid.get(PARTITION_KEY_OFFSET..PARTITION_KEY_OFFSET + 2)?.first_chunk()?;
    Some(u16::from_be_bytes(*key))
}

/// The slot of a key.
#[inline]
pub const fn slot(key: u16) -> u16 {
    key % PARTITION_SLOTS
}
