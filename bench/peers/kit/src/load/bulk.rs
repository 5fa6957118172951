//! Long streams: `download`, `upload`, `bidi`, and the many small writes of `smallmsg`.

use std::sync::Arc;

use bytes::Bytes;

use super::Workers;
use super::traits::{Connection, ReadBuffers, RecvHalf, SendHalf};
use crate::{COUNT_EVERY, ClientArgs, Counters, Result, Scenario, WRITE_CHUNK, header};

/// Keeps `args.streams` streams busy on every connection.
pub(super) fn start<C: Connection>(
    connections: &[C],
    args: &ClientArgs,
    counters: &Arc<Counters>,
    workers: &mut Workers,
) {
    let (down, up) = match args.scenario {
        Scenario::Download => (args.bytes, 0),
        Scenario::Upload => (0, args.bytes),
        _ => (args.bytes, args.bytes),
    };
    for connection in connections {
        for _ in 0..args.streams.max(1) {
            let (connection, counters) = (connection.clone(), counters.clone());
            workers.spawn(async move {
                loop {
                    let (send, recv) = connection.open().await?;
                    tokio::try_join!(upload(send, down, up, &counters), drain(recv, &counters))?;
                }
            });
        }
    }
}

/// Writes messages of `args.bytes` bytes, one write each, on one stream per connection.
pub(super) fn messages<C: Connection>(
    connections: &[C],
    args: &ClientArgs,
    counters: &Arc<Counters>,
    workers: &mut Workers,
) {
    let message = Bytes::from(vec![0x5a; args.bytes as usize]);
    for connection in connections {
        let (connection, counters, message) = (connection.clone(), counters.clone(), message.clone());
        workers.spawn(async move {
            let (mut send, _recv) = connection.open().await?;
            send.write(Bytes::copy_from_slice(&header(0))).await?;
            loop {
                for _ in 0..COUNT_EVERY {
                    send.write(message.clone()).await?;
                    tokio::task::coop::consume_budget().await;
                }
                counters.add_ops(COUNT_EVERY, message.len() as u64);
            }
        });
    }
}

async fn upload<S: SendHalf>(mut send: S, down: u64, mut up: u64, counters: &Counters) -> Result<()> {
    let block = Bytes::from_static(&[0x5a; WRITE_CHUNK]);
    send.write(Bytes::copy_from_slice(&header(down))).await?;
    while up > 0 {
        let part = up.min(block.len() as u64);
        send.write(block.slice(..part as usize)).await?;
        counters.add_bytes(part);
        up -= part;
    }
    send.finish()
}

async fn drain<R: RecvHalf>(mut recv: R, counters: &Counters) -> Result<()> {
    let mut buffers: ReadBuffers = std::array::from_fn(|_| Bytes::new());
    while let Some(filled) = recv.read(&mut buffers).await? {
        counters.add_bytes(buffers[..filled].iter().map(|buffer| buffer.len() as u64).sum());
    }
    Ok(())
}
