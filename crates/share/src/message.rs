//! Messages on the streams of a share: a length of four bytes, a kind, and what belongs to it. The page
//! `docs/share-protocol.md` has the whole protocol.

use warpline_wire::{Reader, varint};

use crate::chunks::{Lengths, Sum};
use crate::error::ShareError;
use crate::limits::{EXTENTS_MAX, GROUP_LEN, MESSAGE_LEN_MAX, PART_LEN, PATH_MAX};
use crate::manifest::Mtime;

/// The version of the protocol.
pub const VERSION: u32 = 1;
/// The application protocol (ALPN).
pub const ALPN: &[u8] = b"warpline-share/1";

/// Kinds of messages.
pub mod kind {
    /// Receiver: version and proof.
    pub const HELLO: u8 = 1;
    /// Host: version and proof.
    pub const WELCOME: u8 = 2;
    /// Host: why the receiver is turned away.
    pub const REFUSE: u8 = 3;
    /// Host: entries of the manifest.
    pub const ENTRIES: u8 = 4;
    /// Host: something that cannot be shared.
    pub const SKIPPED: u8 = 5;
    /// Host: the manifest is complete.
    pub const LIST_END: u8 = 6;
    /// Receiver: wants bytes of a file.
    pub const WANT: u8 = 7;
    /// Host: bytes of a file.
    pub const PART: u8 = 8;
    /// Host: a want is served.
    pub const SERVED: u8 = 9;
    /// Host: a want cannot be served.
    pub const FAILED: u8 = 10;
    /// Receiver: wants to know the chunks of a file.
    pub const COMPARE: u8 = 11;
    /// Receiver: knows enough of a file's chunks.
    pub const ENOUGH: u8 = 12;
    /// Host: chunks of a file.
    pub const CHUNKS: u8 = 13;
    /// Host: no more chunks of a file come.
    pub const COMPARED: u8 = 14;
}

/// Bytes of a file that a receiver wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Chosen by the receiver; what comes for it bears it.
    pub id: u64,
    /// The file.
    pub path: Vec<u8>,
    /// The size it has in the manifest.
    pub size: u64,
    /// The time of change it has in the manifest.
    pub mtime: Mtime,
    /// First byte, at a group's beginning.
    pub start: u64,
    /// Byte after the last, at a group's end or the file's.
    pub end: u64,
    /// What the host shall do beyond sending them.
    pub also: Also,
}

/// What a receiver asks for beyond bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Also {
    /// The hash of the whole file, although not all of it is asked for: the receiver has the rest from an earlier run and must know
    /// that it belongs to the same version.
    pub root: bool,
    /// The values are computed anew: what came before did not match those that the host may have remembered.
    pub anew: bool,
}

impl Also {
    fn to_byte(self) -> u8 {
        u8::from(self.root) | u8::from(self.anew) << 1
    }

    fn from_byte(byte: u8) -> Option<Self> {
        (byte < 4).then_some(Self { root: byte & 1 != 0, anew: byte & 2 != 0 })
    }
}

/// A file whose chunks a receiver wants to know, since it has an older version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// As in wants for the file.
    pub id: u64,
    /// The file.
    pub path: Vec<u8>,
    /// The size it has in the manifest.
    pub size: u64,
    /// The time of change it has in the manifest.
    pub mtime: Mtime,
    /// How the ends of chunks are found, see `chunks::METHOD`.
    pub method: u8,
    /// How long they are.
    pub lengths: Lengths,
}

/// Bytes of a file, at most [`PART_LEN`], within one part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The want that it serves.
    pub id: u64,
    /// First byte.
    pub start: u64,
    /// Length, holes included.
    pub len: usize,
    /// Chaining value of each group; the hash itself where the file is one group.
    pub values: &'a [u8],
    /// Where in the range there is data: start and length, relative to the part.
    pub extents: Vec<(u32, u32)>,
    /// The data of the extents, one behind the other.
    pub data: &'a [u8],
}

