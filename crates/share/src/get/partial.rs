//! A large file that is on its way: its data so far, and the record of which parts of it are verified.
//!
//! The record is a file of its own with 32 bytes for each part: the part's chaining value once its data was verified and written, zeros
//! before. A part is recorded after its data went to the system, so whatever kills the process leaves a record
//! that is true. After a crash of the machine, which may have lost data that the record already claims, every
//! recorded part is read and verified against its value.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, Mode, OFlags, SeekFrom, openat, seek, unlinkat};
use rustix::io::Errno;

use super::boot::{BOOT_LEN, boot_id};
use super::target::Target;
use crate::error::ShareError;
use crate::hash::{self, Combiner, Value};
use crate::limits::{GROUP_LEN, PART_LEN};
use crate::manifest::Entry;

/// In front of the record: the boot in which it was written.
const HEADER_LEN: u64 = BOOT_LEN as u64;
const VALUE_LEN: u64 = 32;
/// The record is read in pieces of this length, whole values.
const RECORD_PIECE: usize = 32 * 1024;
const ABSENT: Value = [0; 32];

/// A file of several parts that is not complete.
#[derive(Debug)]
pub(super) struct Partial {
    data: File,
    record: File,
    name: String,
    size: u64,
    missing: u64,
}

impl Partial {
    /// Opens what an earlier run left of the file, or begins anew. The name is derived from path, size and time of change, so what is
    /// left of another version of the file is never mixed in.
    pub(super) fn open(target: &Target, entry: &Entry, size: u64) -> Result<Self, ShareError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&entry.path);
        hasher.update(&size.to_be_bytes());
        hasher.update(&entry.mtime.seconds.to_be_bytes());
        hasher.update(&entry.mtime.nanos.to_be_bytes());
        let name = hasher.finalize().to_hex()[..32].to_owned();
        let open = |suffix: &str| {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(&target.partial, format!("{name}.{suffix}"), flags, Mode::RUSR | Mode::WUSR)
                .map(File::from)
                .map_err(|e| ShareError::io(target.shown(&entry.path), "cannot be begun", e))
        };
        let (data, record) = (open("data")?, open("record")?);
        let mut partial = Self { data, record, name, size, missing: 0 };
        partial.prepare().map_err(|e| ShareError::io(target.shown(&entry.path), "cannot be begun", e))?;
        Ok(partial)
    }

    fn parts(&self) -> u64 {
        self.size.div_ceil(PART_LEN as u64)
    }

    /// Length of a part.
    pub(super) fn part_len(&self, part: u64) -> usize {
        (self.size - part * PART_LEN as u64).min(PART_LEN as u64) as usize
    }

    fn prepare(&mut self) -> std::io::Result<()> {
        let boot = boot_id();
        let record_len = HEADER_LEN + self.parts() * VALUE_LEN;
        let mut written_in = [0; HEADER_LEN as usize];
        let known = self.record.metadata()?.len() == record_len && self.data.metadata()?.len() == self.size;
        if !known {
            self.record.set_len(0)?;
            self.record.set_len(record_len)?;
            self.data.set_len(0)?;
            self.data.set_len(self.size)?;
        } else {
            self.record.read_exact_at(&mut written_in, 0)?;
            if written_in != boot {
                self.recheck()?;
            }
        }
        self.record.write_all_at(&boot, 0)?;
        self.missing = self.missing_parts()?.iter().map(|(from, to)| to - from).sum();
        Ok(())
    }

    /// Keeps of the record only what the data bears out.
    fn recheck(&self) -> std::io::Result<()> {
        let mut buffer = vec![0; PART_LEN];
        self.recorded(|part, recorded| {
            let bytes = &mut buffer[..self.part_len(part)];
            self.data.read_exact_at(bytes, part * PART_LEN as u64)?;
            let groups: Vec<Value> = bytes
                .chunks(GROUP_LEN)
                .enumerate()
                .map(|(i, g)| hash::group_value(part * PART_LEN as u64 + (i * GROUP_LEN) as u64, g, self.size))
                .collect();
            if hash::part_value(&groups, false) != *recorded {
                self.record.write_all_at(&ABSENT, HEADER_LEN + part * VALUE_LEN)?;
            }
            Ok(())
        })
    }

    /// Passes the parts that are recorded to `each`, in order. Costs what is recorded, not what the file's size claims: the record is
    /// as sparse as the data.
    fn recorded(&self, mut each: impl FnMut(u64, &Value) -> std::io::Result<()>) -> std::io::Result<()> {
        let end = HEADER_LEN + self.parts() * VALUE_LEN;
        let mut buffer = vec![0; RECORD_PIECE];
        let mut at = HEADER_LEN;
        while at < end {
            let data = match seek(&self.record, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(Errno::NXIO) => break,
                // A file system that cannot tell has data everywhere.
                Err(_) => at,
            };
            let first = data.saturating_sub(HEADER_LEN) / VALUE_LEN;
            at = HEADER_LEN + first * VALUE_LEN;
            let piece = &mut buffer[..(end - at).min(RECORD_PIECE as u64) as usize];
            self.record.read_exact_at(piece, at)?;
            at += piece.len() as u64;
            for (part, value) in (first..).zip(hash::values(piece)).filter(|(_, value)| **value != ABSENT) {
                each(part, value)?;
            }
        }
        Ok(())
    }

    fn value(&self, part: u64) -> std::io::Result<Value> {
        let mut value = ABSENT;
        self.record.read_exact_at(&mut value, HEADER_LEN + part * VALUE_LEN)?;
        Ok(value)
    }

    /// Runs of parts that are missing: first, and the one after the last.
    pub(super) fn missing_parts(&self) -> std::io::Result<Vec<(u64, u64)>> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut next = 0;
        self.recorded(|part, _| {
            if part > next {
                runs.push((next, part));
            }
            next = part + 1;
            Ok(())
        })?;
        if next < self.parts() {
            runs.push((next, self.parts()));
        }
        Ok(runs)
    }

    /// Bytes that are there.
    pub(super) fn bytes_there(&self) -> std::io::Result<u64> {
        let missing: u64 = self
            .missing_parts()?
            .iter()
            .map(|(from, to)| (to * PART_LEN as u64).min(self.size) - from * PART_LEN as u64)
            .sum();
        Ok(self.size - missing)
    }

    /// Writes verified data.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.data.write_all_at(data, offset)
    }

    /// All groups of the part are verified and written. False when it was recorded before.
    pub(super) fn record(&mut self, part: u64, value: &Value) -> std::io::Result<bool> {
        let fresh = self.value(part)? == ABSENT;
        self.record.write_all_at(value, HEADER_LEN + part * VALUE_LEN)?;
        self.missing -= u64::from(fresh);
        Ok(fresh)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// The hash of the whole, from the values of its parts, which are all there.
    pub(super) fn root(&self) -> std::io::Result<Value> {
        let mut combiner = Combiner::default();
        self.recorded(|_, value| {
            combiner.push(*value);
            Ok(())
        })?;
        Ok(combiner.root())
    }

    /// Begins anew: what is there belongs to no single version of the file.
    pub(super) fn forget(&mut self) -> std::io::Result<()> {
        let len = HEADER_LEN + self.parts() * VALUE_LEN;
        self.record.set_len(HEADER_LEN)?;
        self.record.set_len(len)?;
        self.data.set_len(0)?;
        self.data.set_len(self.size)?;
        self.missing = self.parts();
        Ok(())
    }

    /// The last part counts as missing again.
    pub(super) fn forget_last_part(&mut self) -> std::io::Result<()> {
        let last = self.parts() - 1;
        if self.value(last)? != ABSENT {
            self.record.write_all_at(&ABSENT, HEADER_LEN + last * VALUE_LEN)?;
            self.missing += 1;
        }
        Ok(())
    }

    pub(super) fn data(&self) -> &File {
        &self.data
    }

    /// Name of the data in the partial directory.
    pub(super) fn data_name(&self) -> Vec<u8> {
        format!("{}.data", self.name).into_bytes()
    }

    /// The data has its final name: the record goes.
    pub(super) fn remove_record(&self, target: &Target) {
        let _ = unlinkat(&target.partial, format!("{}.record", self.name), AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::super::Welcome;
    use super::*;
    use crate::manifest::{Kind, Mtime};

    fn target(dir: &tempfile::TempDir) -> Target {
        let welcome = Welcome { name: b"share".to_vec(), single: false };
        Target::open(Some(dir.path().to_path_buf()), &welcome).unwrap()
    }

    fn entry(size: u64) -> Entry {
        let (kind, mtime) = (Kind::File { size }, Mtime::default());
        Entry { path: b"file".to_vec(), kind, mode: 0o600, mtime, xattrs: Vec::new() }
    }

    /// Writes and records the parts of `size` bytes of sevens.
    fn fill(partial: &mut Partial, parts: &[u64]) {
        for part in parts {
            let bytes = vec![7; partial.part_len(*part)];
            let offset = part * PART_LEN as u64;
            partial.write(offset, &bytes).unwrap();
            let groups: Vec<Value> = (0..)
                .zip(bytes.chunks(GROUP_LEN))
                .map(|(i, g)| hash::group_value(offset + i * GROUP_LEN as u64, g, partial.size))
                .collect();
            partial.record(*part, &hash::part_value(&groups, false)).unwrap();
        }
    }

    #[test]
    fn a_next_run_finds_what_is_recorded_and_only_that() {
        let dir = tempfile::tempdir().unwrap();
        let target = target(&dir);
        let size = 3000 * PART_LEN as u64 + 5;
        fill(&mut Partial::open(&target, &entry(size), size).unwrap(), &[0, 1, 4, 2500, 3000]);
        let again = Partial::open(&target, &entry(size), size).unwrap();
        assert_eq!(again.missing_parts().unwrap(), [(2, 4), (5, 2500), (2501, 3000)]);
        assert_eq!(again.bytes_there().unwrap(), 4 * PART_LEN as u64 + 5);
        let other = Entry { mtime: Mtime { seconds: 1, nanos: 0 }, ..entry(size) };
        assert_eq!(Partial::open(&target, &other, size).unwrap().bytes_there().unwrap(), 0);
    }

    #[test]
    fn what_is_complete_and_not_in_place_lacks_its_last_part_again() {
        let dir = tempfile::tempdir().unwrap();
        let target = target(&dir);
        let size = 2 * PART_LEN as u64 + 5;
        let mut partial = Partial::open(&target, &entry(size), size).unwrap();
        fill(&mut partial, &[0, 1, 2]);
        assert!(partial.is_complete());
        partial.forget_last_part().unwrap();
        partial.forget_last_part().unwrap();
        assert!(!partial.is_complete());
        assert_eq!(partial.missing_parts().unwrap(), [(2, 3)]);
        assert_eq!(partial.bytes_there().unwrap(), 2 * PART_LEN as u64);
        fill(&mut partial, &[2]);
        assert!(partial.is_complete());
    }

    #[test]
    fn after_another_boot_data_must_bear_the_record_out() {
        let dir = tempfile::tempdir().unwrap();
        let target = target(&dir);
        let size = 4 * PART_LEN as u64;
        let mut partial = Partial::open(&target, &entry(size), size).unwrap();
        fill(&mut partial, &[0, 1, 2]);
        partial.record.write_all_at(b"some other boot", 0).unwrap();
        partial.write(PART_LEN as u64 + 9, b"lost").unwrap();
        let again = Partial::open(&target, &entry(size), size).unwrap();
        assert_eq!(again.missing_parts().unwrap(), [(1, 2), (3, 4)]);
    }

    #[test]
    fn a_size_that_is_only_claimed_takes_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        let target = target(&dir);
        let size = 8 << 40;
        // Not every file system takes files of this size.
        let Ok(partial) = Partial::open(&target, &entry(size), size) else { return };
        assert_eq!(partial.missing_parts().unwrap(), [(0, 8 << 20)]);
        assert!(!partial.is_complete());
    }
}
