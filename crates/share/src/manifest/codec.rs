//! Entries to bytes and back. The path is coded as the difference to the entry before.

use warpline_wire::Reader;

use super::order::comes_after;
use super::{Entry, Kind, Mtime};
use crate::error::{ShareError, display_path};
use crate::limits::{DEPTH_MAX, FILE_LEN_MAX, NAME_MAX, PATH_MAX, XATTRS_LEN_MAX};
use crate::message::{put_bytes, put_varint};

const DIRECTORY: u8 = 0;
const FILE: u8 = 1;
const SYMLINK: u8 = 2;
const HARD_LINK: u8 = 3;

/// Name of the directory in which a receiver keeps what is not yet complete; no share may use it.
pub const PARTIAL_DIR: &[u8] = b".warpline-partial";

/// Appends `entry`; `previous` is the path of the entry before.
pub fn encode_entry(out: &mut Vec<u8>, entry: &Entry, previous: &[u8]) {
    let shared = entry.path.iter().zip(previous).take_while(|(a, b)| a == b).count();
    put_varint(out, shared as u64);
    put_bytes(out, &entry.path[shared..]);
    match &entry.kind {
        Kind::Directory => out.push(DIRECTORY),
        Kind::File { size } => {
            out.push(FILE);
            put_varint(out, *size);
        }
        Kind::Symlink { target } => {
            out.push(SYMLINK);
            put_bytes(out, target);
        }
        Kind::HardLink { target } => {
            out.push(HARD_LINK);
            put_bytes(out, target);
        }
    }
    out.extend_from_slice(&entry.mode.to_be_bytes());
    out.extend_from_slice(&entry.mtime.seconds.to_be_bytes());
    out.extend_from_slice(&entry.mtime.nanos.to_be_bytes());
    put_varint(out, entry.xattrs.len() as u64);
    for (name, value) in &entry.xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

/// The next entry. Everything that can be told from one entry alone is checked here.
///
/// # Errors
/// [`ShareError::Peer`] for bytes that are no entry and for entries that no honest host sends.
pub fn decode_entry(r: &mut Reader<'_>, previous: &[u8]) -> Result<Entry, ShareError> {
    read(r, previous).unwrap_or_else(|| Err(ShareError::peer("the list of files is cut off or damaged")))
}

fn read(r: &mut Reader<'_>, previous: &[u8]) -> Option<Result<Entry, ShareError>> {
    let shared = usize::try_from(r.varint().ok()?).ok()?;
    let mut path = previous.get(..shared)?.to_vec();
    path.extend_from_slice(bytes(r, PATH_MAX)?);
    if let Err(why) = check_path(&path) {
        return Some(Err(hostile(&path, why)));
    }
    let kind = match r.u8().ok()? {
        DIRECTORY => Kind::Directory,
        FILE => {
            // A variable-length integer cannot exceed the largest file offset.
            const { assert!(warpline_wire::varint::MAX <= FILE_LEN_MAX) };
            Kind::File { size: r.varint().ok()? }
        }
        SYMLINK => {
            let target = bytes(r, PATH_MAX)?.to_vec();
            if target.is_empty() || target.contains(&0) {
                return Some(Err(hostile(&path, "is a link to nowhere")));
            }
            Kind::Symlink { target }
        }
        HARD_LINK => {
            let target = bytes(r, PATH_MAX)?.to_vec();
            if target.is_empty() || check_path(&target).is_err() || !comes_after(&path, &target) {
                return Some(Err(hostile(&path, "is a second name of something outside the share")));
            }
            Kind::HardLink { target }
        }
        _ => return None,
    };
    if path.is_empty() && !matches!(kind, Kind::Directory) {
        return Some(Err(hostile(&path, "has no name")));
    }
    let mode = r.u16().ok()?;
    let mtime = Mtime { seconds: r.u64().ok()? as i64, nanos: r.u32().ok()? };
    if mode > 0o7777 || mtime.nanos >= 1_000_000_000 {
        return Some(Err(hostile(&path, "has impossible attributes")));
    }
    let xattrs = read_xattrs(r)?;
    Some(Ok(Entry { path, kind, mode, mtime, xattrs }))
}

fn read_xattrs(r: &mut Reader<'_>) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let count = r.varint().ok()?;
    let mut total = 0;
    let mut out = Vec::new();
    for _ in 0..count {
        let (name, value) = (bytes(r, NAME_MAX)?, bytes(r, XATTRS_LEN_MAX)?);
        total += name.len() + value.len() + 1;
        if total > XATTRS_LEN_MAX || name.is_empty() || name.contains(&0) {
            return None;
        }
        out.push((name.to_vec(), value.to_vec()));
    }
    Some(out)
}

fn bytes<'a>(r: &mut Reader<'a>, max: usize) -> Option<&'a [u8]> {
    let len = usize::try_from(r.varint().ok()?).ok().filter(|len| *len <= max)?;
    r.bytes(len).ok()
}

