//! A connection that takes what it can get, beside ten modest ones on the same worker: these get on. What is counted are their
//! rounds, and that the greedy one was at it all the time.
#![cfg(target_os = "linux")]

mod common;

use common::{client, on_worker, pattern, serve, server_config};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use warpline_engine::Engine;
use warpline_engine::local::{self, Connection, RecvStream, SendStream};
use warpline_frame::Chunk;

const MODEST: usize = 10;
const ROUNDS: usize = 50;

/// What a stream is for, as its first byte says.
const ECHO: u8 = b'e';
const SINK: u8 = b's';
const POUR: u8 = b'p';
const BUSY: u8 = b'b';

/// What the greedy connection has done so far: chunks moved, datagrams received, polls of its tasks.
type Taken = Arc<AtomicU64>;

/// Lets the worker do something else, and asks to be polled again at once.
async fn again() {
    let mut polled = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn serve_stream(mut send: SendStream, mut recv: RecvStream, taken: Taken) {
    let Ok(Some(first)) = recv.read_chunk(1).await else { return };
    match first[0] {
        ECHO => {
            while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX).await {
                if send.write_chunk(chunk).await.is_err() {
                    return;
                }
            }
        }
        SINK => {
            while let Ok(Some(_)) = recv.read_chunk(usize::MAX).await {
                taken.fetch_add(1, Ordering::Relaxed);
            }
        }
        POUR => {
            static BLOCK: [u8; 64 << 10] = [3; 64 << 10];
            while send.write_chunk(Chunk::from_static(&BLOCK)).await.is_ok() {
                taken.fetch_add(1, Ordering::Relaxed);
            }
        }
        BUSY => loop {
            again().await;
            taken.fetch_add(1, Ordering::Relaxed);
        },
        other => panic!("{other} is for nothing"),
    }
}

fn start(pair: &common::Pair, taken: &Taken) -> Engine {
    let taken = Arc::clone(taken);
    let handler = move |connection: Connection| {
        let taken = Arc::clone(&taken);
        async move {
            let (flooded, count) = (connection.clone(), Arc::clone(&taken));
            let reading = local::spawn(async move {
                while flooded.recv_datagram().await.is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
            reading.expect("handlers run on the worker").detach();
            while let Ok((send, recv)) = connection.accept_bi().await {
                let task = local::spawn(serve_stream(send, recv, Arc::clone(&taken)));
                task.expect("handlers run on the worker").detach();
            }
        }
    };
    Engine::start(server_config(pair, 1), serve(handler)).expect("loopback is there")
}

async fn open(connection: &Connection, purpose: u8) -> (SendStream, RecvStream) {
    let (mut send, recv) = connection.open_bi().await.expect("streams are allowed");
    send.write_all(&[purpose]).await.expect("it is read");
    (send, recv)
}

/// Has messages echoed.
async fn modest(connection: Connection) {
    let (mut send, mut recv) = open(&connection, ECHO).await;
    for round in 0..ROUNDS {
        let message = pattern(round, 1_000);
        send.write_all(&message).await.expect("it is read");
        let mut back = vec![0; 1_000];
        recv.read_exact(&mut back).await.expect("it comes back");
        assert_eq!(back, message);
    }
}

/// Runs `greed` on a connection from an engine of its own, and the modest ones beside it from another.
fn beside<F>(greed: impl FnOnce(Connection) -> F + Send + 'static, least: u64)
where
    F: Future<Output = ()> + 'static,
{
    let (pair, taken) = (common::pair(), Taken::default());
    let server = start(&pair, &taken);
    let to = server.local_addr();
    let (greedy, others) = (client(), client());
    let (config, ended) = (Arc::clone(&pair.client), Arc::new(AtomicBool::new(false)));
    let flag = Arc::clone(&ended);
    on_worker(&greedy, move |worker| async move {
        let connection = worker.connect(config, to, "localhost").await.expect("an answer");
        let task = local::spawn(async move {
            greed(connection).await;
            flag.store(true, Ordering::Relaxed);
        });
        task.expect("it runs on the worker").detach();
    });
    // It is at it before the others come.
    while taken.load(Ordering::Relaxed) < least {
        std::thread::yield_now();
    }
    let config = pair.client;
    on_worker(&others, move |worker| async move {
        let mut tasks = Vec::new();
        for _ in 0..MODEST {
            let connection = worker.connect(Arc::clone(&config), to, "localhost").await.expect("an answer");
            tasks.push(worker.spawn(modest(connection)).expect("it runs on the worker"));
        }
        for task in tasks {
            task.await.expect("every round is done");
        }
    });
    let during = taken.load(Ordering::Relaxed);
    assert!(!ended.load(Ordering::Relaxed), "the greedy one gave up");
    // Still at it.
    while taken.load(Ordering::Relaxed) < during + least {
        std::thread::yield_now();
    }
}

#[test]
fn one_that_uploads_without_end() {
    beside(
        |connection| async move {
            let mut tasks = Vec::new();
            for _ in 0..8 {
                let (mut send, recv) = open(&connection, SINK).await;
                let upload = async move {
                    let _open = recv;
                    let block = vec![5; 64 << 10];
                    while send.write_all(&block).await.is_ok() {}
                };
                tasks.push(local::spawn(upload).expect("it runs on the worker"));
            }
            for task in tasks {
                task.await.expect("uploads end without a panic");
            }
        },
        100,
    );
}

#[test]
fn one_that_downloads_without_end() {
    beside(
        |connection| async move {
            let mut tasks = Vec::new();
            for _ in 0..8 {
                let (send, mut recv) = open(&connection, POUR).await;
                let download = async move {
                    let _open = send;
                    while let Ok(Some(_)) = recv.read_chunk(usize::MAX).await {}
                };
                tasks.push(local::spawn(download).expect("it runs on the worker"));
            }
            for task in tasks {
                task.await.expect("downloads end without a panic");
            }
        },
        100,
    );
}

#[test]
fn one_that_floods_with_datagrams() {
    beside(
        |connection| async move {
            let datagram = Chunk::copy_from_slice(&[9; 1_000]);
            while connection.send_datagram(datagram.clone()).await.is_ok() {
                again().await;
            }
        },
        100,
    );
}

#[test]
fn one_whose_tasks_are_always_busy() {
    beside(
        |connection| async move {
            let mut streams = Vec::new();
            for _ in 0..50 {
                streams.push(open(&connection, BUSY).await);
            }
            std::future::pending::<()>().await;
        },
        10_000,
    );
}
