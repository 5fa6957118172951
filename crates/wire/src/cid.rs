//! The layout of the connection IDs that Warpline issues, and the partition they belong to.
//!
//! ```text
//!  0             1 … 5            6 … 7
//! ┌─────────────┬────────────────┬───────────────┐
//! │ first octet │ random         │ partition key │
//! └─────────────┴────────────────┴───────────────┘
//! ```
//! Behind a load balancer that reads server IDs (QUIC-LB) the ID begins with what that asks for, and the key follows it:
//!
//! ```text
//!  0             1 … n               n+1 … n+2
//! ┌─────────────┬───────────────────┬───────────────┐
//! │ rotation 3  │ server ID, nonce  │ partition key │
//! │ length 5    │ (or their cipher) │               │
//! └─────────────┴───────────────────┴───────────────┘
//! ```
//! The key gives a slot, `key mod 1021`, and a
//! table gives the worker of a slot. The key stands at a fixed place so that a program in the kernel can read it, and at
//! one that every ID a client may choose for its first packet has (RFC 9000 section 7.2 asks for 8 bytes).
//!
//! While one process takes a port over from another, the lowest bit of the byte before the key, the mark, tells whose a
//! [plain](Layout::PLAIN) ID is.

/// Length of the IDs that this implementation issues.
pub const CID_LEN: usize = 8;
/// Where the partition key, two bytes big-endian, begins.
pub const PARTITION_KEY_OFFSET: usize = 6;
/// Number of slots: prime, so that neither keys nor worker counts line up with it, and much larger than any number of workers.
pub const PARTITION_SLOTS: u16 = 1021;

/// How the IDs that an endpoint issues are laid out: all of them alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Their length, 8 to 20 bytes.
    pub len: u8,
    /// Where the partition key begins.
    pub key_offset: u8,
}

impl Layout {
    /// IDs without a load balancer's part.
    pub const PLAIN: Self = Self { len: CID_LEN as u8, key_offset: PARTITION_KEY_OFFSET as u8 };

    /// The partition key of any ID that a packet to this endpoint bears. One of the length that is issued has it at the
    /// place for those, any other (a client's first choice) at the place that all have: the rule asks for nothing but
    /// the ID, so all packets with one ID go the same way, whoever chose it.
    #[inline]
    pub fn partition_key(self, cid: &[u8]) -> Option<u16> {
        if cid.len() != usize::from(self.len) {
            return partition_key(cid);
        }
        let at = usize::from(self.key_offset);
        cid.get(at..at + 2)?.first_chunk().map(|key| u16::from_be_bytes(*key))
    }
}

/// The partition key of a connection ID of the [plain](Layout::PLAIN) layout; `None` when it is too short to have one.
#[inline]
pub fn partition_key(cid: &[u8]) -> Option<u16> {
    let key = cid.get(PARTITION_KEY_OFFSET..PARTITION_KEY_OFFSET + 2)?.first_chunk()?;
    Some(u16::from_be_bytes(*key))
}

/// The mark of a plain connection ID; `None` when it is too short to have one.
#[inline]
pub fn mark(cid: &[u8]) -> Option<bool> {
    cid.get(PARTITION_KEY_OFFSET - 1).map(|byte| byte & 1 == 1)
}

/// Gives a plain connection ID a mark.
pub fn set_mark(cid: &mut [u8], mark: bool) {
    if let Some(byte) = cid.get_mut(PARTITION_KEY_OFFSET - 1) {
        *byte = *byte & !1 | u8::from(mark);
    }
}

/// The slot of a key.
#[inline]
pub const fn slot(key: u16) -> u16 {
    key % PARTITION_SLOTS
}
