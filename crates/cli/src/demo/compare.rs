//! Two trees, entry by entry: everything that a copy should keep.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, seek};
use warpline_share::display_path;

/// What was compared, and what differs.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Entries compared.
    pub entries: u64,
    /// One line for each difference.
    pub differences: Vec<String>,
    /// First names of files with several.
    links: BTreeMap<(u64, u64), PathBuf>,
}

/// Compares `copy` with `original`.
pub fn compare(original: &Path, copy: &Path) -> io::Result<Comparison> {
    let mut comparison = Comparison::default();
    comparison.entry(original, copy, Path::new(""))?;
    Ok(comparison)
}

impl Comparison {
    fn differs(&mut self, path: &Path, what: &str) {
        self.differences.push(format!("{}: {what}", display_path(path.as_os_str().as_bytes())));
    }

    fn entry(&mut self, original: &Path, copy: &Path, path: &Path) -> io::Result<()> {
        self.entries += 1;
        let (a, b) = (original.join(path), copy.join(path));
        let meta = fs::symlink_metadata(&a)?;
        let Ok(other) = fs::symlink_metadata(&b) else {
            self.differs(path, "is missing");
            return Ok(());
        };
        if meta.file_type() != other.file_type() {
            self.differs(path, "is of another kind");
            return Ok(());
        }
        if !meta.is_symlink() && meta.mode() != other.mode() {
            self.differs(path, &format!("mode {:o} became {:o}", meta.mode(), other.mode()));
        }
        if (meta.mtime(), meta.mtime_nsec()) != (other.mtime(), other.mtime_nsec()) {
            self.differs(path, "time of change");
        }
        if !meta.is_symlink() && xattrs(&a) != xattrs(&b) {
            self.differs(path, "extended attributes");
        }
        if meta.is_symlink() {
            if fs::read_link(&a)? != fs::read_link(&b)? {
                self.differs(path, "points elsewhere");
            }
        } else if meta.is_dir() {
            self.directory(original, copy, path)?;
        } else {
            self.file((&a, &meta), (&b, &other), path)?;
        }
        Ok(())
    }

    fn directory(&mut self, original: &Path, copy: &Path, path: &Path) -> io::Result<()> {
        let names = |root: &Path| -> io::Result<Vec<_>> {
            let mut names =
                fs::read_dir(root.join(path))?.map(|e| Ok(e?.file_name())).collect::<io::Result<Vec<_>>>()?;
            names.sort();
            Ok(names)
        };
        let (ours, theirs) = (names(original)?, names(copy)?);
        for extra in theirs.iter().filter(|name| ours.binary_search(name).is_err()) {
            self.differs(&path.join(extra), "is not in the original");
        }
        ours.iter().try_for_each(|name| self.entry(original, copy, &path.join(name)))
    }

    fn file(&mut self, a: (&Path, &Metadata), b: (&Path, &Metadata), path: &Path) -> io::Result<()> {
        if a.1.len() != b.1.len() {
            self.differs(path, "size");
            return Ok(());
        }
        if a.1.nlink() != b.1.nlink() {
            self.differs(path, &format!("{} names became {}", a.1.nlink(), b.1.nlink()));
        }
        if a.1.nlink() > 1 {
            let first = self.links.entry((b.1.dev(), b.1.ino())).or_insert_with(|| a.0.to_path_buf()).clone();
            if fs::symlink_metadata(first)?.ino() != a.1.ino() {
                self.differs(path, "is another file's second name");
            }
        }
        let (mut x, mut y) = (File::open(a.0)?, File::open(b.0)?);
        if holes(&x, a.1.len()) != holes(&y, b.1.len()) {
            self.differs(path, "holes");
        }
        let (mut one, mut two) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        loop {
            let n = x.read(&mut one)?;
            if n == 0 {
                return Ok(());
            }
            y.read_exact(&mut two[..n])?;
            if one[..n] != two[..n] {
                self.differs(path, "content");
                return Ok(());
            }
        }
    }
}

/// Where the data begins and ends.
fn holes(file: &File, len: u64) -> Vec<(u64, u64)> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < len {
        let Ok(data) = seek(file, SeekFrom::Data(at)) else { break };
        let Ok(hole) = seek(file, SeekFrom::Hole(data)) else { break };
        out.push((data, hole));
        at = hole;
    }
    // Leaves the file as it was opened.
    let _ = seek(file, SeekFrom::Start(0));
    out
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut list = vec![0; 65_536];
    let len = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or(0);
    let mut out: Vec<_> = list[..len]
        .split(|b| *b == 0)
        .filter(|name| name.starts_with(b"user."))
        .map(|name| {
            let mut value = vec![0; 65_536];
            let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap_or(0);
            value.truncate(len);
            (name.to_vec(), value)
        })
        .collect();
    out.sort();
    out
}
