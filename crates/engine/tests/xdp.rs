//! QUIC over AF_XDP at both ends of a veth pair between namespaces. Needs root; without it each story says that it was
//! skipped.
#![cfg(target_os = "linux")]

mod common;
#[path = "../../pktio/tests/common/netns.rs"]
mod netns;

use common::{Pair, config, echo, on_worker, pair, pattern, serve, server_config};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use warpline_engine::local::{Connection, sleep, spawn};
use warpline_engine::{Engine, EngineConfig};
use warpline_pktio::xdp::{InterfaceName, XdpConfig, XdpFrames, XdpMode};
use warpline_pktio::{Backend, IoConfig, IoKind};
use warpline_proto::config::ClientConfig;

/// An engine in a namespace, on AF_XDP or on the kernel's sockets.
fn start(net: &netns::Pair, end: usize, mut config: EngineConfig, xdp: bool) -> Engine {
    let interface = InterfaceName::new(&net.interface(end)).expect("a short name");
    config.io.backend = if xdp { Backend::Xdp } else { Backend::Udp };
    config.io.xdp = Some(XdpConfig::new(interface));
    net.inside(end, || Engine::start(config, serve(echo)).expect("both work on veth"))
}

/// The address to bind to, and pools of the usual sizes: an echo holds all that is on its way.
fn bound(bind: &str, config: EngineConfig) -> EngineConfig {
    EngineConfig { bind: bind.parse().expect("a literal"), io: IoConfig::default(), ..config }
}

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

/// Connections that each send some streams there and back.
fn exchange(client: &Engine, config: &Arc<ClientConfig>, to: SocketAddr, connections: usize, len: usize) {
    let config = Arc::clone(config);
    on_worker(client, move |worker| async move {
        let mut tasks = Vec::new();
        for seed in 0..connections {
            let connection = worker.connect(Arc::clone(&config), to, "localhost").await.expect("the server answers");
            for stream in 0..4 {
                let task = worker.spawn(round_trip(connection.clone(), seed * 4 + stream, len));
                tasks.push(task.expect("tests run on the worker"));
            }
        }
        for task in tasks {
            task.await.expect("no stream fails");
        }
    });
}

fn both_ends(net: &netns::Pair, pair: &Pair, server_xdp: bool, client_xdp: bool) {
    let server = start(net, 0, bound("[::]:4433", server_config(pair, 1)), server_xdp);
    let client = start(net, 1, bound("[::]:5000", config(1)), client_xdp);
    for (engine, xdp) in [(&server, server_xdp), (&client, client_xdp)] {
        let choice = engine.workers()[0].io_choice();
        assert_eq!(choice.kind, if xdp { IoKind::Xdp } else { IoKind::Udp });
        assert!(!xdp || choice.why.contains("queues [0], copy mode"), "{}", choice.why);
    }
    for to in ["10.77.0.1:4433", "[fd77::1]:4433"] {
        exchange(&client, &pair.client, to.parse().expect("a literal"), 2, 300_000);
    }
    let (sent, received) = (client.workers()[0].io_stats(), server.workers()[0].io_stats());
    assert!(sent.tx_datagrams > 2000 && received.rx_datagrams > 2000, "{sent:?} {received:?}");
}

#[test]
fn streams_are_echoed_over_af_xdp_at_both_ends() {
    let Some(net) = netns::Pair::new("quic") else { return };
    both_ends(&net, &pair(), true, true);
}

#[test]
fn streams_are_echoed_over_af_xdp_at_one_end() {
    let Some(net) = netns::Pair::new("quic1") else { return };
    both_ends(&net, &pair(), true, false);
    both_ends(&net, &pair(), false, true);
}

