//! The tree that is shared, opened once and never left.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat, openat2};
use warpline_fiber::reactor::{self, OpenHow};

use super::reading::Opened;
use crate::error::{ShareError, display_path};

/// The root of a share.
#[derive(Debug)]
pub(crate) struct Source {
    /// The shared directory, or the directory that holds the shared file.
    pub(crate) dir: OwnedFd,
    /// Name of the shared file; `None` when a directory is shared.
    pub(crate) single: Option<Vec<u8>>,
    /// The last component of what is shared: what a receiver calls it.
    pub(crate) name: Vec<u8>,
}

impl Source {
    /// Opens `root`, which is absolute and free of links.
    pub(crate) fn open(root: &Path) -> Result<Self, ShareError> {
        let error = |e| ShareError::io(root.display(), "cannot be shared", std::io::Error::from(e));
        let name = root.file_name().map_or_else(|| b"root".to_vec(), |n| n.as_bytes().to_vec());
        let stat = rustix::fs::stat(root).map_err(error)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let dir = openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
                Ok(Self { dir: dir.map_err(error)?, single: None, name })
            }
            FileType::RegularFile => {
                File::open(root).map_err(|e| ShareError::io(root.display(), "cannot be shared", e))?;
                let parent = root.parent().unwrap_or(Path::new("/"));
                let dir = openat(CWD, parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
                Ok(Self { dir: dir.map_err(error)?, single: Some(name.clone()), name })
            }
            _ => {
                Err(ShareError::Misuse { path: root.into(), what: "is neither a directory nor a regular file".into() })
            }
        }
    }

    /// Opens a file of the share for reading, as an operation of the fiber's ring or by a call. No link is followed, so nothing outside can
    /// be reached.
    pub(super) fn open_file(&self, path: &[u8], ring: bool) -> Result<Opened, ShareError> {
        if self.single.as_deref().is_some_and(|only| only != path) {
            return Err(ShareError::peer("asked for a file that is not shared"));
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened = if ring {
            let how = OpenHow { flags: flags.bits() as i32, mode: 0, resolve: resolve.bits() };
            let path =
                CString::new(path).map_err(|_| ShareError::peer("asked for a file with a name that cannot be"))?;
            reactor::File::open_at(&self.dir, &path, how).map(Opened::Ring)
        } else {
            let file = openat2(self.dir.as_fd(), path, flags, Mode::empty(), resolve);
            file.map(|fd| Opened::Plain(File::from(fd))).map_err(std::io::Error::from)
        };
        opened.map_err(|e| ShareError::io(display_path(path), "cannot be opened", e))
    }
}
