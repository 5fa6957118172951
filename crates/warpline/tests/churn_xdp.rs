//! A thousand workers that come to an AF_XDP queue as guests and go again leave nothing behind. A test binary of its own, since it looks
//! at the heap and the descriptors of the whole process. Needs root; without it it says that it was skipped, and fails with `CI`
//! set.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod common;

use common::transfers::{all_get_on, connect_all, serve_all, setup};
use common::until;
use common::xdp::{address, at, frames_at_rest, namespaces, start};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use warpline_frame::heap_in_use;

/// Frames for sending that an owner has for itself, and for the guest that there may be (`XDP_TX_FRAMES`, `XDP_GUEST_FRAMES`).
const SEND_FRAMES: usize = 1_024 + 512;

const GUESTS: usize = 1_000;

/// What the process may have open beyond what it had after the first tenth, for whatever reason.
const DESCRIPTORS_MORE: usize = 8;

/// A guest's two rings have 512 places each, 64 KB together, and its mailboxes twice as much: what stayed of each would be a hundred times this.
const HEAP_MORE: u64 = 2 << 20;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc is there").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_guests_come_and_go_and_nothing_grows() {
    let Some(net) = namespaces("churn", 1) else { return };
    let (server_config, client_config) = setup();
    let server = start(&net, 0, at(0).max_workers(2).server(server_config));
    let client = start(&net, 1, at(1));
    serve_all(&server);
    let stop = Arc::new(AtomicBool::new(false));
    let (accounts, tasks) = connect_all(&client, address(), &client_config, 2, &stop).await;
    let mut used = Vec::new();
    for round in 1..=GUESTS {
        server.scale_to(2).await.expect("there is room for one guest at a time");
        server.scale_to(1).await.expect("the guest may go");
        if round % (GUESTS / 10) == 0 {
            all_get_on(&accounts, &tasks).await;
            while server.running_workers() > 1 {
                tokio::task::yield_now().await;
            }
            used.push((open_descriptors(), heap_in_use().expect("this C library counts")));
        }
    }
    let (first, last) = (used[0], used[used.len() - 1]);
    assert!(last.0 <= first.0 + DESCRIPTORS_MORE && last.1 <= first.1 + HEAP_MORE, "{used:?}");
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no connection fails");
    }
    drop(accounts);
    until(|| server.stats().connections == 0).await;
    for frames in frames_at_rest(&server).await {
        assert_eq!(frames.kept, SEND_FRAMES, "{frames:?}");
    }
    assert_eq!(server.stats().panics, 0);
    server.shutdown(0, b"").await;
    client.shutdown(0, b"").await;
}
