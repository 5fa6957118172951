//! A worker that finds more in its socket than it handles in a turn: what it makes of that, and a change of workers meanwhile.
#![cfg(target_os = "linux")]

mod common;

use common::load::{self, HoldUp};
use common::{client, echo, on_worker, pair, serve, server, server_config};
use std::cell::Cell;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use warpline_engine::local::{Connection, Worker};
use warpline_engine::{Engine, EngineConfig, ScalingPolicy, limits};
use warpline_pktio::Backend;

/// Floods the server until told to stop, so that at most so many packets wait there. Each has 600 bytes: some thousands fill a socket's
/// buffer.
fn flood(server: &Engine, waiting_max: u64, stop: &AtomicBool) {
    let (socket, to) = (UdpSocket::bind(common::loopback()).expect("loopback is there"), server.local_addr());
    load::flood(&socket, to, 600, |sent| {
        let told = || stop.load(Ordering::Relaxed);
        while sent.saturating_sub(server.stats().datagrams) >= waiting_max && !told() {
            std::thread::sleep(Duration::from_millis(1));
        }
        !told()
    });
}

/// Raises a flag at the end, also of a test that fails: who waits for it would wait for ever.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Holds the server's first worker up.
fn hold_up(server: &Engine) -> HoldUp {
    HoldUp::new(server.workers().remove(0))
}

fn overrun(backend: Backend) {
    let pair = pair();
    let mut config = EngineConfig { workers_max: 2, ..server_config(&pair, 1) };
    config.io.backend = backend;
    let server = match Engine::start(config, serve(echo)) {
        Err(error) if backend == Backend::Uring => return eprintln!("skipped: {error}"),
        started => Arc::new(started.expect("loopback is there")),
    };
    let stop = AtomicBool::new(false);
    let client = client();
    std::thread::scope(|scope| {
        let _end = Raise(&stop);
        scope.spawn(|| flood(&server, u64::MAX, &stop));
        // The change is under way long before the worker is let go.
        let held_up = hold_up(&server);
        let scaled = Arc::clone(&server);
        let change = scope.spawn(move || on_worker(&client, move |_| async move { scaled.scale_to(2).await }));
        std::thread::sleep(Duration::from_millis(300));
        drop(held_up);
        change.join().expect("the change ends").expect("within the limits");
    });
    let stats = server.stats();
    assert!(stats.datagrams > 3_000, "the socket was full: {stats:?}");
    // The kernel may have been steering a few packets at the very moment of each swap.
    assert!(stats.handed_over < 100, "what arrived before the change was left for after it: {stats:?}");
}

#[test]
fn a_worker_handles_all_that_has_arrived_before_it_gives_slots_away() {
    overrun(Backend::Udp);
}

#[test]
fn a_worker_on_io_uring_does_so_too() {
    overrun(Backend::Uring);
}

/// Waits for what the engine is to show sooner or later.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it is not so after a minute: {what}");
}

#[test]
fn what_waits_in_the_socket_keeps_new_connections_out_and_leaves_old_ones_whole() {
    let pair = pair();
    let (server, client) = (server(&pair, 1, echo), client());
    let (config, to) = (Arc::clone(&pair.client), server.local_addr());
    let connect = async move |worker: Worker| worker.connect(Arc::clone(&config), to, "localhost").await;
    let first = connect.clone();
    on_worker(&client, async move |worker| OLD.set(Some(first(worker).await.expect("an answer"))));
    // A client whose first packet is dropped repeats it: it gets in when the delay is over.
    let both = async move |worker| {
        let new = connect(worker).await.expect("the server takes connections again");
        for connection in [OLD.take().expect("it was kept"), new] {
            let (mut send, mut recv) = connection.open_bi().await.expect("the connection lives");
            send.write_all(b"still there?").await.expect("the server reads");
            send.finish().expect("the stream is open");
            assert_eq!(recv.read_to_end(100).await.expect("the echo comes"), b"still there?");
        }
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = Raise(&stop);
        scope.spawn(|| flood(&server, 4_500, &stop));
        let _held_up = hold_up(&server);
        // By the turns alone, ten milliseconds each, it would never come to that. It falls once more after the beginning, when nothing was held up
        // yet; what waits in the end takes 700 ms.
        let mut late = 0;
        wait_until("a delay at which nobody is let in", || {
            let is_late = Duration::from_nanos(server.stats().delay_ns) > limits::SHED_DELAY * 3 / 2;
            late = if is_late { late + 1 } else { 0 };
            late > 50
        });
        wait_until("more waits than a look brings", || server.stats().queue > 100);
        scope.spawn(|| on_worker(&client, both));
        let dropped = async |worker: Worker| worker.endpoint_stats().map(|stats| stats.dropped_overload);
        wait_until("the new connection was not let in", || {
            on_worker(&server, dropped).expect("it is asked on its worker") > 0
        });
    });
}

thread_local! {
    /// A connection that the client's worker keeps from one program to the next.
    static OLD: Cell<Option<Connection>> = const { Cell::new(None) };
}

#[test]
fn what_waits_in_the_socket_brings_another_worker_by_the_policy_as_it_is() {
    let pair = pair();
    let config = EngineConfig {
        workers_max: 2,
        // A delay of a millisecond would do for the naps alone.
        scaling: Some(ScalingPolicy { grow_delay: Duration::MAX, ..ScalingPolicy::default() }),
        ..server_config(&pair, 1)
    };
    let server = Engine::start(config, serve(echo)).expect("loopback is there");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = Raise(&stop);
        scope.spawn(|| flood(&server, 3_000, &stop));
        let _held_up = hold_up(&server);
        wait_until("there is a second worker", || server.workers().len() == 2);
    });
    assert!(server.stats().growth_asked > 0);
}
