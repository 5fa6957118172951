//! Files below a root, which nothing leads out of.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::limits::PATH_MAX;
use super::listing;

/// The directory that is served.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    /// Whether directories without an index are listed.
    lists: bool,
    #[cfg(not(target_os = "linux"))]
    path: std::path::PathBuf,
}

/// What a path leads to.
#[derive(Debug)]
pub enum Found {
    /// A regular file, and its path below the root.
    File(File, String),
    /// The page for a directory.
    Listing(String),
}

/// Why there is no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing there, or nothing that may be shown: outsiders cannot tell.
    NotFound,
    /// A directory, asked for as if it were a file: it is at the same path with a slash.
    Directory,
    /// The path is longer than any path.
    TooLong,
    /// The system failed.
    Failed,
}

impl Root {
    /// Opens the directory, which stays the same one even if its name goes to another.
    pub fn open(path: &Path, lists: bool) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self {
            dir: rustix::fs::open(path, flags, Mode::empty())?,
            lists,
            #[cfg(not(target_os = "linux"))]
            path: path.canonicalize()?,
        })
    }

    /// What is at the path of a request, which begins with a slash and is still percent-encoded. A path that ends in a
    /// slash means the `index.html` there. May take the time of the disk.
    pub fn find(&self, path: &str) -> Result<Found, Missing> {
        if path.len() > PATH_MAX {
            return Err(Missing::TooLong);
        }
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8().map_err(|_| Missing::NotFound)?;
        let name = decoded.trim_start_matches('/');
        // The kernel would resolve `..` within the root; a client that sends it is up to no good.
        if name.contains('\0') || name.split('/').any(|part| part == "..") {
            return Err(Missing::NotFound);
        }
        if !(name.is_empty() || name.ends_with('/')) {
            return self.file(name.to_owned());
        }
        match self.file(format!("{name}index.html")) {
            Err(Missing::NotFound | Missing::Directory) if self.lists => self.listing(name),
            // An index that is itself a directory is none; with a slash behind the path there is nothing else.
            Err(Missing::Directory) => Err(Missing::NotFound),
            found => found,
        }
    }

    fn file(&self, name: String) -> Result<Found, Missing> {
        // Not blocking: opening a pipe would wait for its writer.
        let file = File::from(self.open_below(&name, OFlags::NONBLOCK).map_err(|error| missing(&error))?);
        let kind = file.metadata().map_err(|_| Missing::Failed)?.file_type();
        match kind {
            _ if kind.is_file() => Ok(Found::File(file, name)),
            _ if kind.is_dir() => Err(Missing::Directory),
            // Pipes and devices are nobody's business.
            _ => Err(Missing::NotFound),
        }
    }

    fn listing(&self, name: &str) -> Result<Found, Missing> {
        let here = if name.is_empty() { "." } else { name };
        let directory = self.open_below(here, OFlags::DIRECTORY).map_err(|error| missing(&error))?;
        listing::page(directory, name).map(Found::Listing).map_err(|error| missing(&error.into()))
    }

    /// Symbolic links are followed as long as they stay below the root; the kernel sees to it, at once with opening.
    #[cfg(target_os = "linux")]
    fn open_below(&self, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
        use rustix::fs::ResolveFlags;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat2(&self.dir, name, flags, Mode::empty(), resolve)?)
    }

    /// As above, but whoever can change the tree meanwhile can lead out of it.
    #[cfg(not(target_os = "linux"))]
    fn open_below(&self, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let whole = self.path.join(name).canonicalize()?;
        let below = whole.strip_prefix(&self.path).map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.dir, below, flags, Mode::empty())?)
    }
}

/// What an error in opening comes to for the client.
fn missing(error: &io::Error) -> Missing {
    match error.kind() {
        io::ErrorKind::InvalidFilename => Missing::TooLong,
        _ if error.raw_os_error().is_some_and(is_no_such_file) => Missing::NotFound,
        _ => {
            tracing::warn!("opening a file: {error}");
            Missing::Failed
        }
    }
}

/// The file is not there, or not for us.
fn is_no_such_file(code: i32) -> bool {
    use rustix::io::Errno;
    [Errno::NOENT, Errno::NOTDIR, Errno::ACCESS, Errno::PERM, Errno::LOOP, Errno::XDEV, Errno::NXIO]
        .contains(&Errno::from_raw_os_error(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_leads_out_of_the_root() {
        let outside = tempfile::tempdir().expect("a directory");
        std::fs::write(outside.path().join("secret"), b"secret").expect("a file");
        let root = outside.path().join("root");
        std::fs::create_dir_all(root.join("sub")).expect("a directory");
        std::fs::write(root.join("a b.txt"), b"a").expect("a file");
        std::fs::write(root.join("sub/index.html"), b"i").expect("a file");
        symlink("sub/index.html", root.join("inside")).expect("a link");
        symlink("../secret", root.join("relative")).expect("a link");
        symlink(outside.path().join("secret"), root.join("absolute")).expect("a link");
        symlink(outside.path(), root.join("directory")).expect("a link");
        symlink("loop", root.join("loop")).expect("a link");
        std::fs::create_dir_all(root.join("odd/index.html")).expect("a directory");
        let root = Root::open(&root, false).expect("it is there");
        let missing = |path: &str| root.find(path).err();
        for path in ["/a%20b.txt", "/sub/", "//sub/./index.html", "/inside"] {
            assert_eq!(missing(path), None, "{path}");
        }
        for path in [
            "/../secret",
            "/sub/../../secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/relative",
            "/absolute",
            "/directory/secret",
            "/loop",
            "/a%20b.txt/x",
            "/none",
            "/odd/",
            "/",
            "/%00",
            "/%ff",
        ] {
            assert_eq!(missing(path), Some(Missing::NotFound), "{path}");
        }
        assert_eq!(missing("/sub"), Some(Missing::Directory));
        let lists = Root { lists: true, ..root };
        for path in ["/", "/odd/", "//"] {
            assert!(matches!(lists.find(path), Ok(Found::Listing(_))), "{path}");
        }
        for path in ["/directory/", "/../", "/none/", "/inside/"] {
            assert_eq!(lists.find(path).err(), Some(Missing::NotFound), "{path}");
        }
        let missing = |path: &str| lists.find(path).err();
        assert_eq!(missing(&format!("/{}", "x".repeat(PATH_MAX))), Some(Missing::TooLong));
        assert_eq!(missing(&format!("/{}", "x".repeat(300))), Some(Missing::TooLong));
    }
}
