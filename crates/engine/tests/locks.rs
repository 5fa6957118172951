//! No lock on the packet path: workers that serve packets take no mutex and make no futex call.
#![cfg(target_os = "linux")]

mod common;

use common::{client, echo_stream, on_worker, pair, pattern, server};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use warpline_engine::Engine;
use warpline_engine::local::{self, Connection};
use warpline_ring::{Lock, locks_taken};

/// Has `rounds` messages echoed over a new stream each.
async fn echoes(connection: &Connection, rounds: usize) {
    for round in 0..rounds {
        let message = pattern(round, 6_000);
        let (mut send, mut recv) = connection.open_bi().await.expect("streams are allowed");
        send.write_all(&message).await.expect("it is read");
        send.finish().expect("the stream is open");
        assert!(recv.read_to_end(6_000).await.expect("it comes back") == message);
    }
}

/// A server that echoes, and says with each stream how often its worker has taken a lock.
fn counting_server(pair: &common::Pair, count: &Arc<AtomicU64>) -> Engine {
    let count = Arc::clone(count);
    server(pair, 1, move |connection| {
        let count = Arc::clone(&count);
        async move {
            while let Ok((send, recv)) = connection.accept_bi().await {
                count.store(locks_taken(), Ordering::SeqCst);
                local::spawn(echo_stream(send, recv)).expect("handlers run on the worker").detach();
            }
        }
    })
}

/// Connects from the client's worker, gets warm, and runs `steady` there.
fn on_warm_connection<T, F>(client: &Engine, server: &Engine, pair: common::Pair, steady: F) -> T
where
    T: Send + 'static,
    F: AsyncFnOnce(Connection) -> T + Send + 'static,
{
    let to = server.local_addr();
    on_worker(client, move |worker| async move {
        let connection = worker.connect(Arc::clone(&pair.client), to, "localhost").await.expect("an answer");
        echoes(&connection, 200).await;
        steady(connection).await
    })
}

#[test]
fn workers_take_no_mutex_while_packets_flow() {
    let (pair, count) = (pair(), Arc::new(AtomicU64::new(0)));
    let (server, client) = (counting_server(&pair, &count), client());
    let before = server.stats().datagrams;
    let counts = on_warm_connection(&client, &server, pair, async move |connection| {
        let look = || (locks_taken(), count.load(Ordering::SeqCst));
        let before = look();
        echoes(&connection, 1_000).await;
        (before, look())
    });
    assert!(server.stats().datagrams - before > 3_000, "too few packets to show anything");
    assert_eq!(counts.0, counts.1, "a worker took a lock");
    // The count would have shown one.
    let seen = on_worker(&client, |_| async {
        let before = locks_taken();
        let lock = Lock::new(1);
        drop(lock.lock());
        drop(lock.lock());
        locks_taken() - before
    });
    assert_eq!(seen, 2);
}

/// Where everything is to be installed a check that does not run is none.
fn skip<T>(why: &str) -> Option<T> {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "{why}");
    eprintln!("skipped: {why}");
    None
}

/// strace on threads of this process, counting system calls from now on.
struct Strace(Child, BufReader<std::process::ChildStderr>);

impl Strace {
    /// `None`, with a line that says so, where there is no strace or it may not attach; under CI that is a failure.
    fn attach(threads: &[String]) -> Option<Strace> {
        let mut command = Command::new("strace");
        command.arg("-c").args(threads.iter().flat_map(|thread| ["-p", thread]));
        let spawned = command.stderr(Stdio::piped()).stdout(Stdio::null()).stdin(Stdio::null()).spawn();
        let Ok(mut child) = spawned else {
            return skip("there is no strace");
        };
        let mut said = BufReader::new(child.stderr.take().expect("it is piped"));
        for _ in threads {
            let mut line = String::new();
            said.read_line(&mut line).expect("strace speaks UTF-8");
            if !line.contains("attached") {
                child.wait().expect("it has ended");
                return skip(&format!("strace may not attach: {line}"));
            }
        }
        Some(Strace(child, said))
    }

    /// Lets go, and gives the number of calls by name.
    fn detach(mut self) -> Vec<(String, u64)> {
        let pid =
            i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process has an ID");
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("strace runs");
        let lines: Vec<String> = self.1.lines().map(|line| line.expect("strace speaks UTF-8")).collect();
        self.0.wait().expect("it has ended");
        // % time, seconds, usecs/call, calls, perhaps errors, name
        let numbers = |line: &String| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            Some(((*fields.last()?).to_owned(), fields.get(3)?.parse().ok()?))
        };
        lines.iter().filter_map(numbers).collect()
    }
}

#[test]
fn workers_make_no_futex_call_in_steady_state() {
    let (pair, count) = (pair(), Arc::new(AtomicU64::new(0)));
    let (server, client) = (counting_server(&pair, &count), client());
    let thread = |engine| on_worker(engine, |_| async { rustix::thread::gettid().as_raw_nonzero().to_string() });
    let threads = [thread(&server), thread(&client)];
    let calls = on_warm_connection(&client, &server, pair, async move |connection| {
        let strace = Strace::attach(&threads)?;
        echoes(&connection, 1_000).await;
        Some(strace.detach())
    });
    let Some(calls) = calls else { return };
    let of = |name: &str| calls.iter().filter(|(other, _)| other == name).map(|(_, calls)| calls).sum::<u64>();
    assert!(of("recvmmsg") > 500 && of("sendmmsg") + of("sendmsg") > 500, "strace saw no packets: {calls:?}");
    assert_eq!(of("futex"), 0, "{calls:?}");
}
