//! Connections that transfer all the time, every byte of them checked, to have something done to them meanwhile.

use super::configs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use warpline::{ClientConfig, Connection, Endpoint, ServerConfig, TransportConfig};

/// Every byte of a stream is a function of its place and of the stream.
pub fn fill(buf: &mut [u8], seed: u64, offset: u64) {
    for (place, byte) in (offset..).zip(buf) {
        *byte = (place.wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503)) >> 11) as u8;
    }
}

fn fits(data: &[u8], seed: u64, offset: u64) -> bool {
    let mut expected = vec![0; data.len()];
    fill(&mut expected, seed, offset);
    data == expected
}

pub fn setup() -> (ServerConfig, Arc<ClientConfig>) {
    // What all connections together may have under way fits into the pools of one worker.
    let transport = TransportConfig {
        stream_window: 64 << 10,
        stream_window_max: 64 << 10,
        connection_window: 128 << 10,
        connection_window_max: 128 << 10,
        ..TransportConfig::default()
    };
    let (server, client) = configs(transport);
    (server, Arc::new(client))
}

/// What a client's connection has done.
#[derive(Default)]
pub struct Account {
    bytes: AtomicU64,
    rounds: AtomicU64,
}

/// Serves every connection that comes.
pub fn serve_all(server: &Endpoint) {
    let accepting = server.clone();
    tokio::spawn(async move {
        while let Some(connection) = accepting.accept().await {
            tokio::spawn(serve(connection));
        }
    });
}

/// The server's side: pours a pattern into one stream without end, and echoes all others.
async fn serve(connection: Connection) {
    let Ok((mut pour, mut seed)) = connection.accept_bi().await else { return };
    let Ok(seed) = seed.read_to_end(8).await else { return };
    let seed = u64::from_be_bytes(seed.try_into().expect("the client sends eight bytes"));
    let pouring = tokio::spawn(async move {
        let (mut offset, mut buf) = (0, vec![0; 16 << 10]);
        loop {
            fill(&mut buf, seed, offset);
            if pour.write_all(&buf).await.is_err() {
                return;
            }
            offset += buf.len() as u64;
        }
    });
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        tokio::spawn(async move {
            while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX).await {
                if send.write_chunk(chunk).await.is_err() {
                    return;
                }
            }
        });
    }
    pouring.abort();
}

/// The client's side: reads what is poured, and has messages echoed, until told to stop.
async fn use_connection(connection: Connection, seed: u64, account: Arc<Account>, stop: Arc<AtomicBool>) {
    let (mut send, mut poured) = connection.open_bi().await.expect("streams are allowed");
    send.write_all(&seed.to_be_bytes()).await.expect("the server reads");
    send.finish().expect("the stream is open");
    let echoing = {
        let (connection, account, stop) = (connection.clone(), Arc::clone(&account), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut message = vec![0; 3_000];
            while !stop.load(Ordering::Relaxed) {
                let round = account.rounds.load(Ordering::Relaxed);
                fill(&mut message, seed ^ round, 0);
                let (mut send, mut recv) = connection.open_bi().await.expect("the connection lives");
                send.write_all(&message).await.expect("the server reads");
                send.finish().expect("the stream is open");
                let echo = recv.read_to_end(4_000).await.expect("the echo comes");
                assert!(echo == message, "connection {seed}, round {round}");
                account.rounds.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let mut offset = 0;
    while !stop.load(Ordering::Relaxed) {
        let chunk = poured.read_chunk(usize::MAX).await.expect("the connection lives").expect("it has no end");
        assert!(fits(&chunk, seed, offset), "connection {seed}: wrong bytes near {offset}");
        offset += chunk.len() as u64;
        account.bytes.store(offset, Ordering::Relaxed);
    }
    drop(poured);
    echoing.await.expect("every echo is right");
}

/// Waits until every connection has got on since now.
pub async fn all_get_on(accounts: &[Arc<Account>], tasks: &[tokio::task::JoinHandle<()>]) {
    let look = || accounts.iter().map(|a| (a.bytes.load(Ordering::Relaxed), a.rounds.load(Ordering::Relaxed)));
    let before: Vec<_> = look().collect();
    while look().zip(&before).any(|(now, before)| now.0 < before.0 + 20_000 || now.1 < before.1 + 2) {
        assert!(tasks.iter().all(|task| !task.is_finished()), "a connection failed");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub async fn connect_all(
    client: &Endpoint,
    to: SocketAddr,
    config: &Arc<ClientConfig>,
    count: u64,
    stop: &Arc<AtomicBool>,
) -> (Vec<Arc<Account>>, Vec<tokio::task::JoinHandle<()>>) {
    let mut accounts = Vec::new();
    let mut tasks = Vec::new();
    for seed in 0..count {
        let connection = client.connect(to, "localhost", Arc::clone(config)).await.expect("an answer");
        let account = Arc::new(Account::default());
        accounts.push(Arc::clone(&account));
        tasks.push(tokio::spawn(use_connection(connection, seed, account, Arc::clone(stop))));
    }
    (accounts, tasks)
}
