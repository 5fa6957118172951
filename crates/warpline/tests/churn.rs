//! Workers that come and go leave nothing behind. A test binary of its own, since it looks at the heap of the whole process.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod common;

use common::{configs, loopback};
use std::sync::Arc;
use warpline::{Connection, Endpoint, RecvStream, SendStream, TransportConfig};
use warpline_frame::heap_in_use;

/// A worker has two mailboxes of 4,096 places, 147 KB together, beside all else: one that stayed for each worker that was
/// removed would be twice this after all rounds.
const GROWTH_MAX: u64 = 2 << 20;

/// Rounds of a change from one worker to three and back.
const ROUNDS: usize = 15;

const CONNECTIONS: usize = 10;

async fn serve(endpoint: Endpoint) {
    while let Some(connection) = endpoint.accept().await {
        tokio::spawn(async move {
            let Ok((mut send, mut recv)) = connection.accept_bi().await else { return };
            while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX).await {
                send.write_chunk(chunk).await.expect("the client reads");
            }
        });
    }
}

/// One message there and back on each.
async fn echo(streams: &mut [(Connection, SendStream, RecvStream)]) {
    for (_, send, recv) in streams {
        send.write_all(&[5; 100]).await.expect("it is read");
        recv.read_exact(&mut [0; 100]).await.expect("it comes back");
    }
}

#[tokio::test]
async fn memory_does_not_grow_with_the_number_of_workers_that_were_removed() {
    let (server_config, client_config) = configs(TransportConfig::default());
    let server = loopback().max_workers(3).server(server_config).start().expect("loopback is there");
    let client = loopback().start().expect("loopback is there");
    tokio::spawn(serve(server.clone()));
    let config = Arc::new(client_config);
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let connect = client.connect(server.local_addr(), "localhost", Arc::clone(&config));
        let connection = connect.await.expect("an answer");
        let (send, recv) = connection.open_bi().await.expect("streams are allowed");
        streams.push((connection, send, recv));
    }
    let mut used = Vec::new();
    for _ in 0..=ROUNDS {
        for workers in [3, 1] {
            server.scale_to(workers).await.expect("so many are allowed");
            echo(&mut streams).await;
        }
        while server.running_workers() > 1 {
            tokio::task::yield_now().await;
        }
        used.push(heap_in_use().expect("this C library counts"));
    }
    assert!(server.stats().moved_in > (ROUNDS * CONNECTIONS / 2) as u64, "the connections hardly moved");
    let grown = used[ROUNDS].saturating_sub(used[0]);
    assert!(grown < GROWTH_MAX, "{grown} bytes in {ROUNDS} rounds: {used:?}");
}
