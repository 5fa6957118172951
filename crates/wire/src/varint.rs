//! Variable-length integers (RFC 9000 section 16).

/// Largest value that a variable-length integer can carry.
pub const MAX: u64 = (1 << 62) - 1;

/// Bytes that `value` takes: 1, 2, 4 or 8.
#[inline]
pub const fn len(value: u64) -> usize {
    if value < 1 << 6 {
        1
    } else if value < 1 << 14 {
        2
    } else if value < 1 << 30 {
        4
    } else {
        8
    }
}

/// The integer at the front of `bytes` and the bytes it takes; `None` when it is cut off.
#[inline]
pub fn decode(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    Some(match first >> 6 {
        0 => (u64::from(first), 1),
        1 => (u64::from(u16::from_be_bytes(*bytes.first_chunk()?) & 0x3fff), 2),
        2 => (u64::from(u32::from_be_bytes(*bytes.first_chunk()?) & 0x3fff_ffff), 4),
        _ => (u64::from_be_bytes(*bytes.first_chunk()?) & MAX, 8),
    })
}

/// Writes `value`, at most [`MAX`], to the front of `out` and returns the bytes it took.
///
/// # Panics
/// When `out` is too short.
#[inline]
pub fn encode(value: u64, out: &mut [u8]) -> usize {
    debug_assert!(value <= MAX, "a variable-length integer has 62 bits");
    match len(value) {
        1 => {
            out[0] = value as u8;
            1
        }
        2 => {
            out[..2].copy_from_slice(&(0x4000 | value as u16).to_be_bytes());
            2
        }
        4 => {
            out[..4].copy_from_slice(&(0x8000_0000 | value as u32).to_be_bytes());
            4
        }
        _ => {
            out[..8].copy_from_slice(&(0xc000_0000_0000_0000 | value).to_be_bytes());
            8
        }
    }
}
