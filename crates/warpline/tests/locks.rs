//! Handles of other threads take no lock of a worker: not for streams, datagrams, questions, nor for those who wait.

mod common;

use common::{endpoints, pattern};
use std::sync::Arc;
use warpline::{Connection, Endpoint};
use warpline_ring::{Lock, locks_taken};

/// How often the endpoint's only worker has taken a lock.
async fn locks(endpoint: &Endpoint) -> u64 {
    endpoint.run_local(|_| async { locks_taken() }).await.expect("the worker runs")
}

/// Streams are echoed, several at a time, so that tasks wait for streams, for data and for room.
async fn use_everything(connection: &Connection) {
    let tasks: Vec<_> = (0..200)
        .map(|seed| {
            let connection = connection.clone();
            tokio::spawn(async move {
                let data = pattern(seed, 20_000);
                let (mut send, mut recv) = connection.open_bi().await.expect("streams are allowed");
                send.write_all(&data).await.expect("it is read");
                send.finish().expect("the stream is open");
                assert!(recv.read_to_end(data.len()).await.expect("it comes back") == data);
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no task panics");
    }
    for seed in 0..50 {
        connection.send_datagram(pattern(seed, 500).into()).await.expect("datagrams are allowed");
    }
    connection.stats().await.expect("the connection lives");
}

async fn echo(connection: Connection) {
    let receiver = connection.clone();
    tokio::spawn(async move { while receiver.recv_datagram().await.is_ok() {} });
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        tokio::spawn(async move {
            while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX).await {
                send.write_chunk(chunk).await.expect("the client reads");
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_take_no_lock_for_handles_of_other_threads() {
    let (server, client, config, address) = endpoints(1);
    let accepting = server.clone();
    tokio::spawn(async move {
        while let Some(connection) = accepting.accept().await {
            tokio::spawn(echo(connection));
        }
    });
    let connection = client.connect(address, "localhost", Arc::new(config)).await.expect("an answer");
    use_everything(&connection).await;
    let before = (locks(&server).await, locks(&client).await);
    let datagrams = server.stats().datagrams;
    for _ in 0..3 {
        use_everything(&connection).await;
    }
    let after = (locks(&server).await, locks(&client).await);
    assert!(server.stats().datagrams - datagrams > 1_000, "too few packets to show anything");
    assert_eq!(before, after, "a worker took a lock");
    // The count would have shown one.
    let seen = client.run_local(|_| async {
        let before = locks_taken();
        drop(Lock::new(1).lock());
        locks_taken() - before
    });
    assert_eq!(seen.await.expect("the worker runs"), 1);
}
