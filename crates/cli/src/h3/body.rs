//! Reading the body of a response, piece by piece, off the threads that serve.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use bytes::Bytes;

use super::limits::READ_BYTES;
use super::respond::Body;

/// What is left of a body.
#[derive(Debug)]
pub struct Pieces {
    text: Option<String>,
    file: Option<File>,
    left: Range<u64>,
}

impl Pieces {
    /// All of `body`.
    pub fn of(body: Body) -> Self {
        match body {
            Body::Text(text) => Self { text: Some(text), file: None, left: 0..0 },
            Body::Part(file, left) => Self { text: None, file: Some(file), left },
            Body::None => Self { text: None, file: None, left: 0..0 },
        }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// If the file cannot be read, or has become shorter: what was promised cannot be kept.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(text) = self.text.take() {
            return Ok(Some(text.into()));
        }
        let Some(mut file) = self.file.take().filter(|_| !self.left.is_empty()) else { return Ok(None) };
        let at = self.left.start;
        let len = usize::try_from(self.left.end - at).unwrap_or(READ_BYTES).min(READ_BYTES);
        let (file, piece) = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; len];
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(&mut piece)?;
            Ok::<_, io::Error>((file, piece))
        })
        .await
        .map_err(io::Error::other)??;
        self.file = Some(file);
        self.left.start += len as u64;
        Ok(Some(piece.into()))
    }
}
