//! Parsers of what sharing says, and of what is kept in files.

use core::time::Duration;

use warpline_proto::config::ClientMemory;
use warpline_share::manifest::{OrderCheck, decode_entry, encode_entry};
use warpline_share::message::{self, Compare, Part, Want, kind};
use warpline_wire::Reader;

/// A manifest: entries that are accepted stay below the root, in order, and read back the same.
pub fn manifest(data: &[u8]) {
    let mut reader = Reader::new(data);
    let (mut order, mut previous) = (OrderCheck::default(), Vec::new());
    while !reader.is_empty() {
        let Ok(entry) = decode_entry(&mut reader, &previous) else { return };
        assert!(!entry.path.starts_with(b"/"));
        assert!(entry.path.split(|b| *b == b'/').all(|name| name != b".." && name != b"."));
        let mut bytes = Vec::new();
        encode_entry(&mut bytes, &entry, &previous);
        assert!(decode_entry(&mut Reader::new(&bytes), &previous).is_ok_and(|again| again == entry));
        if order.check(&entry).is_err() {
            return;
        }
        previous = entry.path;
    }
}

/// A message of a share, its kind first: requests read back the same, the lengths in a part agree, and lists of chunks end.
pub fn share_messages(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    match *kind {
        kind::WANT => {
            let Ok(want) = Want::decode(body) else { return };
            assert!(want.start < want.end && want.end <= want.size);
            assert!(
                message::messages(&want.encode()).all(|(_, body)| Want::decode(body).is_ok_and(|again| again == want))
            );
        }
        kind::COMPARE => {
            let Ok(compare) = Compare::decode(body) else { return };
            let bytes = compare.encode();
            assert!(
                message::messages(&bytes).all(|(_, body)| Compare::decode(body).is_ok_and(|again| again == compare))
            );
        }
        kind::PART => {
            let Ok(part) = Part::decode(body) else { return };
            let ends = part.extents.iter().map(|(from, len)| (*from as usize, *from as usize + *len as usize));
            let last = ends.fold(0, |before, (from, end)| {
                assert!(before <= from && from < end, "extents follow one another");
                end
            });
            assert!(last <= part.len);
            assert_eq!(part.extents.iter().map(|(_, len)| *len as usize).sum::<usize>(), part.data.len());
        }
        kind::ENOUGH => _ = message::decode_id(body),
        kind::CHUNKS => {
            let mut reader = Reader::new(body);
            while let Some((len, sum)) = message::take_chunk(&mut reader) {
                let mut bytes = Vec::new();
                message::put_chunk(&mut bytes, len, &sum);
                assert_eq!(message::take_chunk(&mut Reader::new(&bytes)), Some((len, sum)));
            }
        }
        _ => {
            let inside: usize = message::messages(body).map(|(_, body)| 5 + body.len()).sum();
            assert!(inside <= body.len(), "messages lie within what holds them");
        }
    }
}

/// What a client remembers of servers, without the digest at its end, which is made here: eight bytes are the time, the rest is the file.
/// A memory that is accepted is written and read back the same.
pub fn client_memory(data: &[u8]) {
    let Some((now, body)) = data.split_first_chunk() else { return };
    let now = Duration::from_secs(u64::from_be_bytes(*now));
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    let memory = ClientMemory::new(100);
    let Ok(came) = memory.import(&[body, digest.as_ref()].concat(), now) else { return };
    let kept = memory.stats();
    assert!(kept.servers <= came.servers && kept.sessions <= came.sessions && kept.tokens <= came.tokens);
    let written = memory.export(now);
    assert!(memory.import(&written, now).is_ok_and(|again| again == kept));
    assert_eq!(memory.export(now), written);
}
