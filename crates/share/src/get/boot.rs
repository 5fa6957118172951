//! Crashes of the machine between two runs of one transfer.
//!
//! A kill of the process loses nothing: what was written is with the system. A crash of the machine loses what the system had not yet
//! brought to the disk, and may leave a file under its final name, with its size and time, and zeros in it. So the directory for
//! incomplete files says in which boot the transfer runs. Where that was another one, files that the interrupted runs put into place are
//! not taken for complete: those whose status changed between the beginning of the first of them and the first look after the crash.
//! No program can set that time. The mark itself needs no sync: file systems bring names to the disk in the order in which they were
//! made, and a mark whose content was lost counts as another boot's.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, Mode, OFlags, Stat, openat, renameat, statat};
use rustix::io::Errno;

/// The boot in which the transfer runs; its time is the beginning of the first run in this boot.
const MARK: &str = "boot";
/// The mark of the first run that a crash interrupted.
const DOUBT: &str = "doubt";

/// Length of what names a boot.
pub(super) const BOOT_LEN: usize = 64;

/// Files that became what they are in this time may have lost content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    since: (i64, u64),
    until: (i64, u64),
}

impl Doubt {
    /// Leaves the mark in the directory for incomplete files, and tells what an earlier one means.
    pub(super) fn begin(partial: &OwnedFd) -> io::Result<Option<Self>> {
        let boot = boot_id();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || openat(partial, MARK, flags, Mode::RUSR | Mode::WUSR).map(File::from);
        let is_new = time(partial, MARK)?.is_none();
        let mut mark = open()?;
        let mut found = Vec::new();
        (&mark).take(BOOT_LEN as u64 + 1).read_to_end(&mut found)?;
        if found != boot {
            if !is_new && time(partial, DOUBT)?.is_none() {
                renameat(partial, MARK, partial, DOUBT)?;
                mark = open()?;
            }
            mark.set_len(0)?;
            mark.write_all_at(&boot, 0)?;
        }
        let since = time(partial, DOUBT)?;
        Ok(since.zip(time(partial, MARK)?).map(|(since, until)| Self { since, until }))
    }

    /// Whether the file may have lost content.
    pub(super) fn covers(self, stat: &Stat) -> bool {
        let changed = (stat.st_ctime, stat.st_ctime_nsec);
        // A clock that was set back says nothing of the end.
        changed >= self.since && (changed <= self.until || self.until < self.since)
    }
}

fn time(partial: &OwnedFd, name: &str) -> rustix::io::Result<Option<(i64, u64)>> {
    match statat(partial, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some((stat.st_mtime, stat.st_mtime_nsec))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What tells one run of the machine from another.
pub(super) fn boot_id() -> [u8; BOOT_LEN] {
    let mut out = [0; BOOT_LEN];
    let text = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let len = text.len().min(out.len());
    out[..len].copy_from_slice(&text[..len]);
    out
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::CWD;

    use super::*;

    fn open(dir: &tempfile::TempDir) -> OwnedFd {
        openat(CWD, dir.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn within_one_boot_there_is_no_doubt() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            assert_eq!(Doubt::begin(&open(&dir)).unwrap(), None);
        }
    }

    #[test]
    fn another_boot_casts_doubt_on_what_came_before_it_and_after_the_beginning() {
        // A mark that lost its content is as good as another boot's.
        for other in [&b"another boot"[..], b""] {
            let dir = tempfile::tempdir().unwrap();
            Doubt::begin(&open(&dir)).unwrap();
            fs::write(dir.path().join(MARK), other).unwrap();
            let placed = dir.path().join("placed");
            fs::write(&placed, b"content").unwrap();
            let stat = rustix::fs::stat(&placed).unwrap();
            let doubt = Doubt::begin(&open(&dir)).unwrap().unwrap();
            assert!(doubt.covers(&stat));
            // It lasts until the transfer is complete, and through further crashes, but not over what is fetched after them.
            assert_eq!(Doubt::begin(&open(&dir)).unwrap(), Some(doubt));
            let later = |by| {
                let mut later = stat;
                later.st_ctime += by;
                later
            };
            assert!(!doubt.covers(&later(3600)) && !doubt.covers(&later(-3600)));
            fs::write(dir.path().join(MARK), other).unwrap();
            let again = Doubt::begin(&open(&dir)).unwrap().unwrap();
            assert!(again.since == doubt.since && again.until >= doubt.until);
        }
    }
}
