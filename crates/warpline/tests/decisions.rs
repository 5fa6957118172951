//! What an endpoint that scales by itself says about it: each decision with the numbers that caused it. A test binary of its
//! own, since it listens to the log of the whole process.
#![cfg(target_os = "linux")]

mod common;

use common::{configs, eager, loopback, until};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use warpline::{Connection, Endpoint, TransportConfig};
use warpline_ring::Lock;

/// Where the log goes.
#[derive(Clone, Default)]
struct Log(Arc<Lock<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The fields of each decision.
    fn decisions(&self) -> Vec<BTreeMap<String, String>> {
        let log = self.0.lock();
        let log = String::from_utf8_lossy(&log);
        log.lines().filter(|line| line.contains("the number of workers is changed")).map(fields).collect()
    }
}

/// `name=value`, where a value may be a list in brackets or a structure in braces.
fn fields(line: &str) -> BTreeMap<String, String> {
    let line = line.replace("ScalingPolicy {", "{");
    let (mut fields, mut depth, mut word) = (BTreeMap::new(), 0_usize, String::new());
    for letter in line.chars().chain([' ']) {
        match letter {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if letter != ' ' || depth > 0 {
            word.push(letter);
        } else if let Some((name, value)) = std::mem::take(&mut word).split_once('=') {
            fields.insert(name.to_owned(), value.to_owned());
        }
    }
    fields
}

/// The entries of a list: one for each worker.
fn entries(list: &str) -> Vec<&str> {
    list.trim_matches(['[', ']']).split(", ").collect()
}

/// Connects and has a message echoed again and again.
async fn keep_busy(connection: Connection) {
    let (mut send, mut recv) = connection.open_bi().await.expect("streams are allowed");
    let mut back = [0; 4_000];
    while send.write_all(&[7; 4_000]).await.is_ok() && recv.read_exact(&mut back).await.is_ok() {}
}

fn serve(server: &Endpoint) {
    let accepting = server.clone();
    tokio::spawn(async move {
        while let Some(connection) = accepting.accept().await {
            tokio::spawn(async move {
                let Ok((mut send, mut recv)) = connection.accept_bi().await else { return };
                while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX).await {
                    if send.write_chunk(chunk).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_are_logged_with_the_numbers_that_caused_them() {
    const CONNECTIONS: u64 = 4;
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    let (server_config, client_config) = configs(TransportConfig::default());
    let server = loopback().max_workers(2).scaling(eager()).server(server_config).start().expect("loopback is there");
    let client = loopback().start().expect("loopback is there");
    serve(&server);
    let client_config = Arc::new(client_config);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let connect = client.connect(server.local_addr(), "localhost", Arc::clone(&client_config));
        tasks.spawn(keep_busy(connect.await.expect("an answer")));
    }
    let find = |from: &str, to: &str| {
        let is_it = |decision: &BTreeMap<_, _>| decision["from"] == from && decision["to"] == to;
        log.decisions().into_iter().find(is_it)
    };
    until(|| find("1", "2").is_some()).await;
    let grown = find("1", "2").expect("it was found");
    assert_eq!(grown["asked"], "{0}", "the worker that asked: {grown:?}");
    for list in ["delays", "queues", "connections"] {
        assert_eq!(entries(&grown[list]).len(), 1, "one worker has {list}: {grown:?}");
    }
    let connections = entries(&grown["connections"])[0].parse::<u64>().expect("a number");
    // It may ask before it has counted the first one.
    assert!(connections <= CONNECTIONS, "{grown:?}");
    assert!(entries(&grown["delays"])[0].ends_with('s'), "a duration: {grown:?}");
    entries(&grown["queues"])[0].parse::<u64>().expect("a number");
    assert!(grown["policy"].contains("grow_queue: 1"), "what the numbers were held against: {grown:?}");
    // The connections end with their tasks.
    tasks.shutdown().await;
    client.shutdown(0, b"").await;
    until(|| find("2", "1").is_some()).await;
    let shrunk = find("2", "1").expect("it was found");
    assert_eq!(entries(&shrunk["connections"]).len(), 2, "two workers: {shrunk:?}");
    let busy = shrunk["busy_percent"].parse::<u64>().expect("a number");
    // The one that is left would not be busier than the policy says.
    assert!(busy < 99, "{shrunk:?}");
    assert!(shrunk["policy"].contains("shrink_percent: 99"), "{shrunk:?}");
    server.shutdown(0, b"").await;
}
