//! The server's side of the `perf` protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::traits::{Connection, ReadBuffers, RecvHalf, SendHalf};
use crate::{COUNT_QUERY, DATAGRAM_SINK, HEADER_LEN, Result, WRITE_CHUNK};

/// Serves a connection until it closes.
pub async fn serve<C: Connection>(connection: C) {
    let received = Arc::new(AtomicU64::new(0));
    let datagrams = tokio::spawn(serve_datagrams(connection.clone(), received.clone()));
    // A static block: every stack gets bulk data without allocating it.
    let block = Bytes::from_static(&[0x5a; WRITE_CHUNK]);
    while let Some((send, recv)) = connection.accept().await {
        let (received, block) = (received.clone(), block.clone());
        // A stream that fails takes only itself down: the client sees it and reports it.
        tokio::spawn(async move { serve_stream(send, recv, &received, block).await.ok() });
    }
    datagrams.abort();
}

async fn serve_datagrams<C: Connection>(connection: C, received: Arc<AtomicU64>) {
    while let Some(datagram) = connection.recv_datagram().await {
        received.fetch_add(1, Ordering::Relaxed);
        if datagram.first().is_some_and(|&first| first != DATAGRAM_SINK)
            && connection.send_datagram(datagram).await.is_err()
        {
            return;
        }
    }
}

async fn serve_stream<S: SendHalf, R: RecvHalf>(
    mut send: S,
    mut recv: R,
    received: &AtomicU64,
    block: Bytes,
) -> Result<()> {
    let mut buffers: ReadBuffers = std::array::from_fn(|_| Bytes::new());
    let (mut header, mut have) = ([0; HEADER_LEN], 0);
    let mut ended = false;
    while have < HEADER_LEN {
        let Some(filled) = recv.read(&mut buffers).await? else {
            return Err("stream ended within its header".into());
        };
        for buffer in &buffers[..filled] {
            let part = buffer.len().min(HEADER_LEN - have);
            header[have..have + part].copy_from_slice(&buffer[..part]);
            have += part;
        }
    }
    let length = u64::from_be_bytes(header);
    if length == COUNT_QUERY {
        send.write(Bytes::copy_from_slice(&received.load(Ordering::Relaxed).to_be_bytes())).await?;
        return send.finish();
    }
    let upload = async {
        while !ended {
            ended = recv.read(&mut buffers).await?.is_none();
        }
        Ok(())
    };
    // Short answers first, so that the common request costs no select; long ones go on while the upload comes in.
    if length <= block.len() as u64 {
        respond(&mut send, length, &block).await?;
        return upload.await;
    }
    tokio::try_join!(respond(&mut send, length, &block), upload)?;
    Ok(())
}

async fn respond<S: SendHalf>(send: &mut S, mut length: u64, block: &Bytes) -> Result<()> {
    while length > 0 {
        let part = length.min(block.len() as u64);
        send.write(block.slice(..part as usize)).await?;
        length -= part;
    }
    send.finish()
}
