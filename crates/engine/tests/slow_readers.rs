//! Programs that do not read what they are sent: what is held for them must not keep the worker from receiving.
#![cfg(target_os = "linux")]

mod common;

use common::{client, echo_stream, on_worker, pair_with, serve, server_config};
use std::sync::Arc;
use warpline_engine::local::{self, Connection, SendStream};
use warpline_engine::{Engine, EngineConfig};
use warpline_pktio::{IoConfig, IoStats};
use warpline_proto::config::TransportConfig;

/// Connections whose program does not read.
const SLOW: usize = 60;

/// What each of them may hold: together four times the pools below.
const WINDOW: u64 = 64 << 10;

/// Blocks that another connection has echoed meanwhile.
const BLOCKS: usize = 200;

/// Unidirectional streams are held open and never read; bidirectional ones are echoed.
async fn neglect(connection: Connection) {
    let mut held = Vec::new();
    let echoing = connection.clone();
    let echo = local::spawn(async move {
        while let Ok((send, recv)) = echoing.accept_bi().await {
            local::spawn(echo_stream(send, recv)).expect("handlers run on the worker").detach();
        }
    });
    while let Ok(stream) = connection.accept_uni().await {
        held.push(stream);
    }
    drop(echo);
}

fn crowd() -> (Engine, Engine, common::Pair) {
    let transport = TransportConfig {
        stream_window: WINDOW,
        stream_window_max: WINDOW,
        connection_window: WINDOW * 3 / 2,
        connection_window_max: WINDOW * 3 / 2,
        ..TransportConfig::default()
    };
    let pair = pair_with(transport, TransportConfig::default());
    let io = IoConfig { large_frames: 32, medium_frames: 8, small_frames: 64, ..IoConfig::default() };
    let config = EngineConfig { io, ..server_config(&pair, 1) };
    let server = Engine::start(config, serve(neglect)).expect("loopback is there");
    (server, client(), pair)
}

fn stats(server: &Engine) -> IoStats {
    server.workers()[0].io_stats()
}

/// Fills the windows of connections that nobody reads.
async fn fill(connection: &Connection) -> SendStream {
    let mut stream = connection.open_uni().await.expect("streams are allowed");
    let block = [7; 1 << 10];
    for _ in 0..WINDOW / 1024 {
        stream.write_all(&block).await.expect("the server has room for a window");
    }
    stream
}

#[test]
fn readers_that_do_not_read_leave_room_for_those_that_do() {
    let (server, client, pair) = crowd();
    let address = server.local_addr();
    on_worker(&client, move |worker| async move {
        let mut slow = Vec::new();
        for _ in 0..SLOW {
            let connection = worker.connect(Arc::clone(&pair.client), address, "localhost").await.expect("an answer");
            let stream = fill(&connection).await;
            slow.push((connection, stream));
        }
        let connection = worker.connect(Arc::clone(&pair.client), address, "localhost").await.expect("an answer");
        let (mut send, mut recv) = connection.open_bi().await.expect("streams are allowed");
        for number in 0..BLOCKS {
            let block = common::pattern(number, 4096);
            send.write_all(&block).await.expect("the server reads");
            let mut back = vec![0; block.len()];
            recv.read_exact(&mut back).await.expect("the server answers");
            assert_eq!(back, block);
        }
    });
    let stats = stats(&server);
    assert!(stats.spilled_bytes as usize > SLOW * WINDOW as usize / 2, "{stats:?}");
    assert!(stats.rx_spilled > 0, "the pools were too small for what is held: {stats:?}");
    assert_eq!(stats.drop_rx_no_memory, 0, "{stats:?}");
}
