//! Packets of a batch.

use crate::TAG_LEN;

/// A packet that is to be sealed or opened, and what became of it.
#[derive(Debug)]
pub struct Job<'a> {
    /// Header, payload and tag, one behind the other. Before it is sealed, the last is room.
    pub packet: &'a mut [u8],
    /// Length of the header, in bytes.
    pub header_len: usize,
    /// The packet's number.
    pub number: u64,
    /// It was sealed, or opened and is authentic. One that is not authentic has zeros in the place of its payload; one that is too short for
    /// its header and a tag is left as it is.
    pub is_done: bool,
}

impl<'a> Job<'a> {
    /// A job that is not done yet.
    pub fn new(packet: &'a mut [u8], header_len: usize, number: u64) -> Self {
        Self { packet, header_len, number, is_done: false }
    }

    /// Header, payload and tag; `None` if the packet is too short.
    #[inline]
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn parts(&mut self) -> Option<(&[u8], &mut [u8], &mut [u8; TAG_LEN])> {
        let (header, rest) = self.packet.split_at_mut_checked(self.header_len)?;
        let (text, tag) = rest.split_last_chunk_mut()?;
        Some((header, text, tag))
    }
}

/// Whether two tags are the same; if not, `text` is wiped.
#[inline]
pub(crate) fn agree(expected: &[u8; TAG_LEN], tag: &[u8; TAG_LEN], text: &mut [u8]) -> bool {
    // The difference of all bytes, so that the time does not tell where the first is.
    let is_authentic = (u128::from_ne_bytes(*expected) ^ u128::from_ne_bytes(*tag)) == 0;
    if !is_authentic {
        text.fill(0);
    }
    is_authentic
}