/// Appends a variable-length integer.
pub fn put_varint(out: &mut Vec<u8>, value: u64) {
    let mut bytes = [0; 8];
    let len = varint::encode(value, &mut bytes);
    out.extend_from_slice(&bytes[..len]);
}

/// Appends bytes behind their length.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Bytes behind their length, at most `max`.
pub fn take_bytes<'a>(r: &mut Reader<'a>, max: usize) -> Option<&'a [u8]> {
    let len = usize::try_from(r.varint().ok()?).ok().filter(|len| *len <= max)?;
    r.bytes(len).ok()
}

/// A message of `kind` with what `body` appends.
pub fn message(kind: u8, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 0, kind];
    body(&mut out);
    let len = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&len.to_be_bytes());
    out
}

/// The length that the first four bytes of a message announce.
pub fn message_len(header: [u8; 4]) -> Result<usize, ShareError> {
    let len = u32::from_be_bytes(header) as usize;
    if (1..=MESSAGE_LEN_MAX).contains(&len) { Ok(len) } else { Err(ShareError::peer("a message of impossible length")) }
}

/// The kinds and bodies of the messages in `bytes`, which holds whole ones.
pub fn messages(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (header, behind) = rest.split_first_chunk()?;
        let (message, behind) = behind.split_at_checked(u32::from_be_bytes(*header) as usize)?;
        rest = behind;
        message.split_first().map(|(kind, body)| (*kind, body))
    })
}

impl Want {
    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        message(kind::WANT, |out| {
            put_varint(out, self.id);
            put_bytes(out, &self.path);
            put_varint(out, self.size);
            out.extend_from_slice(&self.mtime.seconds.to_be_bytes());
            out.extend_from_slice(&self.mtime.nanos.to_be_bytes());
            put_varint(out, self.start);
            put_varint(out, self.end);
            out.push(self.also.to_byte());
        })
    }

    /// The want in a message's body.
    pub fn decode(body: &[u8]) -> Result<Self, ShareError> {
        let read = || {
            let mut r = Reader::new(body);
            let want = Self {
                id: r.varint().ok()?,
                path: take_bytes(&mut r, PATH_MAX)?.to_vec(),
                size: r.varint().ok()?,
                mtime: Mtime { seconds: r.u64().ok()? as i64, nanos: r.u32().ok()? },
                start: r.varint().ok()?,
                end: r.varint().ok()?,
                also: Also::from_byte(r.u8().ok()?)?,
            };
            let group = GROUP_LEN as u64;
            let whole_groups =
                want.start.is_multiple_of(group) && (want.end.is_multiple_of(group) || want.end == want.size);
            (r.is_empty() && whole_groups && want.start < want.end && want.end <= want.size).then_some(want)
        };
        read().ok_or_else(|| ShareError::peer("a request for bytes that cannot be read"))
    }
}

impl Compare {
    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        message(kind::COMPARE, |out| {
            put_varint(out, self.id);
            put_bytes(out, &self.path);
            put_varint(out, self.size);
            out.extend_from_slice(&self.mtime.seconds.to_be_bytes());
            out.extend_from_slice(&self.mtime.nanos.to_be_bytes());
            out.extend_from_slice(&[self.method, self.lengths.bits()]);
        })
    }

    /// The request in a message's body.
    pub fn decode(body: &[u8]) -> Result<Self, ShareError> {
        let read = || {
            let mut r = Reader::new(body);
            let compare = Self {
                id: r.varint().ok()?,
                path: take_bytes(&mut r, PATH_MAX)?.to_vec(),
                size: r.varint().ok()?,
                mtime: Mtime { seconds: r.u64().ok()? as i64, nanos: r.u32().ok()? },
                method: r.u8().ok()?,
                lengths: Lengths::from_bits(r.u8().ok()?)?,
            };
            (r.is_empty() && compare.size > 0).then_some(compare)
        };
        read().ok_or_else(|| ShareError::peer("a request for chunks that cannot be read"))
    }
}

