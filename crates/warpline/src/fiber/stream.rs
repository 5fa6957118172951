//! Streams, for fibers.

use super::Wait;
use crate::engine::{OperationError, ReadError, ReadExactError, ReadToEndError, WriteError};
use crate::{Chunk, local};
use std::io;
use std::ops::{Deref, DerefMut};

/// The sending part of a stream; dereferences to [`local::SendStream`] for `finish`, `reset` and the rest.
///
/// It is an [`io::Write`], so that libraries which know only that run on a fiber as they are.
#[derive(Debug)]
pub struct SendStream(local::SendStream);

impl SendStream {
    pub(super) fn new(stream: local::SendStream) -> Self {
        Self(stream)
    }

    /// The handle for tasks of the same worker.
    #[must_use]
    pub fn into_inner(self) -> local::SendStream {
        self.0
    }

    /// Writes the whole chunk without copying it, waiting while flow control or the send buffer is exhausted.
    ///
    /// # Errors
    /// [`WriteError`], after which nothing more can be written.
    pub fn write_chunk(&mut self, chunk: Chunk) -> Result<(), WriteError> {
        self.0.write_chunk(chunk).wait()
    }

    /// Writes the whole slice; its bytes are copied once.
    ///
    /// # Errors
    /// As [`write_chunk`](Self::write_chunk).
    pub fn write_all(&mut self, data: &[u8]) -> Result<(), WriteError> {
        self.0.write_all(data).wait()
    }

    /// Waits until the peer has acknowledged everything including the end: `None`, or its code if it asked to stop.
    ///
    /// # Errors
    /// If the connection ends first.
    pub fn stopped(&mut self) -> Result<Option<u64>, OperationError> {
        self.0.stopped().wait()
    }
}

impl Deref for SendStream {
    type Target = local::SendStream;

    fn deref(&self) -> &local::SendStream {
        &self.0
    }
}

impl DerefMut for SendStream {
    fn deref_mut(&mut self) -> &mut local::SendStream {
        &mut self.0
    }
}

impl io::Write for SendStream {
    /// Takes all of `data`.
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        SendStream::write_all(self, data)?;
        Ok(data.len())
    }

    /// Does nothing: what was written is on its way.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The receiving part of a stream; dereferences to [`local::RecvStream`] for `stop` and the rest.
///
/// It is an [`io::Read`].
#[derive(Debug)]
pub struct RecvStream(local::RecvStream);

impl RecvStream {
    pub(super) fn new(stream: local::RecvStream) -> Self {
        Self(stream)
    }

    /// The handle for tasks of the same worker.
    #[must_use]
    pub fn into_inner(self) -> local::RecvStream {
        self.0
    }

    /// Waits for the next bytes in order, at most `max` of them, from where they were decrypted; `None` at the end.
    ///
    /// # Errors
    /// [`ReadError`], after which nothing more can be read.
    pub fn read_chunk(&mut self, max: usize) -> Result<Option<Chunk>, ReadError> {
        self.0.read_chunk(max).wait()
    }

    /// Appends what is there, at most `max_chunks` chunks; waits only if nothing is. `false` at the end.
    ///
    /// # Errors
    /// As [`read_chunk`](Self::read_chunk).
    pub fn read_chunks(&mut self, chunks: &mut Vec<Chunk>, max_chunks: usize) -> Result<bool, ReadError> {
        self.0.read_chunks(chunks, max_chunks).wait()
    }

    /// Reads what is there, waiting until something is; 0 at the end (or for an empty buffer).
    ///
    /// # Errors
    /// As [`read_chunk`](Self::read_chunk).
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        self.0.read(buffer).wait()
    }

    /// Fills the buffer.
    ///
    /// # Errors
    /// [`ReadExactError::FinishedEarly`] if the stream ends before.
    pub fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ReadExactError> {
        self.0.read_exact(buffer).wait()
    }

    /// Everything up to the end, at most `limit` bytes.
    ///
    /// # Errors
    /// [`ReadToEndError::TooLong`] if there are more; the rest can still be read.
    pub fn read_to_end(&mut self, limit: usize) -> Result<Vec<u8>, ReadToEndError> {
        self.0.read_to_end(limit).wait()
    }
}

impl Deref for RecvStream {
    type Target = local::RecvStream;

    fn deref(&self) -> &local::RecvStream {
        &self.0
    }
}

impl DerefMut for RecvStream {
    fn deref_mut(&mut self) -> &mut local::RecvStream {
        &mut self.0
    }
}

impl io::Read for RecvStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(RecvStream::read(self, buffer)?)
    }
}
