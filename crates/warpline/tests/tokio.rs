//! The handles under tokio: what they carry, how they end, and what they hold back.

#![cfg(feature = "tokio")]

mod common;

use common::{configs, endpoints, loopback, pattern};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use warpline::{
    Chunk, Connection, ConnectionError, Fault, OperationError, ReadError, RecvStream, SendDatagramError, SendStream,
    Side, TransportConfig, WriteError,
};

async fn echo(connection: Connection) {
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        tokio::spawn(async move { tokio::io::copy(&mut recv, &mut send).await });
    }
}

async fn round_trip(connection: &Connection, seed: usize, len: usize) {
    let (mut send, mut recv) = connection.open_bi().await.expect("the peer allows streams");
    let data = pattern(seed, len);
    let sent = data.clone();
    let writer = tokio::spawn(async move {
        AsyncWriteExt::write_all(&mut send, &sent).await.expect("the peer reads");
        send.shutdown().await.expect("the stream is open");
        send
    });
    let mut back = Vec::new();
    AsyncReadExt::read_to_end(&mut recv, &mut back).await.expect("the echo comes");
    assert!(back == data);
    assert_eq!(writer.await.expect("the writer does not panic").stopped().await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_of_many_connections_over_three_workers() {
    let (server, client, config, address) = endpoints(3);
    let accepting = server.clone();
    tokio::spawn(async move {
        while let Some(connection) = accepting.accept().await {
            tokio::spawn(echo(connection));
        }
    });
    let config = Arc::new(config);
    let mut tasks = Vec::new();
    for seed in 0..10 {
        let connection = client.connect(address, "localhost", Arc::clone(&config)).await.expect("an answer");
        for stream in 0..10 {
            let connection = connection.clone();
            tasks.push(tokio::spawn(async move {
                round_trip(&connection, seed * 10 + stream, [0, 1, 5_000, 300_000][stream % 4]).await;
            }));
        }
    }
    for task in tasks {
        task.await.expect("no stream fails");
    }
    let busy = server.workers().iter().filter(|worker| worker.stats().datagrams > 0).count();
    assert!(busy >= 2, "ten connections with random keys are not all on one of three workers");
    server.shutdown(0, b"").await;
    client.shutdown(0, b"").await;
}

async fn connected(workers: usize) -> (warpline::Endpoint, warpline::Endpoint, Connection, Connection) {
    let (server, client, config, address) = endpoints(workers);
    let (near, far) = tokio::join!(client.connect(address, "localhost", config), server.accept());
    (server, client, near.expect("the server answers"), far.expect("the client connects"))
}

#[tokio::test]
async fn a_stream_is_given_up_behind_a_part_that_still_arrives() {
    let (_server, _client, near, far) = connected(1).await;
    let mut send = near.open_uni().await.expect("the peer allows streams");
    let data = pattern(3, 500_000);
    // The reader takes nothing yet, so that the part is still under way when the stream is given up.
    send.write_all(&data[..300_000]).await.expect("the window takes it");
    send.reset_at(9, 200_000).expect("the stream is open");
    assert_eq!(send.write_all(b"more").await, Err(WriteError::Ended));
    let mut recv = far.accept_uni().await.expect("the stream comes");
    let mut got = Vec::new();
    let code = loop {
        match recv.read_chunk(64_000).await {
            Ok(Some(chunk)) => got.extend_from_slice(&chunk),
            Err(ReadError::Reset(code)) => break code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, 9);
    assert!(got == data[..200_000]);
    assert_eq!(send.stopped().await, Ok(None));
}

#[tokio::test]
async fn the_server_says_where_it_sees_the_client() {
    let mut transport = TransportConfig::default();
    transport.extensions.address_discovery.request = true;
    let (server_config, config) = configs(transport);
    let server = loopback().server(server_config).start().expect("loopback is there");
    let client = loopback().start().expect("loopback is there");
    let (near, far) = tokio::join!(client.connect(server.local_addr(), "localhost", config), server.accept());
    let (near, _far) = (near.expect("the server answers"), far.expect("the client connects"));
    let seen = loop {
        if let Some(seen) = near.observed_address().await.expect("the connection stands") {
            break seen;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(seen, client.local_addr());
}

#[tokio::test]
async fn connections_go_on_over_another_socket() {
    let (server, client, config, address) = endpoints(1);
    let accepting = server.clone();
    tokio::spawn(async move {
        while let Some(connection) = accepting.accept().await {
            tokio::spawn(echo(connection));
        }
    });
    let connection = client.connect(address, "localhost", config).await.expect("the server answers");
    round_trip(&connection, 1, 100_000).await;
    let before = client.local_addr();
    // A stream is under way while the socket is replaced.
    let moving = connection.clone();
    let transfer = tokio::spawn(async move { round_trip(&moving, 2, 3_000_000).await });
    client.rebind((std::net::Ipv4Addr::LOCALHOST, 0).into()).await.expect("a port is free");
    assert_ne!(client.local_addr(), before);
    transfer.await.expect("the stream goes on");
    round_trip(&connection, 3, 100_000).await;
    assert!(matches!(server.rebind(address).await, Err(warpline::engine::RebindError::Serving)));
}

#[tokio::test]
async fn facts_of_the_handshake() {
    let (_server, _client, near, far) = connected(1).await;
    assert_eq!((near.side(), far.side()), (Side::Client, Side::Server));
    assert_eq!((near.alpn(), far.alpn()), (Some(&b"test"[..]), Some(&b"test"[..])));
    assert_eq!(far.server_name(), Some("localhost"));
    assert_eq!(near.peer_certificates().map(<[_]>::len), Some(1));
    let secrets = [&near, &far].map(|side| side.export_keying_material(40, b"label", b"context"));
    let [near_secret, far_secret] = futures_util::future::join_all(secrets).await.try_into().expect("two sides");
    let near_secret = near_secret.expect("it lives").expect("the length is fine");
    assert_eq!(near_secret, far_secret.expect("it lives").expect("the length is fine"));
    assert!(near.stats().await.expect("it lives").packets_sent > 0);
    let too_long = near.export_keying_material(1 << 20, b"label", b"").await.expect("it lives");
    assert!(too_long.is_err());
}

#[tokio::test]
async fn chunks_cross_without_change_and_reads_respect_their_bound() {
    let (_server, _client, near, far) = connected(1).await;
    let mut send = near.open_uni().await.expect("streams are allowed");
    send.write_chunk(Chunk::from_static(b"hello ")).await.expect("it is read");
    send.write_chunk(Chunk::from(b"world".to_vec())).await.expect("it is read");
    send.finish().expect("the stream is open");
    assert_eq!(send.finish(), Err(WriteError::Ended));
    let mut recv = far.accept_uni().await.expect("it was opened");
    let mut all = Vec::new();
    while let Some(chunk) = recv.read_chunk(4).await.expect("nothing fails") {
        assert!((1..=4).contains(&chunk.len()));
        all.extend_from_slice(&chunk);
    }
    assert_eq!(all, b"hello world");
    assert_eq!(recv.read_chunk(4).await, Ok(None));
    assert_eq!(send.stopped().await, Ok(None));
}

#[tokio::test]
async fn codes_of_resets_stops_and_closes_arrive() {
    let (_server, _client, near, far) = connected(1).await;
    let (mut send, mut recv) = near.open_bi().await.expect("streams are allowed");
    send.write_all(b"x").await.expect("it is read");
    let (mut far_send, mut far_recv) = far.accept_bi().await.expect("it was opened");
    let mut byte = [0; 1];
    far_recv.read_exact(&mut byte).await.expect("it was written");
    far_send.reset(21).expect("the stream is open");
    assert_eq!(far_send.reset(21), Err(WriteError::Ended));
    far_recv.stop(22).expect("the stream is open");
    assert_eq!(far_recv.stop(22), Err(ReadError::Ended));
    assert_eq!(recv.read_chunk(10).await, Err(ReadError::Reset(21)));
    assert_eq!(send.stopped().await, Ok(Some(22)));
    assert_eq!(send.write_all(b"y").await, Err(WriteError::Stopped(22)));
    assert_eq!(WriteError::Stopped(22).fault(), Fault::Peer);
    far.close(23, b"enough");
    let closed = ConnectionError::ApplicationClosed { code: 23, reason: "enough".to_owned() };
    assert_eq!(near.closed().await, closed);
    assert_eq!(near.open_uni().await.err(), Some(OperationError::Closed(closed)));
    assert_eq!(far.closed().await, ConnectionError::LocallyClosed);
    assert!(far.accept_bi().await.is_err());
}

#[tokio::test]
async fn dropping_handles_finishes_stops_and_closes() {
    let (_server, _client, near, far) = connected(1).await;
    let mut send = near.open_uni().await.expect("streams are allowed");
    send.write_all(&pattern(5, 1 << 20)).await.expect("it is read");
    drop(send);
    drop(near);
    let mut recv = far.accept_uni().await.expect("it was opened");
    assert!(recv.read_to_end(2 << 20).await.expect("all of it arrives") == pattern(5, 1 << 20));
    assert!(matches!(far.closed().await, ConnectionError::ApplicationClosed { code: 0, .. }));
    drop(recv);

    let (_server, _client, near, far) = connected(1).await;
    let mut send = near.open_uni().await.expect("streams are allowed");
    send.write_all(b"x").await.expect("it is read");
    drop(far.accept_uni().await.expect("it was opened"));
    assert_eq!(send.stopped().await, Ok(Some(0)));
}

#[tokio::test]
async fn a_close_is_not_lost_when_the_handle_goes_right_after_it() {
    for _ in 0..20 {
        let (_server, _client, near, far) = connected(1).await;
        near.close(24, b"done");
        drop(near);
        assert_eq!(far.closed().await, ConnectionError::ApplicationClosed { code: 24, reason: "done".to_owned() });
    }
}

#[tokio::test]
async fn a_slow_reader_holds_the_writer_back() {
    const WINDOW: u64 = 64 << 10;
    let transport = TransportConfig {
        stream_window: WINDOW,
        stream_window_max: WINDOW,
        send_buffer: WINDOW,
        ..TransportConfig::default()
    };
    let (server, config) = configs(transport);
    let server = loopback().server(server).start().expect("loopback is there");
    let client = loopback().start().expect("loopback is there");
    let (near, far) = tokio::join!(client.connect(server.local_addr(), "localhost", config), server.accept());
    let (near, far) = (near.expect("the server answers"), far.expect("the client connects"));
    let mut send = near.open_uni().await.expect("streams are allowed");
    let mut written = 0_usize;
    let full = loop {
        match tokio::time::timeout(Duration::from_millis(300), send.write_all(&[7; 16 << 10])).await {
            Ok(result) => result.expect("nothing fails"),
            Err(_) => break written,
        }
        written += 16 << 10;
        assert!(written < 64 << 20, "the writer is never held back");
    };
    // Rings of both sides, the send buffer, the window: no more than that.
    let rings = warpline::limits::SEND_CHUNKS * (16 << 10) + warpline::limits::RECV_CHUNKS * 1_500;
    assert!(full <= rings + 4 * WINDOW as usize, "{full} bytes were taken");
    let mut recv = far.accept_uni().await.expect("it was opened");
    let reader = tokio::spawn(async move {
        let mut sum = 0;
        while let Some(chunk) = recv.read_chunk(usize::MAX).await.expect("nothing fails") {
            assert!(chunk.iter().all(|&byte| byte == 7));
            sum += chunk.len();
        }
        sum
    });
    for _ in 0..64 {
        send.write_all(&[7; 16 << 10]).await.expect("the reader reads now");
    }
    drop(send);
    // The write that was cut off may have been taken in part or whole.
    let read = reader.await.expect("the reader does not panic");
    assert!((full + (1 << 20)..=full + (1 << 20) + (16 << 10)).contains(&read), "{read} of {full}");
}

#[tokio::test]
async fn datagrams_both_ways() {
    let (_server, _client, near, far) = connected(1).await;
    let max = near.max_datagram_size().expect("the peer takes datagrams");
    assert_eq!(near.send_datagram(vec![0; max + 1].into()).await, Err(SendDatagramError::TooLarge));
    for i in 0..50_u8 {
        near.send_datagram(vec![i; 100].into()).await.expect("the connection lives");
        let there = far.recv_datagram().await.expect("loopback loses nothing that is read at once");
        far.send_datagram(there).await.expect("the connection lives");
        assert_eq!(near.recv_datagram().await.expect("as above")[..], [i; 100]);
    }
}

#[tokio::test]
async fn shutting_down_ends_everything() {
    let (server, client, near, far) = connected(2).await;
    let (mut send, mut recv): (SendStream, RecvStream) = near.open_bi().await.expect("streams are allowed");
    send.write_all(b"x").await.expect("it is read");
    let accepted = far.accept_bi().await.expect("it was opened");
    server.shutdown(9, b"over").await;
    assert!(server.accept().await.is_none());
    let closed = ConnectionError::ApplicationClosed { code: 9, reason: "over".to_owned() };
    assert_eq!(recv.read_chunk(1).await, Err(ReadError::Closed(closed.clone())));
    assert_eq!(near.closed().await, closed);
    assert!(far.open_bi().await.is_err());
    drop(accepted);
    client.shutdown(0, b"").await;
    assert!(near.open_bi().await.is_err());
    let again = client.connect(server.local_addr(), "localhost", configs(TransportConfig::default()).1).await;
    assert_eq!(again.err().map(|error| error.fault()), Some(Fault::Caller));
}

#[tokio::test]
async fn the_wrong_fingerprint_is_refused() {
    let (server, _) = configs(TransportConfig::default());
    let (_, stranger) = configs(TransportConfig::default());
    let server = loopback().server(server).start().expect("loopback is there");
    let client = loopback().start().expect("loopback is there");
    let error = client.connect(server.local_addr(), "localhost", stranger).await.expect_err("a stranger answered");
    assert!(matches!(error, warpline::ConnectError::Failed(ConnectionError::Transport(_))), "{error:?}");
}

#[tokio::test]
async fn programs_on_workers() {
    let (server, client, config, address) = endpoints(1);
    let config = Arc::new(config);
    let accepting = server.clone();
    tokio::spawn(async move {
        while let Some(connection) = accepting.accept().await {
            tokio::spawn(echo(connection));
        }
    });
    let answer = client
        .run_local(move |worker| async move {
            // Not `Send`, on purpose.
            let data = std::rc::Rc::new(pattern(1, 10_000));
            let connection = worker.connect(config, address, "localhost").await.expect("an answer");
            let (mut send, mut recv) = connection.open_bi().await.expect("streams are allowed");
            send.write_all(&data).await.expect("it is read");
            send.finish().expect("the stream is open");
            recv.read_to_end(20_000).await.expect("the echo comes") == *data
        })
        .await;
    assert_eq!(answer, Ok(true));
}
