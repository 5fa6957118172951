//! Programs inside the workers, without any runtime beside them.

mod common;

use common::{configs, loopback, pattern};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use warpline::{Chunk, RunError, TransportConfig, local};

#[test]
fn a_program_gives_its_result_and_its_panic() {
    assert_eq!(loopback().run_local(|worker| async move { worker.index() + 7 }).expect("it runs"), 7);
    let error = loopback().run_local(|_| async { assert_eq!(1, 2, "as planned") }).expect_err("it panics");
    assert!(matches!(&error, RunError::Panicked(local::JoinError::Panicked(_))), "{error:?}");
    assert!(error.to_string().contains("as planned"), "{error}");
    let error = loopback().workers(0).run_local(|_| async {}).expect_err("it needs a worker");
    assert!(matches!(error, RunError::Start(_)), "{error:?}");
}

#[test]
fn every_worker_runs_the_program() {
    let started = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&started);
    let endpoint = loopback().workers(3).start_with(move |worker| {
        count.fetch_add(1 << (8 * worker.index()), Ordering::Relaxed);
        async {}
    });
    drop(endpoint.expect("loopback is there"));
    assert_eq!(started.load(Ordering::Relaxed), 0x01_01_01);
}

#[test]
fn a_served_connection_echoes_chunks_as_they_came() {
    let (server, client) = configs(TransportConfig::default());
    let server = loopback().workers(2).server(server).serve_local(|connection| async move {
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            let task = local::spawn(async move {
                while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX).await {
                    send.write_chunk(chunk).await.expect("the client reads");
                }
            });
            task.expect("handlers run on a worker").detach();
        }
    });
    let server = server.expect("loopback is there");
    let address = server.local_addr();
    let client = Arc::new(client);
    let result = loopback().run_local(move |worker| async move {
        let mut tasks = Vec::new();
        for seed in 0..8 {
            let connection = worker.connect(Arc::clone(&client), address, "localhost").await.expect("an answer");
            tasks.push(worker.spawn(async move {
                let data = Chunk::from(pattern(seed, 100_000));
                let (mut send, mut recv) = connection.open_bi().await.expect("streams are allowed");
                // A writer that does not wait for its reader needs windows as large as what it writes.
                send.write_chunk(data.clone()).await.expect("it is read");
                send.finish().expect("the stream is open");
                recv.read_to_end(data.len()).await.expect("the echo comes") == data[..]
            }));
        }
        for task in tasks {
            assert!(task.expect("programs run on a worker").await.expect("no task panics"));
        }
    });
    result.expect("the program runs");
}
