//! Transfers that are cut off again and again arrive all the same, and little is sent twice.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use common::{Scene, assert_same_tree, noise, run_within};
use warpline_share::{GetOptions, NetOptions, Progress, ShareError, connect, get, limits::PART_LEN};

const LARGE: u64 = 64 << 20;
const SMALL_FILES: u64 = 2_000;
const SMALL_LEN: u64 = 4_000;
const CUTS: u64 = 10;

/// How a transfer is cut off.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    /// The connection is closed under it.
    Close,
    /// Nobody polls it any more.
    Drop,
}

fn source(scene: &Scene) {
    fs::write(scene.source().join("large"), noise(1, LARGE as usize)).unwrap();
    fs::create_dir(scene.source().join("many")).unwrap();
    fs::create_dir(scene.source().join("some")).unwrap();
    for i in 0..SMALL_FILES {
        // Before the large file in the list, and behind it.
        let dir = if i % 2 == 0 { "many" } else { "a few" };
        fs::create_dir_all(scene.source().join(dir)).unwrap();
        fs::write(scene.source().join(format!("{dir}/{i}")), noise(i, SMALL_LEN as usize)).unwrap();
    }
}

fn interrupted(cut: Cut, seed: u64) {
    run_within(Duration::from_secs(180), async {
        let scene = Scene::new();
        source(&scene);
        let host = scene.source_host();
        let content = LARGE + SMALL_FILES * SMALL_LEN;
        let points = noise(seed, CUTS as usize * 8);
        let (points, _) = points.as_chunks::<8>();
        let mut received = 0;
        let mut cuts = 0;
        let mut attempt = 0;
        loop {
            let (endpoint, connection) = connect(host.code(), &NetOptions::default()).await.unwrap();
            let progress = Arc::new(Progress::default());
            // Each attempt comes a little further.
            let cut_at = points.get(cuts).map_or(u64::MAX, |p| u64::from_le_bytes(*p) % (content / 16));
            let options = GetOptions { target: Some(scene.target()), ..GetOptions::default() };
            let outcome = {
                let watched = progress.clone();
                let reached = async {
                    while watched.bytes_received.get() < cut_at {
                        tokio::time::sleep(Duration::from_micros(200)).await;
                    }
                    if cut == Cut::Close {
                        connection.close(7, b"cut");
                        std::future::pending::<()>().await;
                    }
                };
                tokio::select! {
                    outcome = get(&connection, host.code(), &options, &progress) => Some(outcome),
                    () = reached => None,
                }
            };
            connection.close(0, b"");
            endpoint.shutdown(0, b"").await;
            match outcome {
                Some(Ok(report)) => {
                    received += report.received_bytes;
                    assert_eq!(report.bytes, content);
                    assert_eq!(report.reused_bytes + report.received_bytes, content);
                    break;
                }
                // The threads of a transfer that nobody polls any more take a moment to end.
                Some(Err(ShareError::Misuse { .. })) if cut == Cut::Drop => {
                    attempt += 1;
                    assert!(attempt < 1_000, "the lock on the target is never released");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                Some(Err(error)) => assert!(error.is_passing() && cut == Cut::Close, "{error}"),
                None => {}
            }
            received += progress.bytes_received.get();
            cuts += 1;
        }
        assert!(cuts >= 5, "cut off only {cuts} times");
        let bound = content + content / 20 + cuts as u64 * PART_LEN as u64;
        assert!(received <= bound, "{received} bytes were received for {content}, in {cuts} cuts");
        assert_same_tree(&scene.source(), &scene.target());
    });
}

#[test]
fn a_connection_that_is_closed() {
    for seed in 1..3 {
        interrupted(Cut::Close, seed);
    }
}

#[test]
fn a_transfer_that_is_dropped() {
    for seed in 11..13 {
        interrupted(Cut::Drop, seed);
    }
}

#[test]
fn a_host_that_goes_away() {
    run_within(Duration::from_secs(60), async {
        let scene = Scene::new();
        source(&scene);
        let host = scene.source_host();
        let (_endpoint, connection) = connect(host.code(), &NetOptions::default()).await.unwrap();
        let progress = Arc::new(Progress::default());
        let options = GetOptions { target: Some(scene.target()), ..GetOptions::default() };
        let going = async {
            while progress.bytes_received.get() < LARGE / 4 {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            host.shutdown().await;
            std::future::pending::<()>().await;
        };
        let outcome = tokio::select! {
            outcome = get(&connection, host.code(), &options, &progress) => outcome,
            () = going => unreachable!("it never ends"),
        };
        assert!(matches!(outcome, Err(ShareError::Connection(_))), "{outcome:?}");
        // The same code leads to the next host of the same tree, on the same port.
        let (code, address) = (host.code().clone(), host.local_addr());
        drop(host);
        // Its tasks let go of the port one by one.
        while std::net::UdpSocket::bind(address).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let again = scene.source_host();
        assert_eq!(again.code(), &code);
        let report = scene.get(&code).await.unwrap();
        assert!(report.reused_bytes > 0);
        assert_same_tree(&scene.source(), &scene.target());
    });
}
