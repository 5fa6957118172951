//! The same work over each packet back end, and what it costs in system calls.
#![cfg(target_os = "linux")]

mod common;

use common::{Pair, config, echo, on_worker, pair, pattern, serve, server_config};
use std::sync::Arc;
use std::time::Duration;
use warpline_engine::{Engine, EngineConfig, StartError};
use warpline_pktio::{Backend, IoConfig, IoKind};

/// A server that echoes and a client on the back end, or `None`, said in one line.
fn engines(pair: &Pair, io: IoConfig) -> Option<(Engine, Engine)> {
    // Without spinning a turn is one with work: looks in vain are free on a ring, and would hide what others cost.
    let spin = Duration::ZERO;
    let server = Engine::start(EngineConfig { io, spin, ..server_config(pair, 1) }, serve(echo));
    let client = Engine::start(EngineConfig { io, spin, ..config(1) }, |_| async {});
    unless_refused(server).zip(unless_refused(client))
}

/// An engine, or `None`, said in one line, where the kernel refuses rings to this process. With `CI` set that is a failure, and
/// whatever else is wrong with a ring is one anywhere.
fn unless_refused(started: Result<Engine, StartError>) -> Option<Engine> {
    // The words of pktio's errors.
    let refusals = ["(ENOSYS)", "(EPERM)", "kernel.io_uring_disabled"];
    match started {
        Ok(engine) => Some(engine),
        Err(error)
            if refusals.iter().any(|refusal| error.to_string().contains(refusal))
                && std::env::var_os("CI").is_none() =>
        {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn on(backend: Backend) -> IoConfig {
    IoConfig { backend, ..config(1).io }
}

/// Sends `len` bytes there and back on one stream, `times` times one after the other.
fn echo_of(server: &Engine, client: &Engine, pair: &Pair, len: usize, times: usize) {
    let (config, address) = (Arc::clone(&pair.client), server.local_addr());
    on_worker(client, move |worker| async move {
        let connection = worker.connect(config, address, "localhost").await.expect("the server answers");
        for seed in 0..times {
            let (mut send, mut recv) = connection.open_bi().await.expect("streams are allowed");
            let data = pattern(seed, len);
            let sent = data.clone();
            let writer = worker.spawn(async move {
                send.write_all(&sent).await.expect("the peer reads");
                send.finish().expect("the stream is open");
            });
            assert_eq!(recv.read_to_end(len).await.expect("the echo comes"), data);
            writer.expect("tests run on the worker").await.expect("the writer does not panic");
        }
    });
}

/// System calls of the packet back end, turns, and datagrams both ways.
fn costs(engine: &Engine) -> (u64, u64, u64) {
    let io = engine.workers()[0].io_stats();
    (io.syscalls(), engine.stats().turns, io.rx_datagrams + io.tx_datagrams)
}

#[test]
fn the_back_end_that_was_named_is_at_work() {
    let pair = pair();
    for (backend, kind) in [(Backend::Udp, IoKind::Udp), (Backend::Uring, IoKind::Uring)] {
        let Some((server, client)) = engines(&pair, on(backend)) else { continue };
        echo_of(&server, &client, &pair, 10_000, 3);
        for engine in [&server, &client] {
            let worker = &engine.workers()[0];
            assert_eq!((worker.io_choice().kind, worker.io_stats().kind), (kind, kind));
            assert_eq!(worker.io_choice().why, "asked for");
        }
    }
}

#[test]
fn a_choice_is_explained() {
    let pair = pair();
    let (server, client) = engines(&pair, on(Backend::Auto)).expect("some back end works");
    echo_of(&server, &client, &pair, 10_000, 3);
    let choice = server.workers()[0].io_choice();
    assert!(!choice.why.is_empty() && !choice.why.contains('\n'), "{choice:?}");
}

#[test]
fn with_a_ring_a_turn_is_at_most_one_system_call() {
    let pair = pair();
    let Some((server, client)) = engines(&pair, on(Backend::Uring)) else { return };
    echo_of(&server, &client, &pair, 100, 500);
    echo_of(&server, &client, &pair, 30 << 20, 1);
    for (name, engine) in [("server", &server), ("client", &client)] {
        let (calls, turns, datagrams) = costs(engine);
        println!("{name}: {calls} system calls, {turns} turns, {datagrams} datagrams");
        // A turn that sends and finds nothing is followed by a wait of its own, and there are a few before the first.
        assert!(calls <= turns + 10, "{name}: {calls} system calls in {turns} turns");
    }
}

#[test]
fn with_a_ring_a_system_call_moves_sixty_four_datagrams_in_bulk() {
    let pair = pair();
    let Some((server, client)) = engines(&pair, on(Backend::Uring)) else { return };
    // Congestion control needs a while to fill trains.
    echo_of(&server, &client, &pair, 4 << 20, 1);
    let before = [&server, &client].map(costs);
    echo_of(&server, &client, &pair, 64 << 20, 1);
    for (name, before, engine) in [("server", before[0], &server), ("client", before[1], &client)] {
        let after = costs(engine);
        let (calls, datagrams) = (after.0 - before.0, after.2 - before.2);
        println!("{name}: {datagrams} datagrams in {calls} system calls");
        assert!(datagrams > 64 * calls, "{name}: {datagrams} datagrams in {calls} system calls");
    }
}

#[test]
fn a_polling_kernel_thread_carries_the_same_data() {
    let pair = pair();
    let sq_poll = Duration::from_millis(20);
    let Some((server, client)) = engines(&pair, IoConfig { sq_poll, ..on(Backend::Uring) }) else { return };
    echo_of(&server, &client, &pair, 100, 20);
    echo_of(&server, &client, &pair, 1 << 20, 2);
    assert!(costs(&server).2 > 0);
}

#[test]
fn a_thread_that_polls_is_refused_where_there_is_none() {
    let io = IoConfig { sq_poll: Duration::from_millis(1), ..on(Backend::Udp) };
    let error = Engine::start(EngineConfig { io, ..config(1) }, |_| async {}).expect_err("it is refused");
    assert!(error.to_string().contains("back end udp"), "{error}");
}

#[test]
fn several_workers_share_a_port_on_rings() {
    let pair = pair();
    let io = on(Backend::Uring);
    let server = Engine::start(EngineConfig { io, ..server_config(&pair, 3) }, serve(echo));
    let Some(server) = unless_refused(server) else { return };
    let client = Engine::start(EngineConfig { io, ..config(1) }, |_| async {}).expect("the server has a ring as well");
    for _ in 0..6 {
        echo_of(&server, &client, &pair, 50_000, 2);
    }
    assert_eq!(server.stats().handed_over, 0, "the kernel steers");
}
