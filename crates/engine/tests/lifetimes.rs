//! What ends, how, and who learns of it.

mod common;

use common::{client, echo, on_worker, pair, server};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use warpline_engine::local::{Connection, JoinError, sleep, spawn, timeout};
use warpline_engine::{OperationError, ReadError, WriteError};
use warpline_frame::Chunk;
use warpline_proto::ConnectionError;

async fn connect(worker: &warpline_engine::local::Worker, pair: &common::Pair, to: std::net::SocketAddr) -> Connection {
    worker.connect(Arc::clone(&pair.client), to, "localhost").await.expect("the server answers")
}

#[test]
fn dropping_everything_still_delivers_what_was_finished() {
    let pair = pair();
    // The handler lets go of the connection as soon as it has written.
    let server = server(&pair, 1, |connection| async move {
        let mut send = connection.open_uni().await.expect("the client allows streams");
        send.write_all(&common::pattern(1, 3 << 20)).await.expect("the client reads");
    });
    let (client, address) = (client(), server.local_addr());
    on_worker(&client, move |worker| async move {
        let connection = connect(&worker, &pair, address).await;
        let mut recv = connection.accept_uni().await.expect("the server opens a stream");
        let data = recv.read_to_end(4 << 20).await.expect("the server finishes it");
        assert!(data == common::pattern(1, 3 << 20));
        assert!(matches!(connection.closed().await, ConnectionError::ApplicationClosed { code: 0, .. }));
    });
}

#[test]
fn what_arrived_before_the_close_can_be_read_after_it() {
    let pair = pair();
    let server = server(&pair, 1, |connection| async move {
        for i in 0..5_u8 {
            let mut send = connection.open_uni().await.expect("the client allows streams");
            send.write_all(&[i; 1_000]).await.expect("the client reads");
            send.finish().expect("the stream is open");
            assert_eq!(send.stopped().await, Ok(None));
        }
        connection.close(7, b"bye");
    });
    let (client, address) = (client(), server.local_addr());
    on_worker(&client, move |worker| async move {
        let connection = connect(&worker, &pair, address).await;
        let closed = ConnectionError::ApplicationClosed { code: 7, reason: "bye".to_owned() };
        assert_eq!(connection.closed().await, closed);
        // Longer than the protocol remembers a connection.
        sleep(Duration::from_millis(700)).await.expect("tests run on the worker");
        for i in 0..5_u8 {
            let mut recv = connection.accept_uni().await.expect("the stream had arrived");
            assert_eq!(recv.read_to_end(2_000).await.expect("its data had arrived"), [i; 1_000]);
        }
        assert_eq!(connection.accept_uni().await.err(), Some(OperationError::Closed(closed.clone())));
        assert_eq!(connection.open_bi().await.err(), Some(OperationError::Closed(closed)));
    });
}

#[test]
fn resets_and_stops_carry_their_codes() {
    let pair = pair();
    let server = server(&pair, 1, |connection| async move {
        let (mut send, mut recv) = connection.accept_bi().await.expect("the client opens a stream");
        let mut first = [0; 1];
        recv.read_exact(&mut first).await.expect("the client writes");
        send.reset(11).expect("the stream is open");
        recv.stop(12).expect("the stream is open");
        connection.closed().await;
    });
    let (client, address) = (client(), server.local_addr());
    on_worker(&client, move |worker| async move {
        let connection = connect(&worker, &pair, address).await;
        let (mut send, mut recv) = connection.open_bi().await.expect("the server allows streams");
        send.write_all(b"x").await.expect("the server reads");
        assert_eq!(recv.read_chunk(10).await, Err(ReadError::Reset(11)));
        assert_eq!(recv.read_chunk(10).await, Err(ReadError::Reset(11)));
        assert_eq!(send.stopped().await, Ok(Some(12)));
        assert_eq!(send.write_all(b"y").await, Err(WriteError::Stopped(12)));
    });
}

