//! What the host remembers of the files that it has hashed, so that the next receiver, or the next run, costs no hashing.
//!
//! One file for each file of several parts, in the host's state directory: the values of all its groups, 32 bytes for 16 KiB, zeros
//! where nothing was hashed yet. It is found by the identity of the file (device, inode, size, both times), so a file that was changed
//! has another one. Nothing depends on it: values that do not fit the data are found by the receiver, which asks for them anew.
//! Files of one part have none; hashing them is cheaper than looking anything up.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, futimens, openat, statat, unlinkat,
};

use crate::hash::{self, Value};
use crate::limits::{GROUP_LEN, OUTBOARDS_LEN_MAX, PART_LEN};

/// In front of the values: what the outboard belongs to.
const HEADER_LEN: usize = 64;
const MAGIC: &[u8; 8] = b"wloutbd1";
const ABSENT: Value = [0; 32];

/// How long ago a file must have changed to be remembered: two changes within a tick of the file system's clock (at most 10 ms in
/// Linux, 2 s in FAT) leave the same times.
const SETTLED: Duration = Duration::from_secs(3);

/// All outboards of a host.
#[derive(Debug)]
pub(crate) struct Outboards {
    /// `None` where they cannot be kept: then everything is hashed whenever it is sent.
    dir: Option<OwnedFd>,
    /// Bytes that they take, about.
    used: AtomicU64,
}

/// The values of one file.
#[derive(Debug)]
pub(super) struct Outboard<'a> {
    file: File,
    size: u64,
    all: &'a Outboards,
}

impl Outboards {
    /// Uses `outboards` in the state directory.
    pub(super) fn open(state_dir: &Path) -> Self {
        let path = state_dir.join("outboards");
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).and_then(|()| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(openat(CWD, &path, flags, Mode::empty())?)
        });
        let dir = match made {
            Ok(dir) => Some(dir),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "hashes cannot be kept; files are hashed for each receiver");
                None
            }
        };
        let outboards = Self { dir, used: AtomicU64::new(0) };
        outboards.make_room();
        outboards
    }

    /// What is remembered of the file with this `stat`, to be read and added to; `None` for files that are not remembered.
    pub(super) fn of(&self, stat: &Stat) -> Option<Outboard<'_>> {
        let size = stat.st_size as u64;
        let dir = self.dir.as_ref().filter(|_| size > PART_LEN as u64 && is_settled(stat))?;
        let header = header(stat);
        let name = &blake3::hash(&header).to_hex()[..32];
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(dir, name, flags, Mode::RUSR | Mode::WUSR).ok()?);
        let len = HEADER_LEN as u64 + size.div_ceil(GROUP_LEN as u64) * 32;
        let mut found = [0; HEADER_LEN];
        let is_known =
            file.metadata().ok()?.len() == len && file.read_exact_at(&mut found, 0).is_ok() && found == header;
        if !is_known {
            file.set_len(0).and_then(|()| file.set_len(len)).and_then(|()| file.write_all_at(&header, 0)).ok()?;
        }
        // The longest unused go first.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let _ = futimens(&file, &Timestamps { last_access: now, last_modification: now });
        Some(Outboard { file, size, all: self })
    }

    /// Counts what is there and, if that is too much, removes the longest unused.
    fn make_room(&self) {
        let Some(dir) = &self.dir else { return };
        let mut found: Vec<((i64, i64), u64, Vec<u8>)> = Vec::new();
        for item in rustix::fs::Dir::read_from(dir).into_iter().flatten().flatten() {
            let name = item.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                found.push(((stat.st_mtime, stat.st_mtime_nsec as i64), stat.st_blocks as u64 * 512, name.to_vec()));
            }
        }
        let mut used: u64 = found.iter().map(|(_, len, _)| len).sum();
        if used > OUTBOARDS_LEN_MAX {
            found.sort_unstable();
            for (_, len, name) in &found {
                if used <= OUTBOARDS_LEN_MAX / 4 * 3 {
                    break;
                }
                if unlinkat(dir, &name[..], AtFlags::empty()).is_ok() {
                    used -= len;
                }
            }
        }
        self.used.store(used, Ordering::Relaxed);
    }
}

