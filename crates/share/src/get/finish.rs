//! What can only be done when all files are there: second names of files, and the attributes of directories, which change whenever
//! something is put into them.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, linkat, openat};
use warpline_wire::Reader;

use super::pending::Pending;
use super::target::{LastParent, Target};
use crate::error::{ShareError, display_path};
use crate::manifest::{Entry, Kind, decode_entry, encode_entry};

const NAME: &str = "t-later";

/// Entries to come back to, on disk: each behind its length and in front of it, so that they can be read from either end.
pub(super) struct Later {
    file: File,
    len: u64,
    buffer: Vec<u8>,
}

/// Entries are written in pieces of this size.
const BUFFER_LEN: usize = 64 * 1024;

impl Later {
    pub(super) fn create(target: &Target) -> Result<Self, ShareError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&target.partial, NAME, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| ShareError::io(target.path().display(), "notes cannot be kept", e))?;
        Ok(Self { file: file.into(), len: 0, buffer: Vec::with_capacity(BUFFER_LEN + 8192) })
    }

    pub(super) fn push(&mut self, entry: &Entry) -> Result<(), ShareError> {
        let begin = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 4]);
        encode_entry(&mut self.buffer, entry, b"");
        let len = ((self.buffer.len() - begin - 4) as u32).to_be_bytes();
        self.buffer[begin..begin + 4].copy_from_slice(&len);
        self.buffer.extend_from_slice(&len);
        if self.buffer.len() >= BUFFER_LEN {
            return self.flush();
        }
        Ok(())
    }

    /// Writes out what is gathered.
    pub(super) fn flush(&mut self) -> Result<(), ShareError> {
        self.file.write_all_at(&self.buffer, self.len).map_err(|e| ShareError::io(NAME, "cannot be written", e))?;
        self.len += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Reads the entries back.
struct Notes {
    file: File,
    len: u64,
}

impl Notes {
    fn open(target: &Target) -> Result<Self, ShareError> {
        let error = |e: std::io::Error| ShareError::io(target.path().display(), "notes cannot be read", e);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&target.partial, NAME, flags, Mode::empty()).map_err(|e| error(e.into()))?;
        let file = File::from(file);
        let len = file.metadata().map_err(error)?.len();
        Ok(Self { file, len })
    }

    fn read(&self, at: u64, len: usize) -> Result<Vec<u8>, ShareError> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, at).map_err(|e| ShareError::io(NAME, "cannot be read", e))?;
        Ok(bytes)
    }

    fn entry(&self, at: u64, len: usize) -> Result<Entry, ShareError> {
        decode_entry(&mut Reader::new(&self.read(at, len)?), b"")
    }

    fn len_at(&self, at: u64) -> Result<usize, ShareError> {
        let bytes = self.read(at, 4)?;
        Ok(bytes.first_chunk().map_or(0, |b| u32::from_be_bytes(*b) as usize))
    }

    fn first(&self) -> Result<Option<Entry>, ShareError> {
        if self.len == 0 { Ok(None) } else { self.entry(4, self.len_at(0)?).map(Some) }
    }

    fn forwards(&self, mut each: impl FnMut(Entry) -> Result<(), ShareError>) -> Result<(), ShareError> {
        let mut at = 0;
        while at < self.len {
            let len = self.len_at(at)?;
            each(self.entry(at + 4, len)?)?;
            at += len as u64 + 8;
        }
        Ok(())
    }

    fn backwards(&self, mut each: impl FnMut(Entry) -> Result<(), ShareError>) -> Result<(), ShareError> {
        let mut end = self.len;
        while end > 0 {
            let len = self.len_at(end - 4)?;
            let begin = end - 8 - len as u64;
            each(self.entry(begin + 4, len)?)?;
            end = begin;
        }
        Ok(())
    }
}

/// Makes the links, sets the directories' attributes from the inside out, and removes what was kept for a next run.
pub(super) fn run(target: &Target, pending: &Pending) -> Result<(), ShareError> {
    let notes = Notes::open(target)?;
    let mut parent = LastParent::default();
    let mut source = LastParent::default();
    notes.forwards(|entry| match &entry.kind {
        Kind::HardLink { target: first } => link(target, pending, (&mut source, first), &mut parent, &entry),
        _ => Ok(()),
    })?;
    notes.backwards(|entry| {
        // The root is left for the end: what was kept for a next run is in it, and its mode may not allow to remove that.
        if entry.kind == Kind::Directory && !entry.path.is_empty() {
            let dir = target.directory(&entry.path)?;
            target.set_attributes(dir.as_fd(), &entry, pending)?;
        }
        Ok(())
    })?;
    target.remove_partial()?;
    if let Some(entry) = notes.first()?.filter(|entry| entry.path.is_empty()) {
        target.set_attributes(target.directory(b"")?.as_fd(), &entry, pending)?;
    }
    Ok(())
}

fn link(
    target: &Target,
    pending: &Pending,
    (source, first): (&mut LastParent, &[u8]),
    parent: &mut LastParent,
    entry: &Entry,
) -> Result<(), ShareError> {
    let (from, from_name) = target.parent(source, first)?;
    let (dir, name) = target.parent(parent, &entry.path)?;
    let original = target.stat(from, from_name)?;
    let Some(original) = original.filter(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile) else {
        pending.not_kept(&entry.path, format!("is a second name of {}, which is not there", display_path(first)));
        return Ok(());
    };
    if target.stat(dir, name)?.is_some_and(|s| (s.st_dev, s.st_ino) == (original.st_dev, original.st_ino)) {
        return Ok(());
    }
    let temporary = target.temporary();
    linkat(from, from_name, &target.partial, &temporary[..], AtFlags::empty())
        .map_err(|e| ShareError::io(target.shown(&entry.path), "the second name cannot be made", e))?;
    target.place(&temporary, dir, name, entry)
}
