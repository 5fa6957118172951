//! Handles of other threads take no lock, and the workers none for them: not for accepting, streams, datagrams, questions,
//! nor for those who wait.

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

/// Has the endpoint's connections served, as tasks of the calling thread's runtime.
fn serve(endpoint: &Endpoint) {
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(connection) = accepting.accept().await {
            tokio::spawn(echo(connection));
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_take_no_lock_for_handles_of_other_threads() {
    let (server, client, config, address) = endpoints(1);
    serve(&server);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_take_no_lock_while_workers_come_and_go() {
    let (server, client) = common::configs(warpline::TransportConfig::default());
    let server = common::loopback().max_workers(3).server(server).start().expect("loopback is there");
    let endpoint = common::loopback().start().expect("loopback is there");
    serve(&server);
    let (mut connections, client) = (Vec::new(), Arc::new(client));
    // One alone may be of a slot that the first worker keeps.
    for _ in 0..8 {
        let connecting = endpoint.connect(server.local_addr(), "localhost", Arc::clone(&client));
        connections.push(connecting.await.expect("an answer"));
    }
    let connection = &connections[0];
    use_everything(connection).await;
    // The first worker stays all the time; it takes part in every stage of every change.
    let before = (locks(&server).await, locks(&endpoint).await);
    let moved = server.stats().moved_in;
    for workers in [3, 2, 3, 1] {
        let (changed, ()) = tokio::join!(server.scale_to(workers), use_everything(connection));
        changed.expect("so many are allowed");
    }
    assert_eq!(server.workers().len(), 1);
    let after = (locks(&server).await, locks(&endpoint).await);
    assert!(server.stats().moved_in > moved, "no connection ever moved");
    assert_eq!(before, after, "a worker took a lock");
}

/// All tasks of the program on one thread, whose locks are counted: those of the runtime itself are not ours.
#[tokio::test]
async fn handles_of_other_threads_take_no_lock_themselves() {
    const CONNECTIONS: usize = 5;
    let (server, client, config, address) = endpoints(1);
    let config = Arc::new(config);
    let (connected, mut connections) = tokio::sync::mpsc::unbounded_channel();
    // Connecting asks which workers there are, and their list has a lock; so that is another thread's business.
    let connecting = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            for _ in 0..CONNECTIONS {
                let connection = client.connect(address, "localhost", Arc::clone(&config)).await.expect("an answer");
                connected.send(connection).expect("the test waits");
            }
        });
        (client, locks_taken())
    });
    let before = locks_taken();
    serve(&server);
    let mut used = 0;
    while let Some(connection) = connections.recv().await {
        use_everything(&connection).await;
        connection.close(0, b"");
        used += 1;
    }
    assert_eq!((used, locks_taken() - before), (CONNECTIONS, 0), "a handle took a lock");
    // The count would have shown one: the other thread has taken some.
    let (client, taken) = connecting.join().expect("it does not panic");
    assert!(taken > 0);
    drop(client);
}
