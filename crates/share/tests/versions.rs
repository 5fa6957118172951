//! Versions of a file are never mixed, whatever its time of change says, and what was hashed is not hashed again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Scene, assert_same_tree, fetch, noise, run, set_mtime};
use warpline_share::{GetOptions, Host, NetOptions, Progress, connect, get};

const SIZE: usize = 24 << 20;

/// Fetches until `bytes` have come, and drops the transfer then.
async fn fetch_some(scene: &Scene, host: &Host, bytes: u64) {
    let (endpoint, connection) = connect(host.code(), &NetOptions::default()).await.unwrap();
    let progress = Arc::new(Progress::default());
    let options = GetOptions { target: Some(scene.target()), ..GetOptions::default() };
    let reached = async {
        while progress.bytes_received.get() < bytes {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        connection.close(7, b"enough");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = get(&connection, host.code(), &options, &progress) => assert!(outcome.is_err(), "it was too fast"),
        () = reached => {}
    }
    endpoint.shutdown(0, b"").await;
}

/// Waits until the file's times are old enough to tell its next change; hosts remember nothing younger.
async fn settle(file: &Path) {
    loop {
        let changed = fs::metadata(file).unwrap().ctime();
        if SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 > changed + 4 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn hashed(host: &Host) -> u64 {
    host.counters().hashed.load(Ordering::Relaxed)
}

/// Changes one byte at the beginning, and nothing that a list of files shows.
fn change_unseen(file: &Path) {
    fs::File::options().write(true).open(file).unwrap().write_all_at(b"!", 100).unwrap();
    set_mtime(file, 1_700_000_000, 5);
}

fn source_file(scene: &Scene) -> PathBuf {
    let file = scene.source().join("file");
    fs::write(&file, noise(1, SIZE)).unwrap();
    set_mtime(&file, 1_700_000_000, 5);
    file
}

#[test]
fn a_file_that_changed_behind_its_time_is_not_mixed() {
    run(async {
        let scene = Scene::new();
        let file = source_file(&scene);
        let host = scene.source_host();
        fetch_some(&scene, &host, 4 << 20).await;
        change_unseen(&file);
        let report = scene.get(host.code()).await.unwrap();
        assert_same_tree(&scene.source(), &scene.target());
        assert_eq!((report.reused_bytes, report.bytes), (0, SIZE as u64));
    });
}

#[test]
fn a_file_that_did_not_change_goes_on_where_it_stopped() {
    run(async {
        let scene = Scene::new();
        source_file(&scene);
        let host = scene.source_host();
        fetch_some(&scene, &host, 4 << 20).await;
        // A host that remembers nothing reads the rest, to tell that it is the same version.
        let code = host.code().clone();
        host.shutdown().await;
        drop(host);
        let host = scene.source_host();
        assert_eq!(host.code(), &code);
        let report = scene.get(&code).await.unwrap();
        assert!(report.reused_bytes >= 3 << 20, "{report:?}");
        assert_eq!(report.reused_bytes + report.received_bytes, SIZE as u64);
        assert_eq!(hashed(&host), SIZE as u64);
        assert_same_tree(&scene.source(), &scene.target());
    });
}

#[test]
fn what_was_hashed_is_not_hashed_again() {
    run(async {
        let scene = Scene::new();
        let file = source_file(&scene);
        settle(&file).await;
        let host = scene.source_host();
        scene.get(host.code()).await.unwrap();
        assert_eq!(hashed(&host), SIZE as u64);
        // Another receiver of the same host.
        fetch(host.code(), &scene.dir.path().join("second")).await.unwrap();
        assert_eq!(hashed(&host), SIZE as u64);
        host.shutdown().await;
        drop(host);
        // Another run of the host, and a receiver that is cut off.
        let host = scene.source_host();
        fs::remove_dir_all(scene.target()).unwrap();
        fetch_some(&scene, &host, 4 << 20).await;
        let report = scene.get(host.code()).await.unwrap();
        assert!(report.reused_bytes > 0);
        assert_eq!(hashed(&host), 0);
        assert_same_tree(&scene.source(), &scene.target());
        // Another version of the file.
        change_unseen(&file);
        settle(&file).await;
        fs::remove_dir_all(scene.target()).unwrap();
        assert_eq!(scene.get(host.code()).await.unwrap().refetched, 0);
        assert_eq!(hashed(&host), SIZE as u64);
        assert_same_tree(&scene.source(), &scene.target());
    });
}

#[test]
fn what_is_remembered_wrong_is_hashed_anew() {
    run(async {
        let scene = Scene::new();
        let file = source_file(&scene);
        settle(&file).await;
        let host = scene.source_host();
        scene.get(host.code()).await.unwrap();
        let outboards = scene.dir.path().join("state/outboards");
        let outboard = fs::read_dir(outboards).unwrap().next().unwrap().unwrap().path();
        // The value of the third group, behind a header of 64 bytes.
        fs::File::options().write(true).open(outboard).unwrap().write_all_at(&[9; 32], 64 + 2 * 32).unwrap();
        for (name, refetched) in [("second", 1), ("third", 0)] {
            let target = scene.dir.path().join(name);
            let report = fetch(host.code(), &target).await.unwrap();
            assert_eq!((report.refetched, report.received_bytes), (refetched, SIZE as u64 + refetched * 16_384));
            assert_same_tree(&scene.source(), &target);
        }
    });
}

#[test]
fn what_a_crash_of_the_machine_has_spoilt_is_fetched_again() {
    run(async {
        let scene = Scene::new();
        for name in ["a", "b", "c"] {
            fs::write(scene.source().join(name), noise(2, 100_000)).unwrap();
        }
        source_file(&scene);
        let host = scene.source_host();
        fs::create_dir(scene.target()).unwrap();
        // One file is there from long before.
        fs::copy(scene.source().join("c"), scene.target().join("c")).unwrap();
        let stat = fs::metadata(scene.source().join("c")).unwrap();
        set_mtime(&scene.target().join("c"), stat.mtime(), stat.mtime_nsec());
        tick(&scene);
        fetch_some(&scene, &host, 4 << 20).await;
        // The machine goes down: a file has its name, size and time, and has lost what it held.
        let spoilt = scene.target().join("a");
        let stat = fs::metadata(&spoilt).unwrap();
        fs::File::options().write(true).open(&spoilt).unwrap().write_all_at(&[0; 4096], 0).unwrap();
        set_mtime(&spoilt, stat.mtime(), stat.mtime_nsec());
        // The mark keeps the time at which the transfer began.
        let mark = scene.target().join(".warpline-partial/boot");
        let began = fs::metadata(&mark).unwrap();
        fs::write(&mark, b"another boot").unwrap();
        set_mtime(&mark, began.mtime(), began.mtime_nsec());
        let report = scene.get(host.code()).await.unwrap();
        assert_same_tree(&scene.source(), &scene.target());
        assert!(report.reused_bytes >= 100_000, "what was there before the transfer is beyond doubt: {report:?}");
        assert!(report.received_bytes >= 200_000);
        assert_eq!(scene.get(host.code()).await.unwrap().received_bytes, 0, "no doubt remains");
    });
}

/// Waits until the clock that stamps files has moved on.
fn tick(scene: &Scene) {
    let stamp = |name: &str| {
        let path = scene.dir.path().join(name);
        fs::write(&path, b"").unwrap();
        let meta = fs::metadata(&path).unwrap();
        (meta.ctime(), meta.ctime_nsec())
    };
    let first = stamp("tick");
    while stamp("tock") == first {}
}
