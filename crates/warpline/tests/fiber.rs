//! Programs of fibers inside the workers: real sockets, and no `async` in sight.
#![cfg(feature = "fiber")]

mod common;

use common::{configs, loopback, pattern};
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use warpline::fiber::{Wait as _, spawn, sync, time, yield_now};
use warpline::{RunError, TransportConfig, local};

#[test]
fn a_program_gives_its_result_and_its_panic() {
    assert_eq!(loopback().run_fiber(|worker| worker.index() + 7).expect("it runs"), 7);
    let error = loopback().run_fiber(|_| assert_eq!(1, 2, "as planned")).expect_err("it panics");
    assert!(matches!(&error, RunError::Panicked(local::JoinError::Panicked(_))), "{error:?}");
    assert!(error.to_string().contains("as planned"), "{error}");
    let error = loopback().workers(0).run_fiber(|_| ()).expect_err("it needs a worker");
    assert!(matches!(error, RunError::Start(_)), "{error:?}");
}

#[test]
fn every_worker_runs_the_program_in_a_fiber() {
    let (send, receive) = mpsc::channel();
    let endpoint = loopback().workers(3).start_fibers(move |worker| {
        let (send, index) = (send.clone(), worker.index());
        let child = spawn(move || send.send(index).expect("the test listens"));
        child.join().expect("the fiber does not panic");
    });
    let endpoint = endpoint.expect("loopback is there");
    let mut workers: Vec<usize> = (0..3).map(|_| receive.recv().expect("every worker tells")).collect();
    workers.sort_unstable();
    assert_eq!(workers, [0, 1, 2]);
    drop(endpoint);
}

#[test]
fn streams_echo_between_fibers() {
    let (server, client) = configs(TransportConfig::default());
    let server = loopback().workers(2).server(server).serve_fibers(|connection| {
        while let Ok((mut send, mut recv)) = connection.accept_bi() {
            let echo = move || {
                while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX) {
                    send.write_chunk(chunk).expect("the client reads");
                }
            };
            spawn(echo).detach();
        }
    });
    let server = server.expect("loopback is there");
    let address = server.local_addr();
    let client = Arc::new(client);
    let echoed = loopback().run_fiber(move |worker| {
        let fibers: Vec<_> = (0..8)
            .map(|seed| {
                let (worker, client) = (worker.clone(), Arc::clone(&client));
                spawn(move || {
                    let connection = worker.connect(client, address, "localhost").expect("an answer");
                    let data = pattern(seed, 1_000_000);
                    let (mut send, mut recv) = connection.open_bi().expect("streams are allowed");
                    let writer = {
                        let data = data.clone();
                        spawn(move || {
                            // Through the traits that libraries know.
                            std::io::Write::write_all(&mut send, &data).expect("it is read");
                            send.flush().expect("there is nothing to do");
                            send.finish().expect("the stream is open");
                            send.stopped().expect("the connection lives")
                        })
                    };
                    let mut back = Vec::new();
                    std::io::Read::read_to_end(&mut recv, &mut back).expect("the echo comes");
                    assert_eq!(writer.join().expect("no panic"), None, "everything was acknowledged");
                    assert!(back == data, "connection {seed}");
                    back.len()
                })
            })
            .collect();
        fibers.into_iter().map(|fiber| fiber.join().expect("no fiber panics")).sum::<usize>()
    });
    assert_eq!(echoed.expect("the program runs"), 8_000_000);
}

