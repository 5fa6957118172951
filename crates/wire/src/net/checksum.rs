//! The Internet checksum (RFC 1071).

/// The sum of 16-bit words in the machine's byte order, not folded: sums of parts can be added as long as all parts but
/// the last have even length. The order of bytes does not matter for the result, as long as the folded sum is written
/// back in the same order (RFC 1071 section 2(B)).
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    // Independent lanes of 32-bit words in 64-bit sums: no carry to look after, and the compiler vectorizes it.
    const LANES: usize = 8;
    let mut lanes = [0u64; LANES];
    let mut blocks = bytes.chunks_exact(4 * LANES);
    for block in &mut blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<4>().0) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let mut total: u64 = lanes.iter().map(|lane| (lane & 0xffff_ffff) + (lane >> 32)).sum();
    let (words, rest) = blocks.remainder().as_chunks::<2>();
    total += words.iter().map(|word| u64::from(u16::from_ne_bytes(*word))).sum::<u64>();
    if let [last] = rest {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    total
}

/// The checksum of a sum: folded to 16 bits and complemented, in the machine's byte order.
#[inline]
pub fn fold(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}
