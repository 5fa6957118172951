//! A new process takes the port over while connections live: real processes, no connection dropped.
#![cfg(target_os = "linux")]

mod common;

use common::loopback;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use warpline::{ClientConfig, Connection, Endpoint};

/// A process of `examples/restart.rs`.
struct Server {
    child: Child,
    said: std::io::Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
}

/// The program. `cargo test` builds examples before it runs tests, unless it is asked for this test alone: then
/// `cargo build --example restart` comes first.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("this runs");
    let profile = test.ancestors().nth(2).expect("tests lie in PROFILE/deps");
    let program = profile.join("examples/restart");
    assert!(program.exists(), "there is no {}: cargo build --package warpline --example restart", program.display());
    program
}

impl Server {
    fn command(folder: &Path, bind: &str, workers: usize) -> Command {
        let mut command = Command::new(program());
        command.args(["--bind", bind, "--workers", &workers.to_string()]);
        command.arg("--socket").arg(folder.join("door"));
        command.arg("--fingerprint-file").arg(folder.join("pin"));
        command
    }

    fn start(folder: &Path, bind: &str, workers: usize) -> Server {
        let mut command = Self::command(folder, bind, workers);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it was built");
        let mut said = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = said.next().expect("it says where it listens").expect("in UTF-8");
        let address = line.strip_prefix("listening on ").and_then(|address| address.parse().ok());
        Server { child, said, address: address.unwrap_or_else(|| panic!("it said {line}")) }
    }

    /// Waits until it says so.
    fn says(&mut self, what: &str) {
        let line = self.said.next().expect("it goes on").expect("in UTF-8");
        assert_eq!(line, what);
    }

