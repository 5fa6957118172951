//! Several workers: each connection has one owner, wherever its datagrams arrive.

mod common;

use common::{client, config, echo, on_worker, pair, pattern, serve, server, server_config};
use std::net::SocketAddr;
use std::sync::Arc;
use warpline_engine::local::Connection;
use warpline_engine::{Engine, EngineError, StartError};
use warpline_pktio::memory::Hub;
use warpline_wire::Version;

async fn ask(connection: &Connection, seed: usize) {
    let data = pattern(seed, 5_000);
    let (mut send, mut recv) = connection.open_bi().await.expect("the peer allows streams");
    send.write_all(&data).await.expect("the peer reads");
    send.finish().expect("the stream is open");
    assert_eq!(recv.read_to_end(10_000).await.expect("the echo comes"), data);
}

#[test]
fn the_kernel_steers_connections_to_their_workers() {
    let pair = pair();
    let (server, client) = (server(&pair, 3, echo), client());
    let (config, address) = (Arc::clone(&pair.client), server.local_addr());
    let kept = on_worker(&client, move |worker| async move {
        let mut connections = Vec::new();
        for seed in 0..30 {
            let connection = worker.connect(Arc::clone(&config), address, "localhost").await.expect("an answer");
            ask(&connection, seed).await;
            connections.push(connection);
        }
        // Again, when all of them are open at once.
        for (seed, connection) in connections.iter().enumerate() {
            ask(connection, seed).await;
        }
        let keys: Vec<_> = connections.iter().map(Connection::key).collect();
        connections.into_iter().for_each(std::mem::forget);
        keys
    });
    assert_eq!(kept.len(), 30);
    let stats: Vec<_> = server.workers().iter().map(|worker| worker.stats()).collect();
    assert_eq!(stats.iter().map(|stats| stats.handed_over).sum::<u64>(), 0, "{stats:?}");
    let busy = stats.iter().filter(|stats| stats.datagrams > 0).count();
    assert!(busy >= 2, "30 connections with random keys are not all on one of three workers: {stats:?}");
}

#[test]
fn datagrams_at_the_wrong_worker_are_handed_to_their_owner() {
    let pair = pair();
    let hub = Hub::new();
    // The workers' ports differ in their address, and the client knows only the first: all its datagrams arrive there.
    let port = |last| hub.attach(SocketAddr::from(([10, 0, 0, last], 4433))).expect("the address is free");
    let ios = vec![port(1), port(2), port(3)];
    let server = Engine::start_on(ios, server_config(&pair, 3), serve(echo)).expect("nothing is refused");
    let client = Engine::start_on(vec![port(9)], config(1), |_| async {}).expect("nothing is refused");
    let (config, address) = (Arc::clone(&pair.client), server.local_addr());
    on_worker(&client, move |worker| async move {
        for seed in 0..20 {
            let connection = worker.connect(Arc::clone(&config), address, "localhost").await.expect("an answer");
            ask(&connection, seed).await;
        }
    });
    let stats: Vec<_> = server.workers().iter().map(|worker| worker.stats()).collect();
    assert!(stats[0].handed_over > 0, "{stats:?}");
    assert!(stats[1].taken_over + stats[2].taken_over > 0, "{stats:?}");
    assert_eq!(stats.iter().map(|stats| stats.handover_dropped).sum::<u64>(), 0);
}

#[test]
fn a_client_of_several_workers_gets_its_answers_where_it_asked() {
    let pair = pair();
    let server = server(&pair, 2, echo);
    let client = Engine::start(config(3), |_| async {}).expect("loopback is there");
    let address = server.local_addr();
    let (done, results) = std::sync::mpsc::channel();
    for (seed, worker) in client.workers().iter().enumerate() {
        let (config, done) = (Arc::clone(&pair.client), done.clone());
        let command = move || {
            let worker = warpline_engine::local::Worker::current().expect("commands run on the worker");
            let task = worker.clone().spawn(async move {
                for round in 0..5 {
                    let connection =
                        worker.connect(Arc::clone(&config), address, "localhost").await.expect("an answer");
                    ask(&connection, seed * 10 + round).await;
                }
                done.send(seed).expect("the test waits");
            });
            task.expect("commands run on the worker").detach();
        };
        worker.post(Box::new(command)).expect("the worker takes commands");
    }
    let mut seen: Vec<_> = (0..3).map(|_| results.recv().expect("every worker finishes")).collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2]);
    assert_eq!(client.stats().handed_over, 0);
}

#[test]
fn settings_that_cannot_be_honoured_are_refused() {
    let refused = |change: fn(&mut warpline_engine::EngineConfig)| {
        let mut config = config(1);
        change(&mut config);
        match Engine::start(config, |_| async {}) {
            Err(StartError::Config { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(|config| config.workers = 0), "workers");
    assert_eq!(refused(|config| config.workers = 100_000), "workers");
    assert_eq!(refused(|config| config.cores = Some(vec![0, 0])), "cores");
    assert_eq!(refused(|config| config.cores = Some(vec![100_000])), "cores");
    assert_eq!(refused(|config| config.accept_backlog = 0), "accept_backlog");
    assert_eq!(refused(|config| config.versions.clear()), "versions");
    assert_eq!(refused(|config| config.versions.push(Version(0x1a2a_3a4a))), "versions");
    assert_eq!(refused(|config| config.task_budget = 0), "task_budget");
    assert_eq!(refused(|config| config.handover_len = 0), "handover_len");
}

#[test]
fn an_address_in_use_is_the_machines_refusal() {
    let first = client();
    let mut config = config(1);
    config.bind = first.local_addr();
    let Err(StartError::Io { source, .. }) = Engine::start(config, |_| async {}) else { panic!("it started") };
    assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn local_operations_off_the_worker_are_refused() {
    assert!(matches!(warpline_engine::local::spawn(async {}), Err(EngineError::OffWorker)));
    assert!(matches!(warpline_engine::local::Worker::current(), Err(EngineError::OffWorker)));
    assert!(matches!(warpline_engine::local::now(), Err(EngineError::OffWorker)));
    let (pair, client) = (pair(), client());
    let server = server(&pair, 1, echo);
    let (config, address) = (Arc::clone(&pair.client), server.local_addr());
    let key = on_worker(&client, move |worker| async move {
        let connection = worker.connect(config, address, "localhost").await.expect("the server answers");
        let key = connection.key();
        std::mem::forget(connection);
        key
    });
    assert_eq!(key.connection().err(), Some(EngineError::OffWorker.into()));
}
