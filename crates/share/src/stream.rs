//! Messages from a stream, one after the other.

use warpline::RecvStream;
use warpline_frame::Chunk;

use crate::error::ShareError;
use crate::message::message_len;

/// Reads messages. The body that `next` gives is valid until the next call.
pub(crate) struct MessageReader {
    stream: RecvStream,
    chunk: Chunk,
    body: Vec<u8>,
}

impl MessageReader {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, chunk: Chunk::new(), body: Vec::new() }
    }

    /// The kind and body of the next message; `None` at the stream's end.
    pub(crate) async fn next(&mut self) -> Result<Option<(u8, &[u8])>, ShareError> {
        let mut body = std::mem::take(&mut self.body);
        let kind = self.next_into(&mut body).await;
        self.body = body;
        Ok(kind?.map(|kind| (kind, &self.body[..])))
    }

    /// The kind of the next message, with its body in `body`; `None` at the stream's end.
    pub(crate) async fn next_into(&mut self, body: &mut Vec<u8>) -> Result<Option<u8>, ShareError> {
        let mut header = [0; 4];
        let Some(()) = self.fill(&mut header).await? else { return Ok(None) };
        let len = message_len(header)?;
        let mut kind = [0];
        body.resize(len - 1, 0);
        match (self.fill(&mut kind).await?, self.fill(body).await?) {
            (Some(()), Some(())) => Ok(Some(kind[0])),
            _ => Err(ShareError::connection("a message was cut off")),
        }
    }

    /// Fills `out`; `None` when the stream ends before its first byte.
    async fn fill(&mut self, out: &mut [u8]) -> Result<Option<()>, ShareError> {
        let mut at = 0;
        while at < out.len() {
            if self.chunk.is_empty() {
                match self.stream.read_chunk(usize::MAX).await.map_err(ShareError::connection)? {
                    Some(chunk) => self.chunk = chunk,
                    None if at == 0 => return Ok(None),
                    None => return Err(ShareError::connection("a message was cut off")),
                }
            }
            let take = self.chunk.len().min(out.len() - at);
            out[at..at + take].copy_from_slice(&self.chunk[..take]);
            self.chunk.advance(take);
            at += take;
        }
        Ok(Some(()))
    }
}
