//! Workers come and go over AF_XDP, at both ends of a veth pair between namespaces: nothing is lost, repeated or reordered, and
//! every frame comes home. Needs root; without it each story says that it was skipped, and
//! fails with `CI` set.
#![cfg(target_os = "linux")]

mod common;

use common::load::{HoldUp, flood};
use common::transfers::{all_get_on, connect_all, serve_all, setup};
use common::xdp::{address, at, frames_at_rest, namespaces, netns, start};
use common::{eager, until};
use std::cell::RefCell;
use std::future::Future;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;
use warpline::engine::WorkerHandle;
use warpline::{
    Chunk, Connection, Endpoint, EngineError, Fault, InterfaceName, IoConfig, IoKind, ScalingPolicy, XdpConfig,
    XdpFrames, local,
};

/// UDP datagrams that the kernel has received and sent in a namespace.
fn by_kernel(net: &netns::Pair, end: usize) -> Vec<u64> {
    let text = net.exec(end, "cat /proc/net/snmp").expect("proc is there");
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:")).map(|line| line.split(' '));
    let (names, values) = (lines.next().expect("the names"), lines.next().expect("the values"));
    let counted = names.zip(values).filter(|(name, _)| matches!(*name, "InDatagrams" | "OutDatagrams"));
    counted.map(|(_, value)| value.parse().expect("a number")).collect()
}

/// Changes the numbers of workers at both ends again and again while 24 connections transfer.
async fn scale_under_load(net: netns::Pair, least: usize, steps: &[(usize, usize)]) {
    let (server_config, client_config) = setup();
    let server = start(&net, 0, at(0).workers(least).max_workers(5).server(server_config));
    let client = start(&net, 1, at(1).workers(least).max_workers(3));
    let fresh = (frames_at_rest(&server).await, frames_at_rest(&client).await);
    // Finding out what the kernel's sockets can may have taken one.
    let before = [0, 1].map(|end| by_kernel(&net, end));
    serve_all(&server);
    let stop = Arc::new(AtomicBool::new(false));
    let (accounts, tasks) = connect_all(&client, address(), &client_config, 24, &stop).await;
    for &(server_workers, client_workers) in steps {
        server.scale_to(server_workers).await.expect("there may be so many");
        client.scale_to(client_workers).await.expect("there may be so many");
        assert_eq!((server.workers().len(), client.workers().len()), (server_workers, client_workers));
        all_get_on(&accounts, &tasks).await;
        look_at_guests(&server, least);
    }
    for endpoint in [&server, &client] {
        let error = endpoint.scale_to(least - 1).await.expect_err("owners stay");
        assert!(error.fault() == Fault::Caller && error.to_string().contains(&format!("{least} to ")), "{error}");
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no connection fails");
    }
    for endpoint in [&server, &client] {
        let stats = endpoint.stats();
        assert!(stats.moved_out > 0 && stats.moved_in == stats.moved_out, "{stats:?}");
        assert_eq!((stats.handover_dropped, stats.panics, stats.task_panics), (0, 0, 0));
    }
    assert_eq!([0, 1].map(|end| by_kernel(&net, end)), before, "nothing went another way");
    // The connections go, and with them what lies in frames.
    client.scale_to(least).await.expect("as at the beginning");
    server.scale_to(least).await.expect("as at the beginning");
    drop(accounts);
    let runs = || server.running_workers().max(client.running_workers());
    until(|| runs() == least && server.stats().connections == 0).await;
    let kept = |frames: Vec<XdpFrames>| frames.iter().map(|frames| (frames.capacity, frames.kept)).collect::<Vec<_>>();
    let rest = (frames_at_rest(&server).await, frames_at_rest(&client).await);
    assert_eq!((kept(rest.0), kept(rest.1)), (kept(fresh.0), kept(fresh.1)), "every frame is where it was");
    server.shutdown(0, b"").await;
    client.shutdown(0, b"").await;
}

