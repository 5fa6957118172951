//! How much of what, each with its reason.

use std::time::Duration;

/// Most instances that a process opens: each worker takes one, and each has 256 KiB of pinned memory ([`SLOT_LEN`] for every packet of a
/// batch), so that all of them are 64 MiB.
pub(crate) const INSTANCES_MAX: u16 = 256;

/// Bytes of pinned memory for one packet: its request, nonce and header in the first [`DATA_AT`], then payload and tag. Jumbo frames
/// (9,000 bytes) fit; a longer packet is left to the library.
pub(crate) const SLOT_LEN: usize = 16 << 10;

/// Where payload and tag start in a slot.
pub(crate) const DATA_AT: usize = 256;

/// Longest header, in bytes, that a card is given: a short header has at most 25 (RFC 9000 section 17.3: one byte, 20 of connection
/// ID, four of packet number), and headers are padded to whole blocks of the cipher.
pub(crate) const HEADER_MAX: usize = 32;

/// Sessions of one key. The API fixes the length of what is only authenticated by session, so that each length of a header takes one of its
/// own. The connection ID keeps its length, the packet number has one of four.
pub(crate) const SESSIONS_PER_KEY: usize = 4;

/// How long a card may take for a batch before its instance is given up. A batch takes some tens of microseconds; a card that is
/// shared with other machines, a moment more. As long as this the worker stands still, once.
pub(crate) const ANSWER_MAX: Duration = Duration::from_millis(50);

/// Polls between two looks at the clock, which costs more than an empty poll.
pub(crate) const POLLS_PER_LOOK: u32 = 16;

/// Packets that are worth the way, until it is measured: one alone waits longer for the card's answer than a library works on it.
pub(crate) const BATCH_MIN: usize = 2;