impl Outboard<'_> {
    /// The values of the groups from `start` for `len` bytes, if all are there.
    pub(super) fn values(&self, start: u64, len: usize) -> Option<Vec<Value>> {
        let mut bytes = vec![0; len.div_ceil(GROUP_LEN) * 32];
        self.file.read_exact_at(&mut bytes, offset(start)).ok()?;
        let values: Vec<Value> = hash::values(&bytes).copied().collect();
        (!values.contains(&ABSENT)).then_some(values)
    }

    /// Remembers the values of the groups from `start`.
    pub(super) fn put(&self, start: u64, values: &[Value]) {
        debug_assert!(start + (values.len() * GROUP_LEN) as u64 <= self.size.next_multiple_of(GROUP_LEN as u64));
        let bytes = values.as_flattened();
        // What cannot be remembered is hashed again.
        if self.file.write_all_at(bytes, offset(start)).is_ok() {
            let len = bytes.len() as u64;
            if self.all.used.fetch_add(len, Ordering::Relaxed) + len > OUTBOARDS_LEN_MAX {
                self.all.make_room();
            }
        }
    }
}

fn offset(start: u64) -> u64 {
    HEADER_LEN as u64 + start / GROUP_LEN as u64 * 32
}

/// The identity of a file's content. Changing the content changes the time of change, which no program can set.
fn header(stat: &Stat) -> [u8; HEADER_LEN] {
    let mut out = [0; HEADER_LEN];
    let mtime = (stat.st_mtime as u64, stat.st_mtime_nsec);
    let ctime = (stat.st_ctime as u64, stat.st_ctime_nsec);
    let nanos = mtime.1 << 32 | ctime.1;
    let words = [stat.st_dev, stat.st_ino, stat.st_size as u64, mtime.0, ctime.0, nanos];
    out[..8].copy_from_slice(MAGIC);
    for (slot, word) in out[8..].chunks_exact_mut(8).zip(words) {
        slot.copy_from_slice(&word.to_be_bytes());
    }
    out
}

/// Whether the next change of the file will show in its times.
fn is_settled(stat: &Stat) -> bool {
    let changed = Duration::new(u64::try_from(stat.st_ctime).unwrap_or(0), stat.st_ctime_nsec as u32);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.checked_sub(changed).is_some_and(|age| age > SETTLED)
}

#[cfg(test)]
mod tests {
    use rustix::fs::stat;

    use super::*;

    /// The stat of a file of 100 parts that changed an hour ago.
    fn settled(path: &Path) -> Stat {
        File::create(path).unwrap().set_len(100 * PART_LEN as u64).unwrap();
        let mut stat = stat(path).unwrap();
        stat.st_ctime -= 3600;
        stat
    }

    #[test]
    fn values_are_found_again_and_only_for_the_same_content() {
        let dir = tempfile::tempdir().unwrap();
        let stat = settled(&dir.path().join("file"));
        let values = vec![[7; 32]; PART_LEN / GROUP_LEN];
        Outboards::open(dir.path()).of(&stat).unwrap().put(3 * PART_LEN as u64, &values);
        let outboards = Outboards::open(dir.path());
        let again = outboards.of(&stat).unwrap();
        assert_eq!(again.values(3 * PART_LEN as u64, PART_LEN), Some(values));
        assert_eq!(again.values(2 * PART_LEN as u64, PART_LEN), None);
        assert_eq!(again.values(4 * PART_LEN as u64 - GROUP_LEN as u64, 2 * GROUP_LEN), None);
        let mut other = stat;
        other.st_ctime_nsec ^= 1;
        assert_eq!(outboards.of(&other).unwrap().values(3 * PART_LEN as u64, PART_LEN), None);
    }

    #[test]
    fn a_file_that_may_still_change_unseen_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        settled(&path);
        assert!(Outboards::open(dir.path()).of(&stat(&path).unwrap()).is_none());
    }

    #[test]
    fn a_damaged_outboard_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let stat = settled(&dir.path().join("file"));
        let outboards = Outboards::open(dir.path());
        outboards.of(&stat).unwrap().put(0, &[[1; 32]]);
        let file = std::fs::read_dir(dir.path().join("outboards")).unwrap().next().unwrap().unwrap().path();
        File::options().write(true).open(file).unwrap().write_all_at(b"garbage", 0).unwrap();
        assert_eq!(outboards.of(&stat).unwrap().values(0, 1), None);
    }

    #[test]
    fn a_state_directory_that_cannot_be_used_costs_only_time() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("outboards"), b"in the way").unwrap();
        assert!(Outboards::open(dir.path()).of(&settled(&dir.path().join("file"))).is_none());
    }
}