/// The number in the body of a message that holds nothing else.
pub fn decode_id(body: &[u8]) -> Result<u64, ShareError> {
    let mut r = Reader::new(body);
    let id = r.varint().ok().filter(|_| r.is_empty());
    id.ok_or_else(|| ShareError::peer("a notice that cannot be read"))
}

/// Appends a chunk to the body of a [`kind::CHUNKS`] message, behind the number of its file.
pub fn put_chunk(out: &mut Vec<u8>, len: u32, sum: &Sum) {
    put_varint(out, len.into());
    out.extend_from_slice(sum);
}

/// The next chunk in the body of such a message.
pub fn take_chunk(r: &mut Reader<'_>) -> Option<(u32, Sum)> {
    Some((u32::try_from(r.varint().ok()?).ok()?, r.array().ok()?))
}

impl<'a> Part<'a> {
    /// The part in a message's body. All lengths agree with one another afterwards.
    pub fn decode(body: &'a [u8]) -> Result<Self, ShareError> {
        let read = || {
            let mut r = Reader::new(body);
            let (id, start) = (r.varint().ok()?, r.varint().ok()?);
            let len = usize::try_from(r.varint().ok()?).ok().filter(|len| (1..=PART_LEN).contains(len))?;
            let values = r.bytes(len.div_ceil(GROUP_LEN) * 32).ok()?;
            let count = usize::try_from(r.varint().ok()?).ok().filter(|n| *n <= EXTENTS_MAX)?;
            let mut extents = Vec::with_capacity(count);
            let (mut at, mut bytes) = (0, 0);
            for _ in 0..count {
                let (from, extent) = (usize::try_from(r.varint().ok()?).ok()?, usize::try_from(r.varint().ok()?).ok()?);
                let end = from.checked_add(extent)?;
                if from < at || extent == 0 || end > len {
                    return None;
                }
                at = end;
                bytes += extent;
                extents.push((from as u32, extent as u32));
            }
            let within =
                start % PART_LEN as u64 + len as u64 <= PART_LEN as u64 && start.is_multiple_of(GROUP_LEN as u64);
            let data = r.rest();
            (within && data.len() == bytes).then_some(Self { id, start, len, values, extents, data })
        };
        read().ok_or_else(|| ShareError::peer("a part of a file that cannot be read"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Want::decode(&bytes);
            let _ = Part::decode(&bytes);
            let _ = Compare::decode(&bytes);
            let _ = decode_id(&bytes);
            let mut r = Reader::new(&bytes);
            while take_chunk(&mut r).is_some() {}
        }
    }

    #[test]
    fn wants_read_back_and_must_be_whole_groups() {
        let also = Also { root: true, anew: false };
        let (path, mtime) = (b"a/b".to_vec(), Mtime::default());
        let want = Want { id: 9, path, size: 50_000, mtime, start: 16384, end: 50_000, also };
        assert_eq!(Want::decode(&want.encode()[5..]).unwrap(), want);
        for (start, end) in [(1, 50_000), (0, 100), (0, 50_001), (16384, 16384)] {
            assert!(Want::decode(&Want { start, end, ..want.clone() }.encode()[5..]).is_err());
        }
    }

    #[test]
    fn requests_for_chunks_read_back() {
        let lengths = Lengths::for_size(1 << 33).unwrap();
        let compare =
            Compare { id: 3, path: b"a".to_vec(), size: 1 << 33, mtime: Mtime::default(), method: 1, lengths };
        let message = compare.encode();
        assert_eq!(Compare::decode(&message[5..]).unwrap(), compare);
        assert!(Compare::decode(&message[5..message.len() - 1]).is_err());
        assert!(Compare::decode(&Compare { size: 0, ..compare }.encode()[5..]).is_err());
        assert_eq!(decode_id(&[9]).unwrap(), 9);
        assert!(decode_id(&[9, 9]).is_err());
    }
}
