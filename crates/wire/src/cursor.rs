//! Cursors over bytes: one that reads and never panics, one that writes into room that the caller has checked.

use crate::varint;

/// The bytes ended before the value did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

impl core::fmt::Display for Truncated {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("cut off")
    }
}

impl core::error::Error for Truncated {}

/// Reads from the front of a slice. A read that fails leaves it as it was.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    /// What is left. (With an index instead, every read would check two bounds.)
    rest: &'a [u8],
    total: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of `bytes`.
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, total: bytes.len() }
    }

    /// Bytes read so far.
    #[inline]
    pub const fn position(&self) -> usize {
        self.total - self.rest.len()
    }

    /// Bytes left.
    #[inline]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// True when everything was read.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `n` bytes.
    #[inline]
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], Truncated> {
        let (out, rest) = self.rest.split_at_checked(n).ok_or(Truncated)?;
        self.rest = rest;
        Ok(out)
    }

    /// The next `N` bytes as an array.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let (out, rest) = self.rest.split_first_chunk().ok_or(Truncated)?;
        self.rest = rest;
        Ok(*out)
    }

    /// The next byte, without moving on.
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Moves over the zero bytes at the front and returns how many there were. An Initial packet has about a thousand of
    /// them, so it goes by sixteen.
    pub(crate) fn skip_zeros(&mut self) -> usize {
        let blocks = self.rest.as_chunks::<16>().0.iter().take_while(|block| u128::from_ne_bytes(**block) == 0).count();
        let zeros = blocks * 16 + self.rest.iter().skip(blocks * 16).take_while(|byte| **byte == 0).count();
        self.rest = self.rest.get(zeros..).unwrap_or_default();
        zeros
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.array::<1>().map(|[b]| b)
    }

    /// Two bytes, big-endian.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes, big-endian.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, Truncated> {
        self.array().map(u64::from_be_bytes)
    }

    /// A variable-length integer.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Truncated> {
        let (value, len) = varint::decode(self.rest).ok_or(Truncated)?;
        self.rest = self.rest.get(len..).ok_or(Truncated)?;
        Ok(value)
    }

    /// Everything that is left.
    #[inline]
    pub fn rest(&mut self) -> &'a [u8] {
        let (out, end) = self.rest.split_at(self.rest.len());
        self.rest = end;
        out
    }
}

/// Writes to the front of a slice.
///
/// Every method panics when the room is too small: the caller asks [`remaining`](Self::remaining) first. A packet builder
/// always knows what a frame takes at most, so this is a bug and never the peer's doing.
#[derive(Debug)]
pub struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// A writer at the beginning of `bytes`.
    #[inline]
    pub const fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes written so far.
    #[inline]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// Bytes of room left.
    #[inline]
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Copies `bytes`.
    #[inline]
    pub fn slice(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self, value: u8) {
        self.bytes[self.at] = value;
        self.at += 1;
    }

    /// Two bytes, big-endian.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.slice(&value.to_be_bytes());
    }

    /// Four bytes, big-endian.
    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.slice(&value.to_be_bytes());
    }

    /// Eight bytes, big-endian.
    #[inline]
    pub fn u64(&mut self, value: u64) {
        self.slice(&value.to_be_bytes());
    }

    /// A variable-length integer in its shortest form.
    #[inline]
    pub fn varint(&mut self, value: u64) {
        self.at += varint::encode(value, &mut self.bytes[self.at..]);
    }

    /// A variable-length integer below 2^14 in two bytes, for a length that is patched later.
    #[inline]
    pub fn varint2(&mut self, value: u64) {
        debug_assert!(value < 1 << 14, "a two-byte integer has 14 bits");
        self.u16(0x4000 | value as u16);
    }

    /// Overwrites a two-byte integer at position `at`.
    #[inline]
    pub fn patch_varint2(&mut self, at: usize, value: u64) {
        debug_assert!(value < 1 << 14, "a two-byte integer has 14 bits");
        self.bytes[at..at + 2].copy_from_slice(&(0x4000 | value as u16).to_be_bytes());
    }

    /// `n` zero bytes: PADDING frames.
    #[inline]
    pub fn zeros(&mut self, n: usize) {
        self.bytes[self.at..self.at + n].fill(0);
        self.at += n;
    }

    /// Leaves `n` bytes as they are.
    #[inline]
    pub fn skip(&mut self, n: usize) {
        assert!(n <= self.remaining(), "skipped beyond the room");
        self.at += n;
    }

    /// What was written.
    #[inline]
    pub fn written(&self) -> &[u8] {
        &self.bytes[..self.at]
    }

    /// What was written, to change it.
    #[inline]
    pub fn written_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.at]
    }
}
