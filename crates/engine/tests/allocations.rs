//! What memory costs: nothing per packet. A test binary of its own, since it counts every allocation of the process.

mod common;

use common::{client, on_worker, pair_with, server};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::sync::Arc;
use warpline_engine::local::{Connection, RecvStream};
use warpline_frame::Chunk;
use warpline_proto::config::TransportConfig;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static BLOCK: [u8; 64 << 10] = [0x5a; 64 << 10];

/// Sends without end on each stream that is opened.
async fn pour(connection: Connection) {
    while let Ok((mut send, recv)) = connection.accept_bi().await {
        let task = warpline_engine::local::spawn(async move {
            let _open = recv;
            while send.write_chunk(Chunk::from_static(&BLOCK)).await.is_ok() {}
        });
        task.expect("handlers run on the worker").detach();
    }
}

/// Reads at least `bytes`, and returns how often either side allocated or reallocated meanwhile.
async fn allocations_of(recv: &mut RecvStream, bytes: usize) -> usize {
    let before = ALLOCATOR.stats();
    let mut read = 0;
    while read < bytes {
        let chunk = recv.read_chunk(usize::MAX).await.expect("the server goes on").expect("the stream has no end");
        read += chunk.len();
    }
    let change = ALLOCATOR.stats() - before;
    change.allocations + change.reallocations
}

#[test]
fn a_bulk_transfer_does_not_allocate_per_packet() {
    const MIB: usize = 1 << 20;
    // As much as the receive pools hold many times over, so that nothing of it has to be kept on the heap, however seldom a busy
    // machine lets the reader run.
    let within_pools =
        TransportConfig { stream_window_max: 2 << 20, connection_window_max: 3 << 20, ..TransportConfig::default() };
    let pair = pair_with(TransportConfig::default(), within_pools);
    let (server, client) = (server(&pair, 1, pour), client());
    let address = server.local_addr();
    let (short, long) = on_worker(&client, move |worker| async move {
        let connection = worker.connect(Arc::clone(&pair.client), address, "localhost").await.expect("an answer");
        let (mut send, mut recv) = connection.open_bi().await.expect("streams are allowed");
        send.write_all(b"go").await.expect("it is read");
        // Windows, buffers and tables grow to what the path needs.
        allocations_of(&mut recv, 192 * MIB).await;
        let short = allocations_of(&mut recv, 16 * MIB).await;
        let long = allocations_of(&mut recv, 128 * MIB).await;
        (short, long)
    });
    // 128 MiB are at least 90,000 packets in each direction counted together.
    assert!(long < 500, "{short} allocations for 16 MiB, {long} for 128 MiB");
    let io = client.workers()[0].io_stats();
    assert_eq!(io.rx_spilled, 0, "what may be under way fits the pools");
    assert_eq!(io.drop_rx_no_memory, 0, "a fast reader keeps the pools from running empty");
}