#[test]
fn a_dropped_reader_stops_the_writer() {
    let pair = pair();
    let server = server(&pair, 1, |connection| async move {
        let recv = connection.accept_uni().await.expect("the client opens a stream");
        drop(recv);
        connection.closed().await;
    });
    let (client, address) = (client(), server.local_addr());
    on_worker(&client, move |worker| async move {
        let connection = connect(&worker, &pair, address).await;
        let mut send = connection.open_uni().await.expect("the server allows streams");
        let error = loop {
            if let Err(error) = send.write_chunk(Chunk::from_static(&[1; 4_096])).await {
                break error;
            }
        };
        assert_eq!(error, WriteError::Stopped(0));
    });
}

#[test]
fn finishing_twice_is_the_callers_mistake() {
    let pair = pair();
    let (server, client) = (server(&pair, 1, echo), client());
    let address = server.local_addr();
    on_worker(&client, move |worker| async move {
        let connection = connect(&worker, &pair, address).await;
        let (mut send, mut recv) = connection.open_bi().await.expect("the server allows streams");
        send.finish().expect("the stream is open");
        assert_eq!(send.finish(), Err(WriteError::Ended));
        assert_eq!(send.write_all(b"late").await, Err(WriteError::Ended));
        assert_eq!(recv.read_chunk(1).await, Ok(None));
        assert_eq!(recv.stop(1), Err(ReadError::Ended));
    });
}

#[test]
fn a_panicking_handler_resets_its_stream_and_spares_the_worker() {
    let pair = pair();
    let server = server(&pair, 1, |connection| async move {
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            let task = spawn(async move {
                send.write_all(b"torn").await.expect("the client reads");
                let asked = recv.read_to_end(10).await.expect("the client finishes");
                assert_ne!(asked, b"panic", "as asked");
            });
            let joined = task.expect("handlers run on the worker").await;
            assert!(matches!(joined, Ok(()) | Err(JoinError::Panicked(_))));
        }
    });
    let (client, address) = (client(), server.local_addr());
    on_worker(&client, move |worker| async move {
        let connection = connect(&worker, &pair, address).await;
        for (ask, torn) in [("panic", true), ("fine", false), ("panic", true), ("fine", false)] {
            let (mut send, mut recv) = connection.open_bi().await.expect("the server allows streams");
            send.write_all(ask.as_bytes()).await.expect("the server reads");
            drop(send);
            let answer = recv.read_to_end(10).await;
            assert_eq!(answer.is_err(), torn, "{answer:?}");
        }
    });
    assert_eq!(server.stats().task_panics, 2);
}

#[test]
fn connecting_to_nobody_times_out() {
    let transport = warpline_proto::config::TransportConfig {
        max_idle_timeout: Some(Duration::from_millis(200)),
        initial_rtt: Duration::from_millis(10),
        ..Default::default()
    };
    let pair = common::pair_with(transport.clone(), transport);
    // A socket that takes everything and answers nothing.
    let silent = std::net::UdpSocket::bind(common::loopback()).expect("loopback is there");
    let address = silent.local_addr().expect("it is bound");
    on_worker(&client(), move |worker| async move {
        let error = worker.connect(Arc::clone(&pair.client), address, "localhost").await.err();
        assert_eq!(error, Some(warpline_engine::ConnectError::Failed(ConnectionError::TimedOut)));
        let none = worker.connect(Arc::clone(&pair.client), ([127, 0, 0, 1], 0).into(), "localhost").await.err();
        assert_eq!(none.map(|error| error.fault()), Some(warpline_engine::Fault::Caller));
    });
}

