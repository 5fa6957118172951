//! Files.

use super::{Reactor, blocking, with_reactor};
use std::fs;
use std::io;
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

impl File {
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

    /// Reads into a buffer that is registered with the ring, up to its size.
    #[cfg(target_os = "linux")]
    pub fn read_fixed(&self, buffer: &mut super::RegisteredBuffer, offset: u64) -> io::Result<usize> {
        with_reactor(|reactor| match reactor {
            Reactor::Uring(uring) => uring.read_fixed(&self.registered, buffer, offset),
            Reactor::Readiness(_) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "the buffer is of another scheduler"))
            }
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