#[test]
fn datagrams_and_one_way_streams() {
    let (server, client) = configs(TransportConfig::default());
    let server = loopback().server(server).serve_fibers(|connection| {
        let one_way = connection.clone();
        spawn(move || {
            let mut recv = one_way.accept_uni().expect("the client opens one");
            let mut head = [0; 4];
            recv.read_exact(&mut head).expect("the stream has four bytes");
            let rest = recv.read_to_end(100).expect("the stream is short");
            let mut send = one_way.open_uni().expect("the client allows one");
            send.write_all(&rest).expect("it is read");
            send.write_all(&head).expect("it is read");
        })
        .detach();
        while let Ok(datagram) = connection.recv_datagram() {
            connection.send_datagram(datagram).expect("the client takes datagrams");
        }
    });
    let server = server.expect("loopback is there");
    let address = server.local_addr();
    let result = loopback().run_fiber(move |worker| {
        let connection = worker.connect(client, address, "localhost").expect("an answer");
        let mut send = connection.open_uni().expect("streams are allowed");
        write!(send, "headrest").expect("it is read");
        send.finish().expect("the stream is open");
        let mut turned = String::new();
        connection.accept_uni().expect("the server opens one").read_to_string(&mut turned).expect("it ends");
        assert_eq!(turned, "resthead");
        // Datagrams may be lost; each is sent until it is back.
        for number in 0..50u32 {
            let bytes = number.to_be_bytes();
            loop {
                connection.send_datagram(bytes.to_vec()).expect("the server takes datagrams");
                let back = time::timeout(Duration::from_millis(500), async {
                    loop {
                        let datagram =
                            local::Connection::recv_datagram(&connection).await.expect("the server is there");
                        if datagram[..] == bytes {
                            return;
                        }
                    }
                });
                if back.is_ok() {
                    break;
                }
            }
        }
        connection.close(7, b"done");
        connection.closed()
    });
    assert_eq!(result.expect("the program runs"), warpline::ConnectionError::LocallyClosed);
}

#[test]
fn fibers_and_tasks_share_a_worker() {
    let sum = loopback().run_fiber(|worker| {
        let (send, receive) = sync::channel(1);
        let task = worker.spawn(async move {
            let mut sum = 0;
            while let Ok(number) = receive.recv().await {
                sum += number;
                local::sleep(Duration::from_micros(100)).await.expect("this is a worker");
            }
            sum
        });
        for number in 0..20u32 {
            send.send(number).wait().expect("the task listens");
            time::sleep(Duration::from_micros(50));
        }
        drop(send);
        task.expect("this is a worker").wait().expect("the task does not panic")
    });
    assert_eq!(sum.expect("the program runs"), (0..20).sum::<u32>());
}

#[test]
fn a_fiber_that_only_yields_does_not_keep_packets_waiting() {
    let (server, client) = configs(TransportConfig::default());
    let server = loopback().server(server).serve_fibers(|connection| {
        spawn(|| {
            loop {
                yield_now()
            }
        })
        .detach();
        while let Ok((mut send, mut recv)) = connection.accept_bi() {
            let bytes = recv.read_to_end(100).expect("the request is short");
            send.write_all(&bytes).expect("the client reads");
        }
    });
    let server = server.expect("loopback is there");
    let address = server.local_addr();
    let result = loopback().run_fiber(move |worker| {
        let connection = worker.connect(client, address, "localhost").expect("an answer");
        (0..20u8).all(|number| {
            let (mut send, mut recv) = connection.open_bi().expect("streams are allowed");
            send.write_all(&[number]).expect("it is read");
            send.finish().expect("the stream is open");
            recv.read_to_end(100).expect("an answer") == [number]
        })
    });
    assert!(result.expect("the program runs"));
    // Ends although that fiber never does: its worker cancels it.
    drop(server);
}

#[test]
fn a_handlers_panic_resets_its_streams_and_nothing_else() {
    let (server, client) = configs(TransportConfig::default());
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let server = loopback().server(server).serve_fibers(move |connection| {
        count.fetch_add(1, Ordering::Relaxed);
        let (mut send, mut recv) = connection.accept_bi().expect("the client opens one");
        let order = recv.read_to_end(100).expect("it is short");
        send.write_all(b"half an ans").expect("the client reads");
        assert_ne!(order, b"panic", "as planned");
        send.write_all(b"wer").expect("the client reads");
        drop(send);
        let _ = connection.closed();
    });
    let server = server.expect("loopback is there");
    let address = server.local_addr();
    let client = Arc::new(client);
    let answers = loopback().run_fiber(move |worker| {
        ["panic", "work"].map(|order| {
            let connection = worker.connect(Arc::clone(&client), address, "localhost").expect("an answer");
            let (mut send, mut recv) = connection.open_bi().expect("streams are allowed");
            send.write_all(order.as_bytes()).expect("it is read");
            send.finish().expect("the stream is open");
            recv.read_to_end(100).map_err(|error| error.to_string())
        })
    });
    let [panicked, worked] = answers.expect("the program runs");
    assert!(panicked.is_err(), "{panicked:?}");
    assert_eq!(worked.expect("the other handler is well"), b"half an answer");
    assert_eq!(served.load(Ordering::Relaxed), 2);
}
