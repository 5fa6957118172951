//! QUIC over AF_XDP at both ends of a veth pair between namespaces. Needs root; without it each story says that it was
//! skipped.
#![cfg(target_os = "linux")]

mod common;
#[path = "../../pktio/tests/common/netns.rs"]
mod netns;

use common::{Pair, config, echo, on_worker, pair, pair_with, pattern, serve, server_config};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;
use warpline_engine::local::{Connection, Worker, sleep, spawn};
use warpline_engine::{ConnectError, Engine, EngineConfig};
use warpline_pktio::xdp::{InterfaceName, XdpConfig, XdpFrames, XdpMode};
use warpline_pktio::{Backend, IoConfig, IoKind, IoStats};
use warpline_proto::ConnectionError;
use warpline_proto::config::{ClientConfig, TransportConfig};

/// An engine in a namespace, on AF_XDP or on the kernel's sockets.
fn start(net: &netns::Pair, end: usize, config: EngineConfig, xdp: bool) -> Engine {
    start_polling(net, end, config, xdp, 0)
}

/// As [`start`], and each look has the kernel run the queue for so many packets.
fn start_polling(net: &netns::Pair, end: usize, mut config: EngineConfig, xdp: bool, budget: u16) -> Engine {
    let interface = InterfaceName::new(&net.interface(end)).expect("a short name");
    config.io.backend = if xdp { Backend::Xdp } else { Backend::Udp };
    config.io.xdp = Some(XdpConfig { busy_poll_budget: budget, ..XdpConfig::new(interface) });
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

/// A port that nobody has bound: ICMP says so, and since anybody could have said it, a client goes on trying (as over the
/// kernel's sockets). Others do not notice.
#[test]
fn a_refused_port_is_only_one_that_does_not_answer() {
    let Some(net) = netns::Pair::new("refused") else { return };
    let short = TransportConfig { max_idle_timeout: Some(Duration::from_secs(1)), ..TransportConfig::default() };
    let (pair, hasty) = (pair(), pair_with(short.clone(), short));
    let server = start(&net, 0, bound("[::]:4433", server_config(&pair, 1)), true);
    for xdp in [true, false] {
        let client = start(&net, 1, bound("[::]:5000", config(1)), xdp);
        exchange(&client, &pair.client, "10.77.0.1:4433".parse().expect("a literal"), 1, 1000);
        let before = said_unreachable(&net);
        let config = Arc::clone(&hasty.client);
        let outcome = on_worker(&client, move |worker| async move {
            worker.connect(config, "10.77.0.1:4434".parse().expect("a literal"), "localhost").await.map(drop)
        });
        assert!(said_unreachable(&net) > before, "ICMP has said something");
        let error = outcome.expect_err("nobody is there");
        assert!(matches!(error, ConnectError::Failed(ConnectionError::TimedOut)), "AF_XDP {xdp}: {error:?}");
        exchange(&client, &pair.client, "10.77.0.1:4433".parse().expect("a literal"), 2, 100_000);
    }
    drop(server);
}

/// How many ICMP messages about ports and hosts the server's kernel has sent.
fn said_unreachable(net: &netns::Pair) -> u64 {
    counter(net, "snmp", "Icmp:", "OutDestUnreachs")
}

/// What the kernel has counted in the server's namespace.
fn counter(net: &netns::Pair, file: &str, group: &str, name: &str) -> u64 {
    let text = net.exec(0, &format!("cat /proc/net/{file}")).expect("proc is there");
    let mut lines = text.lines().filter(|line| line.starts_with(group)).map(|line| line.split(' '));
    let (names, values) = (lines.next().expect("the names"), lines.next().expect("the values"));
    let (_, value) = names.zip(values).find(|(found, _)| *found == name).expect("the kernel counts it");
    value.parse().expect("a number")
}

/// A worker that is told to poll busily does so with each look in vain, and says whether the kernel can follow. Where it can,
/// the kernel counts what it has received by that; a worker that is not told to never polls.
#[test]
fn busy_polling_is_live_in_a_worker() {
    let Some(net) = netns::Pair::new("busy") else { return };
    // Otherwise the kernel has received what comes before anybody polls.
    for (file, value) in [("napi_defer_hard_irqs", "2"), ("gro_flush_timeout", "200000")] {
        net.write_sys(0, file, value).expect("interrupts are put off");
    }
    let pair = pair();
    let [(idle, ..), (polled, calls, reason)] = [0, 64].map(|budget| {
        let before = counter(&net, "netstat", "TcpExt:", "BusyPollRxPackets");
        let server = start_polling(&net, 0, bound("10.77.0.1:4433", server_config(&pair, 1)), true, budget);
        let client = start(&net, 1, bound("10.77.0.2:5000", config(1)), false);
        exchange(&client, &pair.client, "10.77.0.1:4433".parse().expect("a literal"), 4, 300_000);
        let (io, turns) = (server.workers()[0].io_stats(), server.stats().turns);
        assert_eq!((io.rx_by_kernel, io.rx_datagrams > 2000), (0, true), "budget {budget}: {io:?}");
        let polled = counter(&net, "netstat", "TcpExt:", "BusyPollRxPackets") - before;
        let reason = server.workers()[0].xdp_status().expect("AF_XDP").reason;
        println!("budget {budget}: {} calls in {turns} turns, {polled} packets polled: {reason}", io.recv_calls);
        // Beside the looks at the kernel's socket, every 64th turn at most.
        (polled, io.recv_calls > turns / 16, reason)
    });
    assert_eq!((idle, calls), (0, true), "only who is told to polls");
    if reason.contains("; busy polling") {
        assert!(polled > 100, "{polled} packets");
    } else {
        assert!(reason.contains("; no busy polling yet: the driver does not say"), "{reason}");
        println!("skipped in part: {reason}");
    }
}

/// Queues that are new are nobody's: what comes by them is the kernel's socket's to receive, and counted. Of queues that are
/// gone the workers have the kernel's socket too, to send by, until they are back.
#[test]
fn connections_survive_when_queues_come_and_go() {
    let Some(net) = netns::Pair::with_queues("queues4", 4) else { return };
    let set = |end: usize, count| net.exec(end, &format!("ethtool -L wl{end} rx {count} tx {count}"));
    // A link of this kind runs a program only where as many queues receive as its peer sends on.
    if let Err(reason) = set(1, 2).and_then(|_| set(0, 2)) {
        println!("skipped: the number of queues cannot be changed here: {reason}");
        return;
    }
    let addresses: Vec<String> = (11..27).map(|host| format!("10.77.0.{host}")).collect();
    let add = || addresses.iter().for_each(|address| drop(net.ip(0, &format!("addr add {address}/24 dev wl0"))));
    add();
    let pair = pair();
    let server = start(&net, 0, bound("0.0.0.0:4433", server_config(&pair, 2)), true);
    let client = start(&net, 1, bound("0.0.0.0:5000", config(1)), false);
    let (step, steps) = std::sync::mpsc::channel::<()>();
    let (told, tell) = std::sync::mpsc::channel();
    let by_kernel = |io: fn(&IoStats) -> u64| server.workers().iter().map(|w| io(&w.io_stats())).sum::<u64>();
    let received = || by_kernel(|io| io.rx_by_kernel);
    let modes = || server.workers().iter().map(|w| w.xdp_status().and_then(|status| status.mode)).collect::<Vec<_>>();
    let until = |wanted: &[Option<XdpMode>]| {
        (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            modes() == wanted
        })
    };
    let both = [Some(XdpMode::Copy); 2];
    std::thread::scope(|scope| {
        let to = addresses.iter().map(|address| format!("{address}:4433").parse().expect("a literal")).collect();
        let (config, client) = (Arc::clone(&pair.client), &client);
        scope.spawn(move || on_worker(client, |worker| connections_in_steps(worker, config, to, steps, told)));
        let next = || {
            step.send(()).expect("the client waits");
            tell.recv().expect("every connection goes on");
        };
        tell.recv().expect("the first round trips are done");
        assert_eq!((received(), modes()), (0, both.to_vec()), "two queues, both served");
        // More queues, of which each connection's packets come by one.
        set(0, 4).and_then(|_| set(1, 4)).expect("there are four");
        next();
        let grown = received();
        assert!(grown > 0, "of the new queues nobody receives but the kernel");
        assert_eq!(modes(), both);
        // As before.
        set(1, 2).and_then(|_| set(0, 2)).expect("nobody serves those that go");
        next();
        let shrunk = received();
        next();
        assert_eq!(received(), shrunk, "all comes by the queues that are served");
        // Fewer than are served: the kernel keeps them as long as there is a socket, or they are gone with the interface.
        if let Err(reason) = set(1, 1).and_then(|_| set(0, 1)) {
            assert!(reason.contains("AF_XDP"), "{reason}");
        }
        next();
        for (queues, wanted) in [(1, [Some(XdpMode::Copy), None]), (4, both)] {
            net.ip(0, "link del wl0");
            net.link_again(queues);
            add();
            assert!(until(&wanted), "{queues} queues: {:?}", modes());
            next();
        }
        drop(step);
    });
    assert!(by_kernel(|io| io.tx_by_kernel) > 0, "without its queue a worker sends by the kernel's socket");
    for worker in server.workers() {
        assert!(worker.xdp_frames().is_some_and(|frames| frames.add_up()), "{:?}", worker.xdp_frames());
    }
}

/// One connection to each address; a round trip on each of them whenever there is a step.
async fn connections_in_steps(
    worker: Worker,
    config: Arc<ClientConfig>,
    to: Vec<SocketAddr>,
    steps: Receiver<()>,
    told: Sender<()>,
) {
    let mut connections = Vec::new();
    for to in to {
        let connection = worker.connect(Arc::clone(&config), to, "localhost").await.expect("the server answers");
        connections.push(connection);
    }
    for seed in 0.. {
        for connection in &connections {
            round_trip(connection.clone(), seed, 30_000).await;
        }
        if told.send(()).is_err() {
            return;
        }
        // Meanwhile the worker goes on: it must not block.
        while let Err(nothing) = steps.try_recv() {
            if nothing == TryRecvError::Disconnected {
                return;
            }
            sleep(Duration::from_millis(10)).await.expect("on its worker");
        }
    }
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
