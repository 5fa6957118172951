//! Files.

use super::{Reactor, blocking, with_reactor};
#[cfg(target_os = "linux")]
use std::ffi::CStr;
use std::fs;
use std::io;
#[cfg(target_os = "linux")]
use std::ops::Range;
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// A file, read and written at positions.
#[derive(Debug)]
pub struct File {
    /// First, so that the ring forgets the descriptor before it is closed.
    #[cfg(target_os = "linux")]
    registered: super::uring::Registered,
    file: Arc<fs::File>,
}

/// How a file below a directory is opened: the arguments of `openat2(2)`.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenHow {
    /// `O_RDONLY`, `O_CLOEXEC` and so on.
    pub flags: libc::c_int,
    /// Permissions of a file that is made.
    pub mode: libc::mode_t,
    /// `RESOLVE_BENEATH` and so on: which ways a path may go.
    pub resolve: u64,
}

impl File {
    /// Opens a file below a directory. With `io_uring` this is an operation like any other, so that many files are looked up at once.
    ///
    /// # Errors
    /// The kernel's. `Unsupported` before Linux 5.6.
    #[cfg(target_os = "linux")]
    pub fn open_at(dir: &impl AsFd, path: &CStr, how: OpenHow) -> io::Result<File> {
        let fd = with_reactor(|reactor| match reactor {
            Reactor::Uring(uring) => uring.open_at(dir.as_fd(), path, how),
            Reactor::Readiness(_) => {
                let (dir, path) = (dir.as_fd().try_clone_to_owned()?, path.to_owned());
                blocking(move || openat2(dir.as_fd(), &path, how))
            }
        })?;
        File::from_std(fs::File::from(fd))
    }

    /// Opens a file as `options` say, on a helper thread.
    pub fn open(path: impl AsRef<Path>, options: &fs::OpenOptions) -> io::Result<File> {
        let (path, options) = (path.as_ref().to_owned(), options.clone());
        File::from_std(blocking(move || options.open(path))?)
    }

    /// Takes over a file opened elsewhere.
    pub fn from_std(file: fs::File) -> io::Result<File> {
        Ok(File {
            #[cfg(target_os = "linux")]
            registered: super::uring::Registered::new(&file),
            file: Arc::new(file),
        })
    }

    /// Reads at a position; may be short, 0 is the end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        with_reactor(|reactor| match reactor {
            #[cfg(target_os = "linux")]
            Reactor::Uring(uring) => uring.read_at(&self.registered, buffer, offset),
            Reactor::Readiness(_) => {
                // The buffer stays here: if the fiber is cancelled, the helper goes on without it.
                let (file, len) = (self.file.clone(), buffer.len());
                let bytes = blocking(move || {
                    let mut bytes = vec![0; len];
                    let read = file.read_at(&mut bytes, offset)?;
                    bytes.truncate(read);
                    io::Result::Ok(bytes)
                })?;
                buffer[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            }
        })
    }

    /// Writes at a position; may be short.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        with_reactor(|reactor| match reactor {
            #[cfg(target_os = "linux")]
            Reactor::Uring(uring) => uring.write_at(&self.registered, bytes, offset),
            Reactor::Readiness(_) => {
                let (file, bytes) = (self.file.clone(), bytes.to_vec());
                blocking(move || file.write_at(&bytes, offset))
            }
        })
    }

    /// Reads into a part of a buffer that is registered with the ring; may be short, 0 is the end.
    ///
    /// # Errors
    /// The kernel's; `InvalidInput` if the buffer is of another scheduler.
    ///
    /// # Panics
    /// If the part is not within the buffer.
    #[cfg(target_os = "linux")]
    pub fn read_fixed(
        &self,
        buffer: &mut super::RegisteredBuffer,
        part: Range<usize>,
        offset: u64,
    ) -> io::Result<usize> {
        with_reactor(|reactor| match reactor {
            Reactor::Uring(uring) => uring.read_fixed(&self.registered, buffer, part, offset),
            Reactor::Readiness(_) => Err(super::uring::foreign_buffer()),
        })
    }

    /// Writes a part of a buffer that is registered with the ring; may be short.
    ///
    /// # Errors
    /// As [`read_fixed`](Self::read_fixed).
    ///
    /// # Panics
    /// If the part is not within the buffer.
    #[cfg(target_os = "linux")]
    pub fn write_fixed(&self, buffer: &super::RegisteredBuffer, part: Range<usize>, offset: u64) -> io::Result<usize> {
        with_reactor(|reactor| match reactor {
            Reactor::Uring(uring) => uring.write_fixed(&self.registered, buffer, part, offset),
            Reactor::Readiness(_) => Err(super::uring::foreign_buffer()),
        })
    }

    /// Returns when everything written is on the disk.
    pub fn sync_all(&self) -> io::Result<()> {
        with_reactor(|reactor| match reactor {
            #[cfg(target_os = "linux")]
            Reactor::Uring(uring) => uring.fsync(&self.registered),
            Reactor::Readiness(_) => {
                let file = self.file.clone();
                blocking(move || file.sync_all())
            }
        })
    }

    /// The file itself, for what does not wait: its metadata, where it has holes.
    pub fn as_std(&self) -> &fs::File {
        &self.file
    }

    /// The file's size in bytes, by a helper thread.
    pub fn len(&self) -> io::Result<u64> {
        let file = self.file.clone();
        blocking(move || file.metadata()).map(|metadata| metadata.len())
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
}

#[cfg(target_os = "linux")]
fn openat2(dir: std::os::fd::BorrowedFd<'_>, path: &CStr, how: OpenHow) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
    // The kernel's `struct open_how`.
    let how = [how.flags as u64, u64::from(how.mode), how.resolve];
    // SAFETY: path and structure live for the call, and the size is the structure's.
    let fd =
        unsafe { libc::syscall(libc::SYS_openat2, dir.as_raw_fd(), path.as_ptr(), how.as_ptr(), size_of_val(&how)) };
    match RawFd::try_from(fd) {
        // SAFETY: the descriptor was just made and is nobody else's.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