#[test]
fn a_connection_survives_an_interface_that_goes_down_and_away() {
    let Some(net) = netns::Pair::new("survive") else { return };
    let pair = pair();
    let server = start(&net, 0, bound("10.77.0.1:4433", server_config(&pair, 1)), true);
    let client = start(&net, 1, bound("10.77.0.2:5000", config(1)), true);
    let config = Arc::clone(&pair.client);
    let (step, steps) = std::sync::mpsc::channel::<()>();
    let (told, tell) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            on_worker(&client, move |worker| async move {
                let to: SocketAddr = "10.77.0.1:4433".parse().expect("a literal");
                let connection = worker.connect(config, to, "localhost").await.expect("the server answers");
                for seed in 0..3 {
                    round_trip(connection.clone(), seed, 200_000).await;
                    told.send(()).expect("the test listens");
                    // Meanwhile the worker goes on: it must not block.
                    while steps.try_recv().is_err() {
                        sleep(Duration::from_millis(10)).await.expect("on its worker");
                    }
                }
            });
        });
        tell.recv().expect("the first round trip is done");
        net.ip(0, "link set wl0 down");
        step.send(()).expect("the client waits");
        // The question is under way while the interface is down.
        std::thread::sleep(Duration::from_millis(300));
        net.ip(0, "link set wl0 up");
        tell.recv().expect("the connection goes on");
        net.ip(0, "link del wl0");
        step.send(()).expect("the client waits");
        std::thread::sleep(Duration::from_millis(300));
        net.link_again(1);
        tell.recv().expect("the connection goes on");
        step.send(()).expect("the client waits");
    });
    for engine in [&server, &client] {
        assert_eq!(engine.workers()[0].xdp_status().and_then(|status| status.mode), Some(XdpMode::Copy));
    }
}

#[test]
fn workers_own_queues_and_hand_over_what_is_not_theirs() {
    let Some(net) = netns::Pair::with_queues("quic2", 2) else { return };
    let pair = pair();
    let server = start(&net, 0, bound("10.77.0.1:4433", server_config(&pair, 2)), true);
    let client = start(&net, 1, bound("10.77.0.2:5000", config(2)), true);
    exchange(&client, &pair.client, "10.77.0.1:4433".parse().expect("a literal"), 8, 100_000);
    let stats = server.stats();
    let datagrams: Vec<u64> = server.workers().iter().map(|worker| worker.stats().datagrams).collect();
    assert!(datagrams.iter().all(|&count| count > 0), "both workers have connections: {datagrams:?}");
    assert_eq!(stats.handover_dropped, 0, "nothing is lost between them");
}

/// The owner of the only queue receives and sends for all; no packet goes by way of the kernel, and no frame is lost.
#[test]
fn more_workers_than_queues_share_one() {
    let Some(net) = netns::Pair::new("share") else { return };
    let pair = pair();
    for (workers, connections) in [(2, 6), (3, 9)] {
        let server = start(&net, 0, bound("[::]:4433", server_config(&pair, workers)), true);
        let client = start(&net, 1, bound("[::]:5000", config(workers)), true);
        for to in ["10.77.0.1:4433", "[fd77::1]:4433"] {
            exchange(&client, &pair.client, to.parse().expect("a literal"), connections, 200_000);
        }
        let stats = server.stats();
        let all = server.workers();
        let datagrams: Vec<u64> = all.iter().map(|worker| worker.stats().datagrams).collect();
        assert!(datagrams.iter().all(|&count| count > 500), "every worker has connections: {datagrams:?}");
        assert_eq!(stats.handover_dropped, 0, "nothing is lost between them");
        for (index, worker) in all.iter().enumerate() {
            let (io, status) = (worker.io_stats(), worker.xdp_status().expect("AF_XDP"));
            assert_eq!((io.rx_by_kernel, io.tx_by_kernel, io.drop_tx_refused), (0, 0, 0), "worker {index}: {io:?}");
            assert!(io.tx_datagrams > 500, "worker {index} sends: {io:?}");
            assert_eq!(io.rx_datagrams > 0, index == 0, "the owner of the queue receives: {io:?}");
            assert_eq!((status.queues.len(), status.mode), (usize::from(index == 0), Some(XdpMode::Copy)));
            assert_eq!(status.reason.contains("worker 0 receives and sends for it, on queue 0"), index > 0);
        }
        drop(client);
        // Everything is finished and sent: only what the guests have to build in is out.
        let frames = settled(&server);
        assert!(frames.add_up(), "{frames:?}");
    }
}

/// Where the frames of the queue are, once the server has nothing to do any more.
fn settled(server: &Engine) -> XdpFrames {
    let mut last = None;
    for _ in 0..200 {
        std::thread::sleep(Duration::from_millis(50));
        let now = server.workers()[0].xdp_frames().expect("AF_XDP");
        let rests = now.sending == 0 && server.stats().connections == 0;
        if rests && last == Some(now) && now.add_up() {
            return now;
        }
        last = Some(now);
    }
    panic!("the frames do not come to rest: {last:?}");
}
