//! `datagram` and `datagram-echo`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::requests::{exchange, request};
use super::traits::{Connection, Dialer};
use super::{Workers, watch};
use crate::{
    COUNT_QUERY, ClientArgs, Counters, DATAGRAM_ECHO, DATAGRAM_SINK, HEADER_LEN, Measurement, Result, Snapshot,
};

/// Echoes missing for this long are taken as lost, and their places in flight are given out again.
const LOST_AFTER: Duration = Duration::from_millis(20);

/// Sends as fast as the stack takes them; asks the server how many came.
pub(super) async fn one_way<D: Dialer>(dialer: &D, args: &ClientArgs, workers: &mut Workers) -> Result<Measurement> {
    let connection = dialer.dial().await?;
    let (sender, datagram) = (connection.clone(), datagram(args, DATAGRAM_SINK));
    workers.spawn(async move {
        loop {
            sender.send_datagram(datagram.clone()).await?;
            tokio::task::coop::consume_budget().await;
        }
    });
    watch(workers, args.warmup()).await?;
    let before = received(&connection).await?;
    let started = Instant::now();
    watch(workers, args.duration()).await?;
    let after = received(&connection).await?;
    let ops = after.saturating_sub(before);
    let counted = Snapshot { bytes: ops * args.bytes, ops, fallbacks: 0 };
    Ok(Measurement { elapsed: started.elapsed(), counted })
}

/// Keeps `args.in_flight` datagrams going on each connection and counts those that come back.
pub(super) fn echo<C: Connection>(
    connections: &[C],
    args: &ClientArgs,
    counters: &Arc<Counters>,
    workers: &mut Workers,
) {
    for connection in connections {
        let in_flight = args.in_flight.max(1);
        let room = Arc::new(Semaphore::new(in_flight));
        let (sender, permits, datagram) = (connection.clone(), room.clone(), datagram(args, DATAGRAM_ECHO));
        workers.spawn(async move {
            loop {
                match tokio::time::timeout(LOST_AFTER, permits.acquire()).await {
                    Ok(permit) => permit?.forget(),
                    Err(_) => permits.add_permits(in_flight),
                }
                sender.send_datagram(datagram.clone()).await?;
            }
        });
        let (receiver, counters) = (connection.clone(), counters.clone());
        workers.spawn(async move {
            while let Some(echo) = receiver.recv_datagram().await {
                counters.add_op(echo.len() as u64);
                // After a loss was assumed too early there may be more echoes than places.
                if room.available_permits() < in_flight {
                    room.add_permits(1);
                }
            }
            Err("no more datagrams".into())
        });
    }
}

fn datagram(args: &ClientArgs, first: u8) -> Bytes {
    let mut data = vec![0x5a; args.bytes.max(1) as usize];
    data[0] = first;
    data.into()
}

async fn received<C: Connection>(connection: &C) -> Result<u64> {
    let answer = exchange(connection, request(HEADER_LEN, COUNT_QUERY), 8).await?;
    let bytes = answer.as_ref().try_into().map_err(|_| "a count in pieces")?;
    Ok(u64::from_be_bytes(bytes))
}
