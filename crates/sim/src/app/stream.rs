//! The two halves of a stream of the applications: content that is written, and content that is read and verified.

use warpline_frame::Chunk;
use warpline_proto::{Connection, ReadError, StreamId, WriteError};

use crate::Instant;
use crate::check::Pattern;

/// Key and length.
pub const HEADER_LEN: usize = 16;

/// The header of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub key: u64,
    pub download: u64,
}

impl Header {
    pub fn encode(self) -> Chunk {
        let mut bytes = self.key.to_be_bytes().to_vec();
        bytes.extend(self.download.to_be_bytes());
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk::<8>()?;
        let download = rest.first_chunk::<8>()?;
        Some(Self { key: u64::from_be_bytes(*key), download: u64::from_be_bytes(*download) })
    }
}

/// The sending half.
#[derive(Debug)]
pub struct Outgoing {
    pending: Chunk,
    /// Bytes of `pending` that are header and not content.
    header_left: usize,
    content: Pattern,
    left: u64,
    chunk_max: usize,
    /// Content bytes accepted so far.
    pub accepted: u64,
    /// Why nothing more is written, once that is so.
    pub end: Option<OutEnd>,
}

/// How writing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutEnd {
    /// Everything was written, and FIN.
    Finished,
    /// The peer does not want it.
    Stopped(u64),
    /// The stream is gone.
    Closed,
}

impl Outgoing {
    pub fn new(header: Chunk, key: u64, len: u64, chunk_max: usize) -> Self {
        Self {
            header_left: header.len(),
            pending: header,
            content: Pattern::new(key),
            left: len,
            chunk_max: chunk_max.max(1),
            accepted: 0,
            end: None,
        }
    }

    /// Writes until `limit` content bytes are accepted, the protocol takes no more, or the end.
    pub fn pump(&mut self, connection: &mut Connection, id: StreamId, limit: u64) {
        while self.end.is_none() && self.accepted < limit {
            if self.pending.is_empty() {
                if self.left == 0 {
                    let finished = connection.finish(id).is_ok();
                    self.end = Some(if finished { OutEnd::Finished } else { OutEnd::Closed });
                    return;
                }
                let len = self.left.min(self.chunk_max as u64);
                self.left -= len;
                self.pending = self.content.generate(len as usize).into();
            }
            match connection.write(id, &mut self.pending) {
                Ok(written) => {
                    let header = written.min(self.header_left);
                    self.header_left -= header;
                    self.accepted += (written - header) as u64;
                }
                Err(WriteError::Blocked) => return,
                Err(WriteError::Stopped(code)) => self.end = Some(OutEnd::Stopped(code)),
                Err(WriteError::ClosedStream) => self.end = Some(OutEnd::Closed),
            }
        }
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct Incoming {
    header: HeaderState,
    content: Option<Pattern>,
    chunk_max: usize,
    /// How reading ended, once it has.
    pub end: Option<InEnd>,
}

#[derive(Debug)]
enum HeaderState {
    Collecting(Vec<u8>),
    Known(Option<Header>),
}

/// How reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InEnd {
    /// FIN.
    Finished,
    /// The peer abandoned the stream.
    Reset(u64),
    /// A content byte is wrong; its offset.
    Wrong(u64),
    /// The stream is gone.
    Closed,
}

impl Incoming {
    /// A half that brings content of `key`.
    pub fn content(key: u64, chunk_max: usize) -> Self {
        let content = Some(Pattern::new(key));
        Self { header: HeaderState::Known(None), content, chunk_max: chunk_max.max(1), end: None }
    }

    /// A half that brings a header first.
    pub fn with_header(chunk_max: usize) -> Self {
        let header = HeaderState::Collecting(Vec::with_capacity(HEADER_LEN));
        Self { header, content: None, chunk_max: chunk_max.max(1), end: None }
    }

    /// The header, once it has arrived.
    pub fn header(&self) -> Option<Header> {
        match self.header {
            HeaderState::Known(header) => header,
            HeaderState::Collecting(_) => None,
        }
    }

    /// Content bytes that arrived and were right.
    pub fn verified(&self) -> u64 {
        self.content.as_ref().map_or(0, Pattern::offset)
    }

    /// Reads until `limit` content bytes are verified, nothing is there, or the end.
    pub fn pump(&mut self, now: Instant, connection: &mut Connection, id: StreamId, limit: u64) {
        while self.end.is_none() && self.verified() < limit {
            match connection.read(now, id, self.chunk_max) {
                Ok(Some(chunk)) => self.take(&chunk),
                Ok(None) => self.end = Some(InEnd::Finished),
                Err(ReadError::Blocked) => return,
                Err(ReadError::Reset(code)) => self.end = Some(InEnd::Reset(code)),
                Err(ReadError::ClosedStream) => self.end = Some(InEnd::Closed),
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        if let HeaderState::Collecting(collected) = &mut self.header {
            let (head, rest) = bytes.split_at(bytes.len().min(HEADER_LEN - collected.len()));
            collected.extend_from_slice(head);
            bytes = rest;
            if let Some(header) = Header::decode(collected) {
                self.content = Some(Pattern::new(header.key));
                self.header = HeaderState::Known(Some(header));
            }
        }
        if let Some(content) = &mut self.content
            && let Err(offset) = content.verify(bytes)
        {
            self.end = Some(InEnd::Wrong(offset));
        }
    }
}
