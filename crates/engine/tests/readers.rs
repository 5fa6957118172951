//! Readers: threads that receive for the workers.
#![cfg(target_os = "linux")]

mod common;

use common::{client, echo, on_worker, pair, pattern, serve, server_config};
use std::sync::Arc;
use warpline_engine::local::Connection;
use warpline_engine::{Engine, EngineConfig, StartError};

async fn ask(connection: &Connection, seed: usize) {
    let data = pattern(seed, 5_000);
    let (mut send, mut recv) = connection.open_bi().await.expect("the peer allows streams");
    send.write_all(&data).await.expect("the peer reads");
    send.finish().expect("the stream is open");
    assert_eq!(recv.read_to_end(10_000).await.expect("the echo comes"), data);
}

/// Connects `count` times and asks each connection twice, the second time when all are open.
fn use_server(server: &Engine, pair: &common::Pair, count: usize) {
    let client = client();
    let (config, to) = (Arc::clone(&pair.client), server.local_addr());
    on_worker(&client, move |worker| async move {
        let mut connections = Vec::new();
        for seed in 0..count {
            let connection = worker.connect(Arc::clone(&config), to, "localhost").await.expect("an answer");
            ask(&connection, seed).await;
            connections.push(connection);
        }
        for (seed, connection) in connections.iter().enumerate() {
            ask(connection, seed).await;
        }
    });
}

#[test]
fn readers_receive_everything_and_workers_do_everything_else() {
    let pair = pair();
    let config = EngineConfig { readers: 2, ..server_config(&pair, 2) };
    let server = Engine::start(config, serve(echo)).expect("loopback is there");
    use_server(&server, &pair, 20);
    let (workers, all) = (server.workers(), server.running());
    assert_eq!((workers.len(), all.len()), (2, 4), "readers are no workers");
    for worker in &all {
        let (stats, io) = (worker.stats(), worker.io_stats());
        if worker.index() < 2 {
            assert_eq!(io.rx_datagrams, 0, "worker {} received by itself", worker.index());
            assert_eq!((stats.handed_over, stats.datagrams), (0, stats.taken_over));
            assert!(stats.datagrams > 50 && io.tx_datagrams > 50, "{stats:?}");
            assert!(stats.delay_ns > 0, "what comes by ring counts as what comes by a socket: {stats:?}");
        } else {
            assert!(io.rx_datagrams > 50, "{io:?}");
            assert_eq!((stats.handed_over, stats.datagrams, stats.connections), (io.rx_datagrams, 0, 0));
            assert_eq!((io.tx_datagrams, stats.handover_dropped), (0, 0));
        }
    }
}

#[test]
fn workers_come_and_go_while_readers_stay() {
    let pair = pair();
    let config = EngineConfig { readers: 1, workers_max: 3, ..server_config(&pair, 1) };
    let (server, client) = (Arc::new(Engine::start(config, serve(echo)).expect("loopback is there")), client());
    for workers in [3, 1, 2] {
        let scaled = Arc::clone(&server);
        on_worker(&client, move |_| async move { scaled.scale_to(workers).await }).expect("within the limits");
        use_server(&server, &pair, 10);
        assert_eq!(server.workers().len(), workers);
    }
    let received: u64 = server.workers().iter().map(|worker| worker.io_stats().rx_datagrams).sum();
    assert_eq!(received, 0, "everything arrives at the reader");
    assert!(server.stats().taken_over > 300);
}

#[test]
fn what_readers_cannot_be_is_refused() {
    let pair = pair();
    let field = |config: EngineConfig| match Engine::start(config, serve(echo)) {
        Err(StartError::Config { field, .. }) => field,
        other => panic!("it is refused: {other:?}"),
    };
    assert_eq!(field(EngineConfig { readers: 1_000, ..server_config(&pair, 1) }), "readers");
    // One core is named for the worker and none for the reader.
    assert_eq!(field(EngineConfig { readers: 1, cores: Some(vec![0]), ..server_config(&pair, 1) }), "cores");
}