/// A path that stays below the root whatever it is appended to.
fn check_path(path: &[u8]) -> Result<(), &'static str> {
    if path.is_empty() {
        return Ok(());
    }
    if path.len() > PATH_MAX - 1 {
        return Err("has a path that is too long");
    }
    if path.contains(&0) {
        return Err("has a zero byte in its name");
    }
    let mut depth = 0;
    for name in path.split(|b| *b == b'/') {
        depth += 1;
        match name {
            b"" => return Err("has an empty name in its path"),
            b"." | b".." => return Err("leads out of the share"),
            _ if name.len() > NAME_MAX => return Err("has a name that is too long"),
            _ => {}
        }
    }
    if depth > DEPTH_MAX {
        return Err("lies too deep");
    }
    if path.split(|b| *b == b'/').next() == Some(PARTIAL_DIR) {
        return Err("uses a name that is reserved for incomplete files");
    }
    Ok(())
}

fn hostile(path: &[u8], why: &str) -> ShareError {
    ShareError::peer(format!("the entry \"{}\" {why}", display_path(path)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &[u8]) -> Entry {
        let kind = Kind::File { size: 7 };
        Entry { path: path.to_vec(), kind, mode: 0o644, mtime: Mtime { seconds: -5, nanos: 9 }, xattrs: Vec::new() }
    }

    fn code(entry: &Entry) -> Vec<u8> {
        let mut out = Vec::new();
        encode_entry(&mut out, entry, b"");
        out
    }

    proptest! {
        #[test]
        fn entries_read_back(
            name in prop::collection::vec(any::<u8>().prop_filter("a name", |b| *b != 0 && *b != b'/'), 1..40),
            mode in 0u16..0o10000, seconds in any::<i64>(), nanos in 0u32..1_000_000_000,
            xattrs in prop::collection::vec((prop::collection::vec(1u8..255, 1..20), prop::collection::vec(any::<u8>(), 0..50)), 0..4),
            kind in 0..3, size in 0..=warpline_wire::varint::MAX,
        ) {
            prop_assume!(name != b"." && name != b".." && name != PARTIAL_DIR);
            let kind = match kind { 0 => Kind::Directory, 1 => Kind::File { size }, _ => Kind::Symlink { target: name.clone() } };
            let entry = Entry { path: name, kind, mode, mtime: Mtime { seconds, nanos }, xattrs };
            let bytes = code(&entry);
            let mut r = Reader::new(&bytes);
            prop_assert_eq!(decode_entry(&mut r, b"").unwrap(), entry);
            prop_assert!(r.is_empty());
            for cut in 0..bytes.len() {
                prop_assert!(decode_entry(&mut Reader::new(&bytes[..cut]), b"").is_err());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), previous in prop::collection::vec(any::<u8>(), 0..50)) {
            let _ = decode_entry(&mut Reader::new(&bytes), &previous);
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        let long = [b'x'; 300];
        let traps: [&[u8]; 12] = [
            b"..",
            b"../x",
            b"a/../b",
            b"a/..",
            b"/etc/passwd",
            b"a//b",
            b"a/",
            b".",
            b"a/./b",
            b"a\0b",
            &long,
            b".warpline-partial/x",
        ];
        for path in traps {
            let error = decode_entry(&mut Reader::new(&code(&file(path))), b"").unwrap_err();
            assert!(matches!(error, ShareError::Peer(_)), "{}", display_path(path));
        }
    }

    #[test]
    fn hard_links_lead_to_earlier_names_only() {
        for target in [&b"../x"[..], b"/etc/passwd", b"z", b"b", b""] {
            let entry = Entry { kind: Kind::HardLink { target: target.to_vec() }, ..file(b"b") };
            assert!(decode_entry(&mut Reader::new(&code(&entry)), b"").is_err());
        }
        let entry = Entry { kind: Kind::HardLink { target: b"a".to_vec() }, ..file(b"b") };
        assert!(decode_entry(&mut Reader::new(&code(&entry)), b"").is_ok());
        // As bytes the first name is the greater one; in the order of the list it comes first.
        let entry = Entry { kind: Kind::HardLink { target: b"a/b".to_vec() }, ..file(b"a.txt") };
        assert!(decode_entry(&mut Reader::new(&code(&entry)), b"").is_ok());
    }
}