#[test]
fn shutting_down_tells_the_peers_and_ends_the_programs() {
    let pair = pair();
    let (ended, end) = mpsc::channel();
    let server = server(&pair, 2, move |connection| {
        let ended = ended.clone();
        async move {
            let error = connection.closed().await;
            assert!(connection.accept_bi().await.is_err());
            ended.send(error).expect("the test waits");
        }
    });
    let (client, address) = (client(), server.local_addr());
    let (told, tell) = mpsc::channel();
    on_worker(&client, move |worker| async move {
        for _ in 0..4 {
            let connection = connect(&worker, &pair, address).await;
            // Heard of by the server's program, too.
            connection.open_uni().await.expect("the server allows streams").write_all(b"x").await.expect("it reads");
            let told = told.clone();
            let task = spawn(async move { told.send(connection.closed().await).expect("the test waits") });
            task.expect("tests run on the worker").detach();
        }
        sleep(Duration::from_millis(50)).await.expect("tests run on the worker");
    });
    server.shutdown(42, b"closing time").expect("this is no worker");
    for _ in 0..4 {
        assert_eq!(end.recv().expect("every handler ends"), ConnectionError::LocallyClosed);
        let expected = ConnectionError::ApplicationClosed { code: 42, reason: "closing time".to_owned() };
        assert_eq!(tell.recv().expect("every client is told"), expected);
    }
    let rejected = server.workers()[0].post(Box::new(|| ())).expect_err("the worker has ended");
    assert_eq!(rejected.error, warpline_engine::EngineError::Stopped);
}

#[test]
fn connections_beyond_the_backlog_are_closed() {
    let pair = pair();
    let mut config = common::server_config(&pair, 1);
    config.accept_backlog = 2;
    // A program that accepts nothing.
    let server = warpline_engine::Engine::start(config, |_| async {}).expect("loopback is there");
    let (client, address) = (client(), server.local_addr());
    on_worker(&client, move |worker| async move {
        let mut kept = Vec::new();
        for _ in 0..2 {
            kept.push(connect(&worker, &pair, address).await);
        }
        let third = connect(&worker, &pair, address).await;
        assert!(matches!(third.closed().await, ConnectionError::ApplicationClosed { .. }));
        assert!(kept.iter().all(|connection| connection.close_reason().is_none()));
    });
    // The worker publishes its counters at the end of a turn, which may be after the client has heard.
    let mut refused = (0..1_000).map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        server.stats().accept_refused
    });
    assert_eq!(refused.find(|refused| *refused != 0), Some(1));
}

#[test]
fn sleeping_and_timeouts() {
    on_worker(&client(), |_| async {
        let order = Arc::new(AtomicUsize::new(0));
        let first = Arc::clone(&order);
        let late = spawn(async move {
            sleep(Duration::from_millis(30)).await.expect("tests run on the worker");
            first.fetch_add(1, Ordering::Relaxed)
        });
        sleep(Duration::from_millis(5)).await.expect("tests run on the worker");
        assert_eq!(order.fetch_add(10, Ordering::Relaxed), 0);
        assert_eq!(late.expect("tests run on the worker").await.ok(), Some(10));
        assert!(timeout(Duration::from_millis(1), std::future::pending::<()>()).await.is_err());
        assert_eq!(timeout(Duration::from_secs(60), async { 3 }).await, Ok(3));
    });
}

#[test]
fn a_reader_that_stops_holds_the_writer_back() {
    const WINDOW: u64 = 256 << 10;
    let transport = warpline_proto::config::TransportConfig {
        stream_window: WINDOW,
        stream_window_max: WINDOW,
        send_buffer: WINDOW,
        ..warpline_proto::config::TransportConfig::default()
    };
    let pair = common::pair_with(transport.clone(), transport);
    let (stalled, held) = std::sync::mpsc::channel();
    let server = server(&pair, 1, move |connection: Connection| {
        let stalled = stalled.clone();
        async move {
            let mut send = connection.open_uni().await.expect("streams are allowed");
            let mut written = 0;
            while timeout(Duration::from_millis(300), send.write_chunk(Chunk::from_static(&[9; 16 << 10])))
                .await
                .is_ok()
            {
                written += 16 << 10;
            }
            stalled.send(written).expect("the test waits");
            connection.closed().await;
        }
    });
    let (client, address) = (client(), server.local_addr());
    on_worker(&client, move |worker| async move {
        let connection = worker.connect(Arc::clone(&pair.client), address, "localhost").await.expect("an answer");
        let recv = connection.accept_uni().await.expect("the server opens a stream");
        let written = loop {
            match held.try_recv() {
                Ok(written) => break written,
                Err(_) => sleep(Duration::from_millis(10)).await.expect("tests run on the worker"),
            }
        };
        assert!(written as u64 <= 3 * WINDOW, "{written} bytes were taken although nobody reads");
        drop(recv);
    });
}
