//! The directory that is fetched into. Every path is resolved below it by the kernel, through no link: whatever a host sends,
//! nothing outside is touched.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT, chmodat, mkdirat,
    openat, openat2, renameat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::Welcome;
use super::boot::Doubt;
use super::pending::Pending;
use crate::error::{ShareError, display_path};
use crate::manifest::{Entry, Mtime, PARTIAL_DIR, split};
use crate::xattrs;

/// The target of a transfer.
pub(super) struct Target {
    path: PathBuf,
    root: OwnedFd,
    /// The directory for what is not complete.
    pub(super) partial: OwnedFd,
    /// What a crash of the machine has left in doubt.
    doubt: Option<Doubt>,
    next_temporary: AtomicU64,
    /// Running as root: owners' restrictions do not hold, and set-ID bits may be set.
    is_root: bool,
}

/// A directory of the target that was opened; neighbours in the manifest share theirs.
#[derive(Default)]
pub(super) struct LastParent(Option<(Vec<u8>, OwnedFd)>);

impl Target {
    /// Opens or makes the target directory.
    pub(super) fn open(wanted: Option<PathBuf>, welcome: &Welcome) -> Result<Self, ShareError> {
        let path = wanted.unwrap_or_else(|| {
            let name = if welcome.single { &b"."[..] } else { &welcome.name };
            PathBuf::from(OsStr::from_bytes(name))
        });
        let error = |doing| {
            let path = path.display().to_string();
            move |e: Errno| ShareError::io(path, doing, e)
        };
        std::fs::create_dir_all(&path).map_err(|e| ShareError::io(path.display(), "cannot be made", e))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, &path, flags, Mode::empty()).map_err(error("cannot be opened"))?;
        let made = mkdirat(&root, PARTIAL_DIR, Mode::RWXU).or_else(|error| {
            let Ok(stat) = rustix::fs::fstat(&root) else { return Err(error) };
            // The target of an earlier run may have a mode that forbids its owner to write; it gets that mode back at the end.
            if error != Errno::ACCESS
                || rustix::fs::fchmod(&root, Mode::from_raw_mode(stat.st_mode & 0o7777 | 0o700)).is_err()
            {
                return Err(error);
            }
            mkdirat(&root, PARTIAL_DIR, Mode::RWXU)
        });
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(error("cannot be written to")(e)),
        }
        let partial = openat(&root, PARTIAL_DIR, flags | OFlags::NOFOLLOW, Mode::empty())
            .map_err(error("the directory for incomplete files cannot be opened"))?;
        lock(&partial, &path)?;
        let doubt = Doubt::begin(&partial).map_err(|e| ShareError::io(path.display(), "cannot be written to", e))?;
        let target = Self {
            path,
            root,
            partial,
            doubt,
            next_temporary: AtomicU64::new(0),
            is_root: rustix::process::geteuid().is_root(),
        };
        target.remove_temporaries()?;
        Ok(target)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What an earlier run left half-written without a record.
    fn remove_temporaries(&self) -> Result<(), ShareError> {
        let error = |e| ShareError::io(self.path.display(), "cannot be read", std::io::Error::from(e));
        for item in rustix::fs::Dir::read_from(&self.partial).map_err(error)? {
            let item = item.map_err(error)?;
            if item.file_name().to_bytes().starts_with(b"t-") {
                let _ = unlinkat(&self.partial, item.file_name(), AtFlags::empty());
            }
        }
        Ok(())
    }

    /// A name in the partial directory that is not in use.
    pub(super) fn temporary(&self) -> Vec<u8> {
        format!("t-{}", self.next_temporary.fetch_add(1, Ordering::Relaxed)).into_bytes()
    }

    /// The directory `path`, which the plan has made.
    pub(super) fn directory(&self, path: &[u8]) -> Result<OwnedFd, ShareError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path_or_root: &[u8] = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, path_or_root, flags, Mode::empty(), resolve)
            .map_err(|e| ShareError::io(self.shown(path), "is in the way or not a directory", e))
    }

    /// The directory that `path` lies in, and its name there.
    pub(super) fn parent<'a, 'p>(
        &self,
        last: &'a mut LastParent,
        path: &'p [u8],
    ) -> Result<(BorrowedFd<'a>, &'p [u8]), ShareError> {
        let (parent, name) = split(path);
        if last.0.as_ref().is_none_or(|(known, _)| known != parent) {
            last.0 = Some((parent.to_vec(), self.directory(parent)?));
        }
        match &last.0 {
            Some((_, fd)) => Ok((fd.as_fd(), name)),
            None => Err(ShareError::peer("a path without a directory")),
        }
    }

    /// A path of the share as a path of this machine, for people.
    pub(super) fn shown(&self, path: &[u8]) -> String {
        let root = self.path.display();
        if path.is_empty() { root.to_string() } else { format!("{root}/{}", display_path(path)) }
    }

    /// What is at `name`, links not followed; `None` for nothing.
    pub(super) fn stat(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, ShareError> {
        match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(ShareError::io(self.shown(name), "cannot be read", e)),
        }
    }

    /// True when what `stat` shows is the file of this size and time, and complete.
    pub(super) fn has_file(&self, stat: &Stat, size: u64, mtime: Mtime) -> bool {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_size as u64 == size
            && stat.st_mtime == mtime.seconds
            && stat.st_mtime_nsec as u32 == mtime.nanos
            && !self.doubt.is_some_and(|doubt| doubt.covers(stat))
    }

    /// Makes a directory that only this user may enter until it is complete.
    pub(super) fn make_directory(&self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), ShareError> {
        match mkdirat(dir, name, Mode::RWXU) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => match self.stat(dir, name)? {
                Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    self.enable_writing(dir, name, &stat);
                    Ok(())
                }
                _ => Err(ShareError::Misuse {
                    path: self.shown(&entry.path).into(),
                    what: "is in the way: the share has a directory of that name; move it and run the command again"
                        .into(),
                }),
            },
            Err(e) => Err(ShareError::io(self.shown(&entry.path), "cannot be made", e)),
        }
    }

    /// A directory of an earlier run may be closed to its own owner; it gets its mode back at the end.
    fn enable_writing(&self, dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) {
        if !self.is_root && stat.st_mode & 0o700 != 0o700 {
            // Should this fail, so will what needs it, and say why.
            let _ = chmodat(dir, name, Mode::from_raw_mode(stat.st_mode & 0o7777 | 0o700), AtFlags::empty());
        }
    }

    /// Makes a link under a temporary name and moves it into place.
    pub(super) fn make_symlink(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
        to: &[u8],
    ) -> Result<(), ShareError> {
        let temporary = self.temporary();
        symlinkat(to, &self.partial, &temporary[..])
            .map_err(|e| ShareError::io(self.shown(&entry.path), "the link cannot be made", e))?;
        // Not every file system keeps times of links; where it does not, nothing is lost that anyone could see.
        let _ = utimensat(&self.partial, &temporary[..], &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW);
        self.place(&temporary, dir, name, entry)
    }

    /// Moves a complete thing from the partial directory to its name.
    pub(super) fn place(
        &self,
        temporary: &[u8],
        dir: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), ShareError> {
        renameat(&self.partial, temporary, dir, name).map_err(|e| match e {
            Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => ShareError::Misuse {
                path: self.shown(&entry.path).into(),
                what: "is a directory where the share has something else; move it and run the command again".into(),
            },
            e => ShareError::io(self.shown(&entry.path), "cannot be put into place", e),
        })
    }

    /// Sets mode, attributes and times of an open file or directory, in the order in which none undoes another.
    pub(super) fn set_attributes(
        &self,
        fd: BorrowedFd<'_>,
        entry: &Entry,
        pending: &Pending,
    ) -> Result<(), ShareError> {
        for (key, value) in &entry.xattrs {
            if let Err(e) = rustix::fs::fsetxattr(fd, &key[..], value, rustix::fs::XattrFlags::empty()) {
                let why = format!("attribute {} cannot be set: {e}", display_path(key));
                pending.not_kept(&entry.path, why);
            }
        }
        let mut mode = u32::from(entry.mode);
        if mode & 0o6000 != 0 && !self.is_root {
            // Without the owner, set-ID bits would lend this user's rights.
            mode &= !0o6000;
            pending.not_kept(&entry.path, "set-user-ID and set-group-ID bits are kept by root only");
        }
        rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))
            .map_err(|e| ShareError::io(self.shown(&entry.path), "its mode cannot be set", e))?;
        rustix::fs::futimens(fd, &times(entry.mtime))
            .map_err(|e| ShareError::io(self.shown(&entry.path), "its time cannot be set", e))
    }

    /// Sets the attributes of a link.
    pub(super) fn set_link_attributes(&self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry, pending: &Pending) {
        for (key, value) in &entry.xattrs {
            if let Err(e) = xattrs::set_at(dir, name, key, value) {
                pending.not_kept(&entry.path, format!("attribute {} cannot be set: {e}", display_path(key)));
            }
        }
    }

    /// The transfer is complete: the partial directory goes.
    pub(super) fn remove_partial(&self) -> Result<(), ShareError> {
        let error =
            |e: Errno| ShareError::io(self.path.display(), "the directory for incomplete files cannot be removed", e);
        for item in rustix::fs::Dir::read_from(&self.partial).map_err(error)? {
            let item = item.map_err(error)?;
            let name = item.file_name().to_bytes();
            if name != b"." && name != b".." {
                unlinkat(&self.partial, name, AtFlags::empty()).map_err(error)?;
            }
        }
        unlinkat(&self.root, PARTIAL_DIR, AtFlags::REMOVEDIR).map_err(error)
    }
}

/// Two transfers into one directory would spoil each other's partial files.
fn lock(partial: &OwnedFd, path: &Path) -> Result<(), ShareError> {
    match rustix::fs::flock(partial, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(ShareError::Misuse {
            path: path.into(),
            what: "another transfer into this directory is running".into(),
        }),
        Err(e) => Err(ShareError::io(path.display(), "cannot be locked", e)),
    }
}

/// The time of change; the time of access stays.
fn times(mtime: Mtime) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() },
    }
}
