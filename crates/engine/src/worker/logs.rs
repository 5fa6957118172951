//! The logs of connections as files.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use warpline_proto::{Endpoint, LogPiece};

use crate::error::StartError;

/// A folder with one file per connection, `ID_ROLE.sqlog`, each a JSON text sequence that qvis reads.
///
/// A file is opened for each piece of 16 KiB and closed again: a worker needs no more files than one however many connections it has,
/// and a connection that moves goes on in the same file. Writing blocks the worker; logs are for finding faults.
#[derive(Debug)]
pub(crate) struct LogFolder {
    folder: PathBuf,
    has_failed: bool,
}

impl LogFolder {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, has_failed: false }
    }

    /// Whether files can be made in the folder, which must be there.
    pub(crate) fn check(folder: &Path) -> Result<(), StartError> {
        let probe = folder.join(format!(".warpline-{}", std::process::id()));
        let made = OpenOptions::new().write(true).create(true).truncate(true).open(&probe);
        made.map_err(|error| {
            StartError::config("qlog", format!("no file can be made in {}: {error}", folder.display()))
        })?;
        // It was only to see whether it can be made.
        let _ = std::fs::remove_file(&probe);
        Ok(())
    }

    /// Writes what the endpoint's connections have logged.
    pub(crate) fn take(&mut self, endpoint: &mut Endpoint) {
        while let Some(piece) = endpoint.poll_log() {
            if let Err(error) = self.write(&piece)
                && !std::mem::replace(&mut self.has_failed, true)
            {
                tracing::warn!(%error, folder = %self.folder.display(), "a log of a connection is not complete");
            }
        }
    }

    fn write(&self, piece: &LogPiece) -> io::Result<()> {
        let path = self.folder.join(format!("{}.sqlog", piece.name));
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(piece.text.as_bytes())
    }
}
