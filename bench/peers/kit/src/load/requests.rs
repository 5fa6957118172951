//! Short streams: `reqresp` and `churn`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Workers;
use super::traits::{Connection, ReadBuffers, RecvHalf, SendHalf};
use crate::{ClientArgs, Counters, HEADER_LEN, REQUEST_LEN, RESPONSE_LEN, Result, Scenario, header};

/// Keeps `args.in_flight` requests going, spread over the connections.
pub(super) fn start<C: Connection>(
    connections: &[C],
    args: &ClientArgs,
    counters: &Arc<Counters>,
    workers: &mut Workers,
) {
    let (request, response) = match args.scenario {
        Scenario::Churn => (request(HEADER_LEN + 1, 1), 1),
        _ => (request(REQUEST_LEN, RESPONSE_LEN), RESPONSE_LEN),
    };
    for connection in connections.iter().cycle().take(args.in_flight.max(1)) {
        let (connection, counters, request) = (connection.clone(), counters.clone(), request.clone());
        workers.spawn(async move {
            loop {
                let started = Instant::now();
                exchange(&connection, request.clone(), response).await?;
                counters.latency.record(started.elapsed().as_nanos() as u64);
                counters.add_op(response);
            }
        });
    }
}

/// A request of `length` bytes for `response` bytes.
pub(super) fn request(length: usize, response: u64) -> Bytes {
    let mut request = header(response).to_vec();
    request.resize(length, 0x5a);
    request.into()
}

/// One request and its response on a new stream.
pub(super) async fn exchange<C: Connection>(connection: &C, request: Bytes, response: u64) -> Result<Bytes> {
    let (mut send, mut recv) = connection.open().await?;
    send.write(request).await?;
    send.finish()?;
    let mut buffers: ReadBuffers = std::array::from_fn(|_| Bytes::new());
    let (mut length, mut first) = (0, Bytes::new());
    while let Some(filled) = recv.read(&mut buffers).await? {
        length += buffers[..filled].iter().map(|buffer| buffer.len() as u64).sum::<u64>();
        if first.is_empty() && filled > 0 {
            first = buffers[0].clone();
        }
    }
    if length == response { Ok(first) } else { Err(format!("{length} bytes came instead of {response}").into()) }
}
