//! Messages from a stream, one after the other.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use warpline::RecvStream;
use warpline_frame::Chunk;

use crate::error::ShareError;
use crate::message::{message_len, messages};

/// Reads messages. What `next` gives is valid until the next call.
pub(crate) struct MessageReader {
    stream: RecvStream,
    chunk: Chunk,
    ended: bool,
    one: Vec<u8>,
}

impl MessageReader {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, chunk: Chunk::new(), ended: false, one: Vec::new() }
    }

    /// The kind and body of the next message; `None` at the stream's end.
    pub(crate) async fn next(&mut self) -> Result<Option<(u8, &[u8])>, ShareError> {
        let mut one = std::mem::take(&mut self.one);
        one.clear();
        let found = self.append_message(&mut one).await;
        self.one = one;
        Ok(if found? { messages(&self.one).next() } else { None })
    }

    /// Fills `out` with the next message and those that have arrived already behind it, whole ones, up to about `max` bytes; false at
    /// the stream's end. Handing many small messages over at once is what makes small files fast.
    pub(crate) async fn next_batch(&mut self, out: &mut Vec<u8>, max: usize) -> Result<bool, ShareError> {
        out.clear();
        while self.append_message(out).await? {
            if out.len() >= max || !self.has_more().await? {
                break;
            }
        }
        Ok(!out.is_empty())
    }

    /// Appends a message, its length included; false at the stream's end.
    async fn append_message(&mut self, out: &mut Vec<u8>) -> Result<bool, ShareError> {
        let begin = out.len();
        if !self.append(out, 4).await? {
            return Ok(false);
        }
        let header = out[begin..].first_chunk().copied().unwrap_or_default();
        if !self.append(out, message_len(header)?).await? {
            return Err(ShareError::connection("a message was cut off"));
        }
        Ok(true)
    }

    /// Appends the next `len` bytes; false when the stream ends before the first.
    async fn append(&mut self, out: &mut Vec<u8>, len: usize) -> Result<bool, ShareError> {
        let mut missing = len;
        while missing > 0 {
            if self.chunk.is_empty() && !self.ended {
                let next = self.stream.read_chunk(usize::MAX).await.map_err(ShareError::connection)?;
                self.keep(next);
                continue;
            }
            if self.chunk.is_empty() {
                return if missing == len { Ok(false) } else { Err(ShareError::connection("a message was cut off")) };
            }
            let take = self.chunk.len().min(missing);
            out.extend_from_slice(&self.chunk[..take]);
            self.chunk.advance(take);
            missing -= take;
        }
        Ok(true)
    }

    /// Whether there are bytes that have arrived and were not given out; waits for nothing.
    async fn has_more(&mut self) -> Result<bool, ShareError> {
        if self.chunk.is_empty() && !self.ended {
            // A read that is dropped before it is ready has taken nothing.
            let next = poll_fn(|cx| Poll::Ready(pin!(self.stream.read_chunk(usize::MAX)).poll(cx))).await;
            if let Poll::Ready(next) = next {
                self.keep(next.map_err(ShareError::connection)?);
            }
        }
        Ok(!self.chunk.is_empty())
    }

    fn keep(&mut self, next: Option<Chunk>) {
        match next {
            Some(chunk) => self.chunk = chunk,
            None => self.ended = true,
        }
    }
}