/// Which workers receive and which have others do it, as their status says.
fn look_at_guests(server: &Endpoint, owners: usize) {
    let workers = server.workers();
    let sent = workers[owners..].iter().map(|guest| guest.io_stats().tx_datagrams).max();
    assert!(sent.is_none_or(|sent| sent > 0), "no guest has sent anything");
    for worker in workers {
        let (number, io) = (worker.index(), worker.io_stats());
        let status = worker.xdp_status().expect("AF_XDP");
        assert_eq!(status.queues.is_empty(), number >= owners, "worker {number}: {status:?}");
        let host = status.guest_of;
        assert_eq!(host.is_some_and(|host| host < owners), number >= owners, "worker {number}: {status:?}");
        assert_eq!((io.rx_by_kernel, io.tx_by_kernel), (0, 0), "worker {number}: {io:?}");
        assert_eq!(io.rx_datagrams > 0, number < owners, "worker {number}: {io:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_move_whole_between_the_owner_of_a_queue_and_guests() {
    let Some(net) = namespaces("move1", 1) else { return };
    scale_under_load(net, 1, &[(3, 1), (2, 3), (5, 2), (1, 1), (4, 3), (1, 1)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_move_whole_between_two_owners_and_guests_of_both() {
    let Some(net) = namespaces("move2", 2) else { return };
    scale_under_load(net, 2, &[(3, 2), (5, 3), (2, 2), (4, 3), (2, 2)]).await;
}

/// One worker owns all queues, and sends for guests by the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_move_whole_between_the_owner_of_two_queues_and_guests() {
    let Some(net) = namespaces("move3", 2) else { return };
    scale_under_load(net, 1, &[(3, 2), (1, 1)]).await;
}

/// Packets of several frames, which guests build in memory of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_move_whole_where_packets_take_several_frames() {
    let Some(net) = namespaces("jumbo", 1) else { return };
    for end in [0, 1] {
        net.ip(end, &format!("link set wl{end} mtu 9000"));
    }
    scale_under_load(net, 1, &[(3, 2), (1, 1), (2, 3)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_come_with_load_and_go_without() {
    let Some(net) = namespaces("policy", 2) else { return };
    let (server_config, client_config) = setup();
    // An interface that is named is taken without insisting on it.
    let auto = |interface: &str| {
        let interface = InterfaceName::new(interface).expect("a short name");
        let io = IoConfig { xdp: Some(XdpConfig::new(interface)), ..IoConfig::default() };
        at(0).io(io).workers(2).max_workers(4)
    };
    let elsewhere = start(&net, 0, auto("wl9"));
    let choice = elsewhere.workers()[1].io_choice();
    assert!(choice.kind == IoKind::Udp && choice.why.contains("there is no interface wl9"), "{}", choice.why);
    elsewhere.shutdown(0, b"").await;
    let server = start(&net, 0, auto("wl0").scaling(eager()).server(server_config));
    assert!(server.workers().iter().all(|worker| worker.io_choice().kind == IoKind::Xdp));
    let client = start(&net, 1, at(1));
    serve_all(&server);
    let stop = Arc::new(AtomicBool::new(false));
    let (accounts, tasks) = connect_all(&client, address(), &client_config, 6, &stop).await;
    while server.workers().len() < 4 {
        all_get_on(&accounts, &tasks).await;
    }
    assert!(server.stats().growth_asked >= 2);
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no connection fails");
    }
    until(|| server.workers().len() == 2).await;
    // The owners of the queues stay, however little there is to do.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(server.workers().len(), 2);
    }
    server.shutdown(0, b"").await;
}

/// A worker that was removed keeps its place as long as a program inside it keeps a connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_room_for_as_many_guests_as_were_asked_for() {
    let Some(net) = namespaces("room", 1) else { return };
    let (server_config, client_config) = setup();
    let server = at(0).max_workers(3).server(server_config);
    let server = net.inside(0, || {
        let kept = |connection: local::Connection| async move { while connection.accept_bi().await.is_ok() {} };
        server.serve_local(kept).expect("AF_XDP on veth")
    });
    let client = start(&net, 1, at(1));
    server.scale_to(3).await.expect("there is room");
    let mut connections = Vec::new();
    while server.workers().iter().any(|worker| worker.stats().connections == 0) {
        let connected = client.connect(address(), "localhost", Arc::clone(&client_config)).await;
        connections.push(connected.expect("an answer"));
    }
    server.scale_to(1).await.expect("guests may go");
    assert_eq!((server.workers().len(), server.running_workers()), (1, 3));
    let error = server.scale_to(2).await.expect_err("there are two guests");
    assert!(error.to_string().contains("still finishing"), "{error}");
    drop(connections);
    client.shutdown(0, b"").await;
    // Once they have ended there is room again. It is waited for them, on a slow machine not long enough.
    while let Err(error) = server.scale_to(3).await {
        assert!(error.to_string().contains("still finishing"), "{error}");
    }
    server.shutdown(0, b"").await;
}

/// A worker never takes more than 64 packets at a look: it is what it leaves in the ring that tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_the_ring_of_a_queue_brings_a_guest_by_the_policy_as_it_is() {
    let Some(net) = namespaces("backlog", 1) else { return };
    // A delay of a millisecond would do for the naps alone.
    let policy = ScalingPolicy { grow_delay: Duration::MAX, ..ScalingPolicy::default() };
    let server = start(&net, 0, at(0).max_workers(2).scaling(policy).server(setup().0));
    let held_up = HoldUp::new(server.workers().remove(0));
    let stop = AtomicBool::new(false);
    let socket = net.inside(1, || UdpSocket::bind("10.77.0.2:0").expect("the address is there"));
    std::thread::scope(|scope| {
        scope.spawn(|| flood(&socket, address(), 200, |_| !stop.load(Ordering::Relaxed)));
        while server.workers().len() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop(held_up);
    assert!(server.stats().growth_asked > 0);
    assert_eq!(server.workers()[1].xdp_status().expect("AF_XDP").guest_of, Some(0));
    server.shutdown(0, b"").await;
}

/// Sends numbered datagrams until told to stop.
async fn number(connection: Connection, stop: Arc<AtomicBool>) {
    for n in (0_u64..).take_while(|_| !stop.load(Ordering::Relaxed)) {
        let datagram = Chunk::copy_from_slice(&n.to_be_bytes());
        connection.send_datagram(datagram).await.expect("the connection lives");
    }
}

/// Receives numbered datagrams: how many came, none of them before one that was sent earlier.
async fn count(connection: Connection) -> u64 {
    let (mut last, mut count) = (None, 0);
    while let Ok(datagram) = connection.recv_datagram().await {
        let number = u64::from_be_bytes(datagram[..].try_into().expect("eight bytes"));
        assert!(last < Some(number), "{number} came after {last:?}");
        (last, count) = (Some(number), count + 1);
    }
    count
}

/// Packets wait in the ring of the queue, in rings between workers and in those to guests when slots move; each is handled after
/// those of its connection that came before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_reordered_by_a_change() {
    let Some(net) = namespaces("order", 1) else { return };
    let (server_config, client_config) = setup();
    let server = start(&net, 0, at(0).max_workers(4).server(server_config));
    let client = start(&net, 1, at(1));
    let stop = Arc::new(AtomicBool::new(false));
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for _ in 0..16 {
        let config = Arc::clone(&client_config);
        let (connected, accepted) = tokio::join!(client.connect(address(), "localhost", config), server.accept());
        senders.push(tokio::spawn(number(connected.expect("an answer"), Arc::clone(&stop))));
        receivers.push(tokio::spawn(count(accepted.expect("the server goes on"))));
    }
    for workers in [3, 2, 4, 1, 4, 1] {
        let held_up: Vec<HoldUp> = server.workers().into_iter().map(HoldUp::new).collect();
        server.scale_to(workers).await.expect("there may be so many");
        drop(held_up);
        server.scale_to(workers % 4 + 1).await.expect("as above");
        assert!(receivers.iter().all(|receiver| !receiver.is_finished()), "a connection failed");
    }
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.expect("no connection fails");
    }
    client.shutdown(0, b"").await;
    let mut handled = 0;
    for receiver in receivers {
        handled += receiver.await.expect("all came in order");
    }
    let stats = server.stats();
    assert!(handled > 1_000 && stats.moved_out >= 16 && stats.handed_over > 500, "{handled}: {stats:?}");
    server.shutdown(0, b"").await;
}

/// A waker that fails, wherever it is woken.
struct Fails;

impl Wake for Fails {
    fn wake(self: Arc<Self>) {
        panic!("a waker fails, as the test wants");
    }
}

/// Has a worker's turns fail until it gives up.
async fn lose(worker: &WorkerHandle) {
    thread_local! {
        static SLEEPS: RefCell<Vec<Pin<Box<local::Sleep>>>> = const { RefCell::new(Vec::new()) };
    }
    let fail = || {
        let mut sleep = Box::pin(local::sleep(Duration::from_nanos(1)));
        let waker = Waker::from(Arc::new(Fails));
        assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending(), "it is due in the next turn");
        SLEEPS.with_borrow_mut(|sleeps| sleeps.push(sleep));
    };
    until(|| worker.post(Box::new(fail)).is_err_and(|rejected| rejected.error == EngineError::Stopped)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_owner_of_queues_nobody_comes_any_more() {
    let Some(net) = namespaces("lost", 2) else { return };
    let server = start(&net, 0, at(0).workers(2).max_workers(4).server(setup().0));
    let [first, second] = &server.workers()[..] else { panic!("two own a queue each") };
    lose(first).await;
    until(|| server.running_workers() == 1).await;
    server.scale_to(2).await.expect("the other one has room");
    lose(second).await;
    until(|| server.running_workers() == 1).await;
    let error = server.scale_to(3).await.expect_err("nobody would receive for it");
    assert_eq!(error.fault(), Fault::Environment, "{error}");
    assert!(error.to_string().contains("owned the interface's queues have ended"), "{error}");
    server.shutdown(0, b"").await;
}
