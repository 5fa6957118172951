//! Walks the tree and writes its manifest, in order, with memory for one path of directories only.
//!
//! The walk has a thread whose working directory is its own: there is no call for the attributes of a name in an open
//! directory before Linux 6.13, and a name in the working directory is found in a quarter of the time that a path through
//! `/proc` takes.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::process::fchdir;

use super::source::Source;
use crate::error::{ShareError, display_path};
use crate::limits::{DEPTH_MAX, PATH_MAX};
use crate::manifest::{Entry, Kind, Mtime, PARTIAL_DIR};
use crate::xattrs;

/// What the walk meets.
pub(super) enum Found {
    Entry(Entry),
    /// Something that cannot be shared, and why.
    Skipped {
        path: Vec<u8>,
        why: String,
    },
}

/// Takes what the walk meets; an error ends it.
pub(super) type Sink<'a> = &'a mut (dyn FnMut(Found) -> Result<(), ShareError> + Send);

/// Names of one directory, in one allocation, sorted.
struct Names {
    bytes: Vec<u8>,
    at: Vec<(u32, u32)>,
}

impl Names {
    fn read(dir: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let mut names = Self { bytes: Vec::new(), at: Vec::new() };
        for item in Dir::read_from(dir)? {
            let item = item?;
            let name = item.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.at.push((names.bytes.len() as u32, name.len() as u32));
                names.bytes.extend_from_slice(name);
            }
        }
        let bytes = &names.bytes;
        names.at.sort_unstable_by(|a, b| slice(bytes, *a).cmp(slice(bytes, *b)));
        names.bytes.shrink_to_fit();
        Ok(names)
    }
}

fn slice(bytes: &[u8], (at, len): (u32, u32)) -> &[u8] {
    &bytes[at as usize..(at + len) as usize]
}

/// Walks the share, and returns at its end.
pub(super) fn scan(source: &Source, sink: Sink<'_>) -> Result<(), ShareError> {
    std::thread::scope(|scope| {
        let walk = std::thread::Builder::new().name("walk".into()).spawn_scoped(scope, || {
            // Where this is forbidden, as in some containers, attributes are read through /proc.
            let moves = unshare(CloneFlags::CLONE_FS).is_ok();
            walk(source, sink, moves)
        });
        let walk = walk.map_err(|e| ShareError::connection(format!("no thread to walk the tree: {e}")))?;
        walk.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn walk(source: &Source, sink: Sink<'_>, moves: bool) -> Result<(), ShareError> {
    let mut walk = Walk { sink, links: HashMap::new(), entered: false, moves, is_there: false };
    if let Some(name) = &source.single {
        return walk.visit(source.dir.as_fd(), name, name);
    }
    let stat =
        rustix::fs::fstat(&source.dir).map_err(|e| ShareError::io("the shared directory", "cannot be read", e))?;
    let root = Entry {
        path: Vec::new(),
        kind: Kind::Directory,
        mode: mode(&stat),
        mtime: mtime(&stat),
        xattrs: xattrs::read_fd(&source.dir),
    };
    (walk.sink)(Found::Entry(root))?;
    let dir = openat(&source.dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| ShareError::io("the shared directory", "cannot be read", e))?;
    walk.directory(dir, &mut Vec::new(), 0)
}

struct Walk<'a> {
    sink: Sink<'a>,
    /// Files with several names: device and inode to the first name.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// The name visited last is a directory, to be walked next.
    entered: bool,
    /// The working directory is this thread's alone and goes along.
    moves: bool,
    /// The working directory is the one whose names are visited.
    is_there: bool,
}

impl Walk<'_> {
    fn directory(&mut self, dir: OwnedFd, path: &mut Vec<u8>, depth: usize) -> Result<(), ShareError> {
        let names = match Names::read(dir.as_fd()) {
            Ok(names) => names,
            Err(error) => return self.skip(path.clone(), format!("cannot be read: {error}")),
        };
        let len = path.len();
        self.move_to(dir.as_fd());
        for at in &names.at {
            let name = slice(&names.bytes, *at);
            if depth == 0 && name == PARTIAL_DIR {
                continue;
            }
            path.truncate(len);
            if len > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            if path.len() >= PATH_MAX || depth + 1 >= DEPTH_MAX {
                self.skip(path.clone(), "lies too deep".into())?;
                continue;
            }
            let whole = path.clone();
            self.visit(dir.as_fd(), name, &whole)?;
            if self.entered {
                self.entered = false;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match openat(&dir, name, flags, Mode::empty()) {
                    Ok(inner) => {
                        self.directory(inner, path, depth + 1)?;
                        self.move_to(dir.as_fd());
                    }
                    Err(error) => self.skip(whole, format!("cannot be opened: {error}"))?,
                }
            }
        }
        path.truncate(len);
        Ok(())
    }

    fn move_to(&mut self, dir: BorrowedFd<'_>) {
        self.is_there = self.moves && fchdir(dir).is_ok();
    }

    /// One name.
    fn visit(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<(), ShareError> {
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Gone since the directory was read: as if it had never been there.
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return self.skip(path.to_vec(), format!("cannot be read: {error}")),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => self.file(&stat, path),
            FileType::Symlink => match readlinkat(dir, name, Vec::new()) {
                Ok(target) => Kind::Symlink { target: target.into_bytes() },
                Err(error) => return self.skip(path.to_vec(), format!("cannot be read: {error}")),
            },
            other => return self.skip(path.to_vec(), format!("is a {}, which is not shared", type_name(other))),
        };
        self.entered = kind == Kind::Directory;
        let xattrs = if self.is_there { xattrs::read_path(name) } else { xattrs::read_at(dir, name) };
        let entry = Entry { path: path.to_vec(), kind, mode: mode(&stat), mtime: mtime(&stat), xattrs };
        (self.sink)(Found::Entry(entry))
    }

    fn file(&mut self, stat: &Stat, path: &[u8]) -> Kind {
        let size = stat.st_size as u64;
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                return Kind::HardLink { target: first.clone() };
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        Kind::File { size }
    }

    fn skip(&mut self, path: Vec<u8>, why: String) -> Result<(), ShareError> {
        tracing::warn!(path = display_path(&path), why, "not shared");
        (self.sink)(Found::Skipped { path, why })
    }
}

fn mode(stat: &Stat) -> u16 {
    (stat.st_mode & 0o7777) as u16
}

pub(super) fn mtime(stat: &Stat) -> Mtime {
    Mtime { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 }
}

fn type_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "special file",
    }
}
