//! Workers come and go while connections transfer: nothing is lost, repeated or reordered.
#![cfg(target_os = "linux")]

mod common;

use common::transfers::{all_get_on, connect_all, fill, serve_all, setup};
use common::{eager, loopback, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use warpline::{ClientConfig, Connection, Endpoint, EndpointBuilder, Fault, QuicLb, ScalingPolicy, local};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_move_whole_on_both_sides() {
    move_on_both_sides(loopback()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_behind_a_load_balancer_move_whole_too() {
    move_on_both_sides(loopback().quic_lb(balanced())).await;
}

/// IDs of 14 bytes, which have their key at another place than all others.
fn balanced() -> QuicLb {
    QuicLb::new(2, &[7, 1, 9], 8, Some(&[0x5a; 16]), 77).expect("lengths within bounds")
}

async fn move_on_both_sides(builder: EndpointBuilder) {
    let (server_config, client_config) = setup();
    let server = builder.workers(1).max_workers(5).server(server_config).start().expect("loopback is there");
    let client = loopback().workers(1).max_workers(3).start().expect("loopback is there");
    serve_all(&server);
    let stop = Arc::new(AtomicBool::new(false));
    let (accounts, tasks) = connect_all(&client, server.local_addr(), &client_config, 24, &stop).await;

    for (server_workers, client_workers) in [(3, 1), (2, 3), (5, 2), (1, 1), (4, 3), (1, 1)] {
        server.scale_to(server_workers).await.expect("there may be so many");
        client.scale_to(client_workers).await.expect("there may be so many");
        assert_eq!((server.workers().len(), client.workers().len()), (server_workers, client_workers));
        all_get_on(&accounts, &tasks).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no connection fails");
    }
    for endpoint in [&server, &client] {
        let stats = endpoint.stats();
        assert!(stats.moved_out >= 24 && stats.moved_in == stats.moved_out, "{stats:?}");
        assert_eq!((stats.handover_dropped, stats.panics, stats.task_panics), (0, 0, 0));
    }
    server.shutdown(0, b"").await;
    client.shutdown(0, b"").await;
    let again = loopback().bind(server.local_addr()).start();
    assert!(again.is_ok(), "the port is free although a handle of the endpoint is left: {again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_held_by_a_worker_s_program_stay_until_they_end() {
    held_by_futures(loopback()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_connections_behind_a_load_balancer_stay_too() {
    held_by_futures(loopback().quic_lb(balanced())).await;
}

async fn held_by_futures(builder: EndpointBuilder) {
    let (server_config, client_config) = setup();
    let server = builder.workers(3).max_workers(3).server(server_config);
    // The futures are not `Send`: connections cannot move.
    let server = server.serve_local(|connection| async move {
        let not_send = std::rc::Rc::new(connection);
        while let Ok((mut send, mut recv)) = not_send.accept_bi().await {
            let task = local::spawn(async move {
                while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX).await {
                    if send.write_chunk(chunk).await.is_err() {
                        return;
                    }
                }
            });
            task.expect("handlers run on the worker").detach();
        }
    });
    stay_until_they_end(server.expect("loopback is there"), client_config).await;
}

/// Fibers never leave their thread, and neither does what they hold.
#[cfg(feature = "fiber")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_held_by_fibers_stay_until_they_end() {
    let (server_config, client_config) = setup();
    let server = loopback().workers(3).max_workers(3).server(server_config).serve_fibers(|connection| {
        while let Ok((mut send, mut recv)) = connection.accept_bi() {
            let echo = move || {
                while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX) {
                    if send.write_chunk(chunk).is_err() {
                        return;
                    }
                }
            };
            warpline::fiber::spawn(echo).detach();
        }
    });
    stay_until_they_end(server.expect("loopback is there"), client_config).await;
}

async fn stay_until_they_end(server: Endpoint, client_config: Arc<ClientConfig>) {
    let client = loopback().start().expect("loopback is there");
    let to = server.local_addr();
    let mut connections = Vec::new();
    for _ in 0..20 {
        connections.push(client.connect(to, "localhost", Arc::clone(&client_config)).await.expect("an answer"));
    }
    let ask = async |connection: &Connection, seed: u64| {
        let mut message = vec![0; 30_000];
        fill(&mut message, seed, 0);
        let (mut send, mut recv) = connection.open_bi().await.expect("the connection lives");
        send.write_all(&message).await.expect("the server reads");
        send.finish().expect("the stream is open");
        assert!(recv.read_to_end(40_000).await.expect("the echo comes") == message);
    };
    for (round, workers) in [1, 3, 2, 3, 1].into_iter().enumerate() {
        server.scale_to(workers).await.expect("there may be so many");
        for (seed, connection) in (0..).zip(&connections) {
            ask(connection, seed ^ round as u64).await;
        }
    }
    let stats = server.stats();
    assert!(stats.strays > 0 && stats.handed_over > 0, "{stats:?}");
    assert_eq!(stats.moved_out, 0, "{stats:?}");
    let running = || server.running_workers();
    assert!(running() > 1, "a worker that holds connections goes on");
    for connection in connections {
        connection.close(0, b"");
    }
    // Removed workers end once the last connection is gone.
    until(|| running() == 1).await;
    let connection = client.connect(to, "localhost", client_config).await.expect("an answer");
    ask(&connection, 99).await;
    server.shutdown(0, b"").await;
    client.shutdown(0, b"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_come_with_load_and_go_without() {
    let (server_config, client_config) = setup();
    let server = loopback().max_workers(3).scaling(eager()).server(server_config).start().expect("loopback is there");
    let client = loopback().start().expect("loopback is there");
    serve_all(&server);
    let stop = Arc::new(AtomicBool::new(false));
    let (accounts, tasks) = connect_all(&client, server.local_addr(), &client_config, 6, &stop).await;
    while server.workers().len() < 3 {
        all_get_on(&accounts, &tasks).await;
    }
    assert!(server.stats().growth_asked >= 2);
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no connection fails");
    }
    until(|| server.workers().len() == 1).await;
    server.shutdown(0, b"").await;
    let refused = loopback().scaling(ScalingPolicy::default()).start().err();
    assert_eq!(refused.map(|error| error.fault()), Some(Fault::Caller), "without max_workers nothing can scale");
}

#[tokio::test]
async fn numbers_that_cannot_be_honoured_are_refused() {
    let fixed = loopback().start().expect("loopback is there");
    assert_eq!(fixed.scale_to(2).await.err().map(|error| error.fault()), Some(Fault::Caller));
    let scalable = loopback().max_workers(3).start().expect("loopback is there");
    for wrong in [0, 4, 100_000] {
        let error = scalable.scale_to(wrong).await.expect_err("there may be 1 to 3");
        assert!(error.to_string().contains("1 to 3"), "{error}");
    }
    scalable.scale_to(3).await.expect("there may be three");
    scalable.shutdown(0, b"").await;
    assert!(scalable.scale_to(1).await.is_err(), "an endpoint that was shut down has no workers");
    let refused = loopback().workers(4).max_workers(3).start().err();
    assert_eq!(refused.map(|error| error.fault()), Some(Fault::Caller));
}
