//! The secrets of connections as a file that Wireshark reads.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::KeyLog;

/// Appends the secrets of every connection to a file in the format that Wireshark and its like read (`SSLKEYLOGFILE`).
///
/// To be given to [`ClientConfig::key_log`](crate::ClientConfig::key_log) or
/// [`ServerConfig::key_log`](crate::ServerConfig::key_log). Whoever reads the file reads all that the connections carry: it is made
/// for the user alone. Lines are written during the handshake, each with one system call, so that several processes may
/// append to one file.
#[derive(Debug)]
pub struct KeyLogFile {
    file: File,
    failures: AtomicU64,
}

impl KeyLogFile {
    /// Opens `path` for appending; makes it, readable by its owner only, if it is not there.
    ///
    /// # Errors
    /// What the system says of the file.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Self { file: options.open(path)?, failures: AtomicU64::new(0) })
    }

    /// How many lines could not be written, such as for want of room on the disk.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

impl KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line = format!("{label} ");
        hex(&mut line, client_random);
        line.push(' ');
        hex(&mut line, secret);
        line.push('\n');
        // One call: lines of several workers do not mix.
        if (&self.file).write_all(line.as_bytes()).is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}