    fn ends(&mut self) {
        self.says("finished");
        let status = self.child.wait().expect("it is a child");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended, or a test has failed or is over.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("warpline-restart-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("there is a place for temporary files");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It is in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn client(folder: &Path) -> (Endpoint, Arc<ClientConfig>) {
    let pin: [u8; 32] = std::fs::read(folder.join("pin")).expect("it is there").try_into().expect("32 bytes");
    let config = ClientConfig::with_pinned_fingerprint(&pin, &[b"restart"]).expect("a pin is enough");
    (loopback().start().expect("loopback is there"), Arc::new(config))
}

/// Has a message echoed on a new stream; the number of the process that did it.
async fn echo(connection: &Connection, round: u64) -> u32 {
    let message: Vec<u8> = (0..3_000).map(|at| (at * 7 + round) as u8).collect();
    let (mut send, mut recv) = connection.open_bi().await.expect("the connection lives");
    send.write_all(&message).await.expect("it is read");
    send.finish().expect("the stream is open");
    let answer = recv.read_to_end(4_000).await.expect("it is answered");
    let (process, echo) = answer.split_first_chunk::<4>().expect("the process says its number");
    assert!(echo == message);
    u32::from_be_bytes(*process)
}

/// Connections that have echoes all the time until told to stop, always by the same process.
struct Load {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<u32>>,
}

impl Load {
    async fn start(client: &Endpoint, config: &Arc<ClientConfig>, to: SocketAddr, count: usize) -> Load {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for _ in 0..count {
            let connection = client.connect(to, "localhost", Arc::clone(config)).await.expect("it is served");
            let (stop, rounds) = (Arc::clone(&stop), Arc::clone(&rounds));
            tasks.push(tokio::spawn(async move {
                let process = echo(&connection, 0).await;
                while !stop.load(Ordering::Relaxed) {
                    let round = rounds.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(echo(&connection, round).await, process, "a connection stays with its process");
                }
                connection.close(0, b"");
                process
            }));
        }
        Load { stop, rounds, tasks }
    }

    /// Waits until all together had that many more echoes.
    async fn goes_on(&self, more: u64) {
        let goal = self.rounds.load(Ordering::Relaxed) + more;
        while self.rounds.load(Ordering::Relaxed) < goal {
            assert!(self.tasks.iter().all(|task| !task.is_finished()), "a connection failed");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends all connections; the processes that had them.
    async fn end(self) -> Vec<u32> {
        self.stop.store(true, Ordering::Relaxed);
        let mut processes = Vec::new();
        for task in self.tasks {
            processes.push(task.await.expect("no connection fails"));
        }
        processes
    }
}

/// Connects again and again, with handshakes under way at any moment, until told to stop. Returns the processes in turn.
fn newcomers(
    client: &Endpoint,
    config: &Arc<ClientConfig>,
    to: SocketAddr,
    stop: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<Vec<u32>> {
    let (client, config, stop) = (client.clone(), Arc::clone(config), Arc::clone(stop));
    tokio::spawn(async move {
        let mut processes = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let connection = client.connect(to, "localhost", Arc::clone(&config)).await.expect("it is served");
            processes.push(echo(&connection, processes.len() as u64).await);
        }
        processes
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_process_takes_over_from_the_one_before_and_no_connection_is_dropped() {
    let folder = Folder::new("chain");
    let mut server = Server::start(&folder.0, "127.0.0.1:0", 2);
    let to = server.address;
    let (client, config) = client(&folder.0);
    // Every generation has another number of workers than the one before.
    for workers in [1, 3, 2] {
        let old = Load::start(&client, &config, to, 20).await;
        let stop = Arc::new(AtomicBool::new(false));
        let coming: Vec<_> = (0..4).map(|_| newcomers(&client, &config, to, &stop)).collect();
        old.goes_on(200).await;
        let successor = Server::start(&folder.0, "127.0.0.1:0", workers);
        assert_eq!(successor.address, to);
        server.says("handed over");
        let (before, after) = (server.child.id(), successor.child.id());
        // A third process is told to come again later, and says so.
        let third = Server::command(&folder.0, "127.0.0.1:0", 1).output().expect("it runs");
        assert!(!third.status.success());
        let complaint = String::from_utf8_lossy(&third.stderr).into_owned();
        assert!(complaint.contains("try again"), "{complaint}");
        // Those of the old process go on, and new ones come to the new process alone.
        old.goes_on(1_000).await;
        let young = Load::start(&client, &config, to, 20).await;
        young.goes_on(500).await;
        stop.store(true, Ordering::Relaxed);
        for task in coming {
            let processes = task.await.expect("no newcomer fails");
            assert!(processes.is_sorted_by_key(|process| *process == after), "one after the other: {processes:?}");
            assert!(processes.iter().all(|process| [before, after].contains(process)));
            assert_eq!(processes.last(), Some(&after));
        }
        assert!(old.end().await.iter().all(|process| *process == before));
        server.ends();
        young.goes_on(500).await;
        assert!(young.end().await.iter().all(|process| *process == after));
        server = successor;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_fails_leaves_the_old_process_as_it_was() {
    let folder = Folder::new("failing");
    let mut server = Server::start(&folder.0, "127.0.0.1:0", 2);
    let to = server.address;
    let (client, config) = client(&folder.0);
    let load = Load::start(&client, &config, to, 10).await;
    // One that does not even start: it wants another port.
    let failed = Server::command(&folder.0, "127.0.0.1:9", 1).output().expect("it runs");
    assert!(!failed.status.success());
    load.goes_on(100).await;
    let pid = server.child.id();
    let connect = || client.connect(to, "localhost", Arc::clone(&config));
    assert_eq!(echo(&connect().await.expect("it is served"), 1).await, pid);
    // One that has taken over and is killed.
    let successor = Server::start(&folder.0, "127.0.0.1:0", 3);
    server.says("handed over");
    let theirs = connect().await.expect("it is served");
    assert_ne!(echo(&theirs, 2).await, pid);
    drop(successor);
    load.goes_on(200).await;
    assert_eq!(echo(&connect().await.expect("it is served again"), 3).await, pid);
    assert!(load.end().await.iter().all(|process| *process == pid));
}
