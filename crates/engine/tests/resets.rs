//! Stateless resets (RFC 9000 section 10.3): they bear no connection ID, so the kernel gives them to any of a client's workers.

mod common;

use common::{config, echo, pair, serve, server_config};
use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use warpline_engine::local::{Worker, sleep};
use warpline_engine::{Engine, EngineConfig, ReadError, WriteError};
use warpline_proto::{ConnectionError, FleetKeys};

const WORKERS: usize = 4;
/// Of each worker.
const CONNECTIONS: usize = 4;

/// Stands between a client and two servers: what comes goes to the first, and after the switch to the second one, to which it lets
/// through one datagram of each connection.
fn relay(first: SocketAddr, second: SocketAddr, switched: Arc<AtomicBool>, over: Arc<AtomicBool>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
    let address = socket.local_addr().expect("it is bound");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("it takes a limit");
    thread::spawn(move || {
        let (mut client, mut seen, mut buffer) = (None, HashSet::new(), [0; 2048]);
        while !over.load(Relaxed) {
            let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
            let to = if from == first || from == second {
                client.expect("servers only answer")
            } else {
                client = Some(from);
                if !switched.load(Relaxed) {
                    first
                } else if seen.insert(buffer[1..9].to_vec()) {
                    second
                } else {
                    continue;
                }
            };
            socket.send_to(&buffer[..len], to).expect("loopback takes it");
        }
    });
    address
}

#[test]
fn a_reset_reaches_its_connection_whichever_worker_gets_it() {
    let pair = pair();
    let keys = FleetKeys::new(&[7; 32]);
    let server = || {
        let config = EngineConfig { keys: keys.clone(), ..server_config(&pair, 1) };
        Engine::start(config, serve(echo)).expect("loopback is there")
    };
    let (first, second) = (server(), server());
    let (switched, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let address = relay(first.local_addr(), second.local_addr(), Arc::clone(&switched), Arc::clone(&over));
    let client = Engine::start(config(WORKERS), |_| async {}).expect("loopback is there");
    let (ready, readies) = mpsc::channel();
    let (done, ends) = mpsc::channel();
    for worker in client.workers() {
        let (config, switched) = (Arc::clone(&pair.client), Arc::clone(&switched));
        let (ready, done) = (ready.clone(), done.clone());
        let command = move || {
            let worker = Worker::current().expect("commands run on the worker");
            let task = worker.clone().spawn(async move {
                let mut connections = Vec::new();
                for _ in 0..CONNECTIONS {
                    let connection =
                        worker.connect(Arc::clone(&config), address, "localhost").await.expect("an answer");
                    let (mut send, mut recv) = connection.open_bi().await.expect("streams are allowed");
                    send.write_all(b"all is well").await.expect("it is read");
                    recv.read_chunk(usize::MAX).await.expect("the echo comes");
                    connections.push((connection, send, recv));
                }
                ready.send(()).expect("the test waits");
                while !switched.load(Relaxed) {
                    sleep(Duration::from_millis(5)).await.expect("on the worker");
                }
                for (_, send, _) in &mut connections {
                    // A late acknowledgement may have brought the reset by now.
                    let written = send.write_all(b"is all still well?").await;
                    assert!(matches!(written, Ok(()) | Err(WriteError::Closed(ConnectionError::Reset))), "{written:?}");
                }
                for (_, _, recv) in &mut connections {
                    done.send(recv.read_chunk(usize::MAX).await).expect("the test waits");
                }
            });
            task.expect("commands run on the worker").detach();
        };
        worker.post(Box::new(command)).expect("the worker takes commands");
    }
    drop((ready, done)); // so that a worker's panic ends the test
    (0..WORKERS).for_each(|_| readies.recv().expect("every worker connects"));
    switched.store(true, Relaxed);
    for _ in 0..WORKERS * CONNECTIONS {
        let end = ends.recv().expect("every worker finishes");
        assert!(matches!(end, Err(ReadError::Closed(ConnectionError::Reset))), "{end:?}");
    }
    over.store(true, Relaxed);
}
