//! Data goes there and comes back, whole and in order.

mod common;

use common::{Pair, client, echo, in_memory, on_worker, pair, pattern, server};
use std::net::SocketAddr;
use std::sync::Arc;
use warpline_engine::Engine;
use warpline_engine::local::{Connection, Worker, spawn};
use warpline_proto::config::ClientConfig;

async fn round_trip(connection: Connection, seed: usize, len: usize) {
    let (mut send, mut recv) = connection.open_bi().await.expect("the peer allows streams");
    let data = pattern(seed, len);
    let sent = data.clone();
    let writer = spawn(async move {
        send.write_all(&sent).await.expect("the peer reads");
        send.finish().expect("the stream is open");
    });
    let back = recv.read_to_end(len).await.expect("the echo comes");
    assert_eq!(back, data);
    writer.expect("tests run on the worker").await.expect("the writer does not panic");
}

async fn many_streams(worker: Worker, client: Arc<ClientConfig>, address: SocketAddr) {
    let connection = worker.connect(client, address, "localhost").await.expect("the server answers");
    let mut tasks = Vec::new();
    for seed in 0..200 {
        let len = [0, 1, 1_000, 40_000][seed % 4];
        tasks.push(worker.spawn(round_trip(connection.clone(), seed, len)).expect("tests run on the worker"));
    }
    for task in tasks {
        task.await.expect("no stream fails");
    }
    assert!(connection.close_reason().is_none());
}

fn check(server: &Engine, client: &Engine, pair: &Pair) {
    let (config, address) = (Arc::clone(&pair.client), server.local_addr());
    on_worker(client, move |worker| many_streams(worker, config, address));
}

#[test]
fn two_hundred_streams_on_loopback() {
    let pair = pair();
    let (server, client) = (server(&pair, 1, echo), client());
    check(&server, &client, &pair);
    let stats = server.stats();
    assert!(stats.datagrams > 0 && stats.trains > 0 && stats.task_polls > 0);
}

#[test]
fn two_hundred_streams_in_memory() {
    let pair = pair();
    let (server, client) = in_memory(&pair, echo);
    check(&server, &client, &pair);
}

#[test]
fn a_large_transfer_on_loopback() {
    let pair = pair();
    let (server, client) = (server(&pair, 1, echo), client());
    let (config, address) = (Arc::clone(&pair.client), server.local_addr());
    on_worker(&client, move |worker| async move {
        let connection = worker.connect(config, address, "localhost").await.expect("the server answers");
        round_trip(connection, 3, 20 << 20).await;
    });
}

#[test]
fn unidirectional_streams_and_datagrams() {
    let pair = pair();
    let server = server(&pair, 1, |connection| async move {
        let mut incoming = connection.accept_uni().await.expect("the client opens a stream");
        let data = incoming.read_to_end(100).await.expect("the client finishes it");
        let mut outgoing = connection.open_uni().await.expect("the client allows streams");
        outgoing.write_all(&data).await.expect("the client reads");
        drop(outgoing);
        while let Ok(datagram) = connection.recv_datagram().await {
            connection.send_datagram(datagram).await.expect("the client takes datagrams");
        }
    });
    let client = client();
    let (config, address) = (Arc::clone(&pair.client), server.local_addr());
    on_worker(&client, move |worker| async move {
        let connection = worker.connect(config, address, "localhost").await.expect("the server answers");
        let mut send = connection.open_uni().await.expect("the server allows streams");
        send.write_all(b"one way").await.expect("the server reads");
        send.finish().expect("the stream is open");
        assert_eq!(send.stopped().await, Ok(None));
        let mut recv = connection.accept_uni().await.expect("the server opens a stream");
        assert_eq!(recv.read_to_end(100).await.expect("the server finishes it"), b"one way");
        assert!(connection.max_datagram_size().is_some_and(|size| size >= 1_000));
        // Loopback loses nothing while the buffers are empty.
        connection.send_datagram(b"ping".as_slice().to_vec().into()).await.expect("the server takes datagrams");
        assert_eq!(&connection.recv_datagram().await.expect("the echo comes")[..], b"ping");
    });
}

#[test]
fn what_the_handshake_settled_is_known_on_both_sides() {
    let pair = pair();
    let server = server(&pair, 1, |connection| async move {
        assert_eq!(connection.alpn(), Ok(Some(b"test".to_vec())));
        assert_eq!(connection.server_name(), Ok(Some("localhost".to_owned())));
        let mut secret = [0; 32];
        let exported = connection.export_keying_material(&mut secret, b"label", b"context");
        exported.expect("the connection lives").expect("the length is fine");
        let mut send = connection.open_uni().await.expect("the client allows streams");
        send.write_all(&secret).await.expect("the client reads");
        drop(send);
        connection.closed().await;
    });
    let client = client();
    let (config, address) = (Arc::clone(&pair.client), server.local_addr());
    on_worker(&client, move |worker| async move {
        let connection = worker.connect(config, address, "localhost").await.expect("the server answers");
        let mut secret = [0; 32];
        let exported = connection.export_keying_material(&mut secret, b"label", b"context");
        exported.expect("the connection lives").expect("the length is fine");
        let mut recv = connection.accept_uni().await.expect("the server opens a stream");
        assert_eq!(recv.read_to_end(100).await.expect("the server finishes it"), secret);
        assert_eq!(connection.peer_certificates().expect("the connection lives").map(|chain| chain.len()), Some(1));
        assert_eq!(connection.remote(), Ok(address));
        assert!(connection.stats().expect("the connection lives").packets_received > 0);
    });
}
