//! What both sides do on streams.

use std::sync::LazyLock;

use warpline::Chunk;
use warpline::local::{JoinHandle, RecvStream, SendStream};
use warpline_peer_kit::{Result, WRITE_CHUNK};

/// Bulk data that costs nothing to make.
static BLOCK: LazyLock<Chunk> = LazyLock::new(|| Chunk::from_static(&[0x5a; WRITE_CHUNK]));

/// `len` bytes of bulk data, at most [`WRITE_CHUNK`].
pub(super) fn block(len: usize) -> Chunk {
    BLOCK.slice(..len)
}

/// Sends `len` bytes and the end.
pub(super) async fn send_bytes(send: &mut SendStream, mut len: u64, count: &mut impl FnMut(u64)) -> Result<()> {
    while len > 0 {
        let part = len.min(WRITE_CHUNK as u64);
        send.write_chunk(block(part as usize)).await?;
        count(part);
        len -= part;
    }
    Ok(send.finish()?)
}

/// Reads to the end of the stream.
pub(super) async fn drain(recv: &mut RecvStream, count: &mut impl FnMut(u64)) -> Result<()> {
    while let Some(chunk) = recv.read_chunk(usize::MAX).await? {
        count(chunk.len() as u64);
    }
    Ok(())
}

/// What a task came to; a panic in it is an error.
pub(super) async fn joined(task: JoinHandle<Result<()>>) -> Result<()> {
    task.await.map_err(|e| e.to_string())?
}
