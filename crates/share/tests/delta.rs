//! Files that have changed: what the older version has is not sent, whatever was done to it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{Scene, assert_same_tree, fetch, noise, run, run_within, set_mtime};
use warpline_share::{GetOptions, GetReport, Host, JoinCode, NetOptions, Progress, connect, get};

const SIZE: usize = 24 << 20;
/// What a list of chunks takes at most for each byte of the file: a chunk of 16 KiB on average is told in 19 bytes.
const LIST_SHARE: u64 = 500;
/// What a change costs beyond its own bytes: chunks and groups that it touches on either side.
const CHANGE_COST: u64 = 160 << 10;

/// A share of one file at the host, and another version of it at the receiver.
struct Versions {
    scene: Scene,
    new: PathBuf,
    old: PathBuf,
}

impl Versions {
    fn of(old: &[u8], new: &[u8]) -> Self {
        let versions = Self::without_old(new);
        fs::create_dir(versions.scene.target()).unwrap();
        fs::write(&versions.old, old).unwrap();
        set_mtime(&versions.old, 1_600_000_000, 1);
        versions
    }

    fn without_old(new: &[u8]) -> Self {
        let scene = Scene::new();
        let (new_path, old) = (scene.source().join("file"), scene.target().join("file"));
        fs::write(&new_path, new).unwrap();
        set_mtime(&new_path, 1_700_000_000, 5);
        Self { scene, new: new_path, old }
    }

    /// Brings the older version up to date, and compares.
    async fn update(&self) -> GetReport {
        let host = self.scene.source_host();
        let report = self.scene.get(host.code()).await.unwrap();
        assert_same_tree(&self.scene.source(), &self.scene.target());
        assert_eq!(report.refetched, 0);
        report
    }
}

/// Updates `old` to `new`; all that comes over the network must be at most `bound` bytes beside the list, and some is copied.
fn costs(what: &str, old: &[u8], new: &[u8], bound: u64) {
    run(async {
        let report = Versions::of(old, new).update().await;
        let size = new.len() as u64;
        assert!(report.received_bytes <= bound, "{what}: {report:?}");
        assert!(report.list_bytes > 0 && report.list_bytes <= size / LIST_SHARE + 100, "{what}: {report:?}");
        assert_eq!(report.received_bytes + report.copied_bytes, size, "{what}: {report:?}");
        assert_eq!(report.reused_bytes, 0, "{what}: {report:?}");
    });
}

/// Different places in a file, in order, far from one another.
fn places(seed: u64, count: usize) -> Vec<usize> {
    let random = noise(seed, count * 8);
    let room = SIZE / count;
    let (random, _) = random.as_chunks::<8>();
    (0..count).zip(random).map(|(i, r)| i * room + u64::from_le_bytes(*r) as usize % (room / 2)).collect()
}

#[test]
fn bytes_changed_in_place() {
    for (count, len) in [(1, 1), (40, 1), (10, 100_000)] {
        let old = noise(1, SIZE);
        let mut new = old.clone();
        for (seed, at) in (100..).zip(places(len as u64, count)) {
            new[at..at + len].copy_from_slice(&noise(seed, len));
        }
        costs("changed", &old, &new, count as u64 * (len as u64 + CHANGE_COST));
    }
}

#[test]
fn bytes_inserted_and_removed() {
    let old = noise(1, SIZE);
    for len in [1, 1024, 3_000_000] {
        let mut new = old.clone();
        new.splice(5_000_001..5_000_001, noise(2, len));
        costs("inserted", &old, &new, len as u64 + CHANGE_COST);
        costs("removed", &new, &old, CHANGE_COST);
        let mut front = noise(3, len);
        front.extend_from_slice(&old);
        costs("at the front", &old, &front, len as u64 + CHANGE_COST);
        costs("front removed", &front, &old, CHANGE_COST);
    }
    let mut many = old.clone();
    for at in places(9, 30).into_iter().rev() {
        many.splice(at..at, noise(at as u64, 1000));
    }
    costs("at many places", &old, &many, 30 * (1000 + CHANGE_COST));
}

#[test]
fn a_file_that_has_become_longer_or_shorter() {
    let whole = noise(1, SIZE);
    let half = &whole[..SIZE / 2 + 77];
    costs("truncated", &whole, half, CHANGE_COST);
    costs("appended", half, &whole, (SIZE - half.len()) as u64 + CHANGE_COST);
    let tail = &whole[SIZE / 3..];
    costs("only the end is left", &whole, tail, CHANGE_COST);
    // The halves have changed places.
    let (front, back) = whole.split_at(SIZE / 2);
    costs("turned round", &whole, &[back, front].concat(), 2 * CHANGE_COST);
    // The same over and over.
    let once = noise(4, 3_000_000);
    costs("repeated", &once, &once.repeat(5), 6 * CHANGE_COST);
}

#[test]
fn a_version_with_another_time_only() {
    run(async {
        let same = noise(1, SIZE);
        let report = Versions::of(&same, &same).update().await;
        assert_eq!((report.received_bytes, report.copied_bytes), (0, SIZE as u64));
    });
}

#[test]
fn a_version_that_has_nothing_in_common_is_fetched_whole() {
    run(async {
        let report = Versions::of(&noise(1, SIZE), &noise(2, SIZE)).update().await;
        assert_eq!((report.received_bytes, report.copied_bytes), (SIZE as u64, 0));
        assert!(report.list_bytes > 0);
    });
}

#[test]
fn a_long_version_that_has_nothing_in_common_is_told_by_a_sample() {
    run_within(Duration::from_secs(120), async {
        let size = 160 << 20;
        let report = Versions::of(&noise(1, size), &noise(2, size)).update().await;
        assert_eq!((report.received_bytes, report.copied_bytes), (size as u64, 0));
        // A complete list has more than 10,000 chunks of 18 bytes each.
        let new = noise(1, size);
        let mut old = new.clone();
        old[size / 2..size / 2 + 100].fill(9);
        let other = Versions::of(&old, &new).update().await;
        assert!(other.received_bytes <= CHANGE_COST && other.list_bytes > 170_000, "{other:?}");
    });
}

#[test]
fn whole_files_are_fetched_when_that_is_wanted() {
    run(async {
        let same = noise(1, SIZE);
        let versions = Versions::of(&same, &same);
        let host = versions.scene.source_host();
        let (endpoint, connection) = connect(host.code(), &NetOptions::default()).await.unwrap();
        let options = GetOptions { target: Some(versions.scene.target()), whole_files: true };
        let report = get(&connection, host.code(), &options, &Arc::new(Progress::default())).await.unwrap();
        endpoint.shutdown(0, b"").await;
        assert_eq!((report.received_bytes, report.copied_bytes, report.list_bytes), (SIZE as u64, 0, 0));
        assert_same_tree(&versions.scene.source(), &versions.scene.target());
    });
}

#[test]
fn what_is_no_older_version_is_not_read() {
    run(async {
        let new = noise(1, SIZE);
        // A link to the very same content: it is replaced, what it leads to is left alone.
        let versions = Versions::without_old(&new);
        fs::create_dir(versions.scene.target()).unwrap();
        let beside = versions.scene.dir.path().join("beside");
        fs::write(&beside, &new).unwrap();
        std::os::unix::fs::symlink(&beside, &versions.old).unwrap();
        let report = versions.update().await;
        assert_eq!((report.received_bytes, report.list_bytes), (SIZE as u64, 0));
        assert_eq!(fs::read(&beside).unwrap(), new);
        // Too short to have much of it.
        let report = Versions::of(&new[..SIZE / 10], &new).update().await;
        assert_eq!((report.received_bytes, report.list_bytes), (SIZE as u64, 0));
        // A directory is in the way, as ever.
        let versions = Versions::without_old(&new);
        fs::create_dir_all(&versions.old).unwrap();
        let host = versions.scene.source_host();
        assert!(versions.scene.get(host.code()).await.is_err());
        // One that may not be read. Root may read everything.
        if rustix::process::geteuid().is_root() {
            eprintln!("skipped: root may read every older version");
            return;
        }
        let versions = Versions::of(&new, &new);
        fs::set_permissions(&versions.old, fs::Permissions::from_mode(0o000)).unwrap();
        assert_eq!(versions.update().await.received_bytes, SIZE as u64);
    });
}

/// Bytes of disk that a file takes.
fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn holes_of_either_version_stay_holes() {
    run(async {
        let size = 64 << 20;
        let data = noise(1, 3 << 20);
        let sparse = |path: &Path, places: &[u64]| {
            let file = fs::File::create(path).unwrap();
            file.set_len(size).unwrap();
            places.iter().for_each(|at| file.write_all_at(&data, *at).unwrap());
        };
        // The data has moved within what is mostly a hole.
        let versions = Versions::of(b"", b"");
        sparse(&versions.old, &[5_000_000, 40_000_000]);
        sparse(&versions.new, &[12_345_678]);
        set_mtime(&versions.new, 1_700_000_000, 5);
        let host = versions.scene.source_host();
        let report = versions.scene.get(host.code()).await.unwrap();
        assert!(fs::read(&versions.old).unwrap() == fs::read(&versions.new).unwrap());
        assert!(report.received_bytes <= 2 * CHANGE_COST, "{report:?}");
        assert!(report.copied_bytes >= size - (1 << 20), "{report:?}");
        assert!(allocated(&versions.old) <= allocated(&versions.new) + (1 << 20));
    });
}

#[test]
fn holes_need_no_older_version() {
    run(async {
        let versions = Versions::of(&noise(1, SIZE), b"");
        fs::File::options().write(true).open(&versions.new).unwrap().set_len(SIZE as u64).unwrap();
        set_mtime(&versions.new, 1_700_000_000, 5);
        let report = versions.update().await;
        assert_eq!((report.received_bytes, report.copied_bytes), (0, SIZE as u64));
    });
}

#[test]
fn many_changed_files_at_once_among_others() {
    run_within(Duration::from_secs(120), async {
        let scene = Scene::new();
        let count = 150;
        let len = 1_500_000;
        fs::create_dir(scene.target()).unwrap();
        for nth in 0..count {
            let mut content = noise(nth, len);
            let old = scene.target().join(format!("{nth:03}"));
            fs::write(&old, &content).unwrap();
            set_mtime(&old, 1_600_000_000, 1);
            content[len / 2] ^= 1;
            fs::write(scene.source().join(format!("{nth:03}")), &content).unwrap();
            fs::write(scene.source().join(format!("{nth:03} new")), &content[..20_000]).unwrap();
        }
        let host = scene.source_host();
        let report = scene.get(host.code()).await.unwrap();
        assert_same_tree(&scene.source(), &scene.target());
        assert!(report.received_bytes <= count * (20_000 + CHANGE_COST), "{report:?}");
        assert_eq!(report.received_bytes + report.copied_bytes, report.bytes);
    });
}

/// Starts an update and calls `then` once `reached` says so; the outcome of the update.
async fn meanwhile(
    code: &JoinCode,
    target: &Path,
    reached: impl Fn(&Progress) -> bool,
    then: impl FnOnce(&Path),
) -> (Result<GetReport, warpline_share::ShareError>, Arc<Progress>) {
    let (endpoint, connection) = connect(code, &NetOptions::default()).await.unwrap();
    let progress = Arc::new(Progress::default());
    let options = GetOptions { target: Some(target.to_path_buf()), ..GetOptions::default() };
    let watching = async {
        while !reached(&progress) {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        then(target);
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = get(&connection, code, &options, &progress) => outcome,
        () = watching => unreachable!("it never ends"),
    };
    endpoint.shutdown(0, b"").await;
    (outcome, progress)
}

#[test]
fn an_older_version_that_changes_while_it_is_read_spoils_nothing() {
    run(async {
        let new = noise(1, SIZE);
        let versions = Versions::of(&new, &new);
        let host = versions.scene.source_host();
        let spoil = |target: &Path| {
            let old = fs::File::options().write(true).open(target.join("file")).unwrap();
            old.write_all_at(&vec![7; SIZE], 0).unwrap();
        };
        // The first chunks have come, so some of the older version is known already, and some of it is not copied yet.
        let reached = |progress: &Progress| progress.bytes_listed.get() > 0;
        let (outcome, _) = meanwhile(host.code(), &versions.scene.target(), reached, spoil).await;
        let report = outcome.unwrap();
        assert_same_tree(&versions.scene.source(), &versions.scene.target());
        assert_eq!(report.received_bytes + report.copied_bytes, SIZE as u64, "{report:?}");
    });
}

#[test]
fn a_file_that_changes_at_the_host_meanwhile_is_told_and_the_older_version_stays() {
    run(async {
        let new = noise(1, SIZE);
        let mut old = new.clone();
        // Something must be asked for at every part.
        for at in (0..SIZE).step_by(500_000) {
            old[at] ^= 1;
        }
        let versions = Versions::of(&old, &new);
        let host = versions.scene.source_host();
        let change = |_: &Path| {
            fs::File::options().write(true).open(&versions.new).unwrap().write_all_at(b"!", SIZE as u64 - 9).unwrap();
        };
        let reached = |progress: &Progress| progress.bytes_listed.get() > 0;
        let (outcome, _) = meanwhile(host.code(), &versions.scene.target(), reached, change).await;
        let report = outcome.unwrap();
        if report.not_kept.is_empty() {
            // It was faster than the change.
            assert!(fs::read(&versions.old).unwrap() == new);
        } else {
            assert!(fs::read(&versions.old).unwrap() == old, "the older version stays under its name");
        }
        set_mtime(&versions.new, 1_700_000_009, 5);
        let report = versions.scene.get(host.code()).await.unwrap();
        assert_same_tree(&versions.scene.source(), &versions.scene.target());
        assert!(report.received_bytes < 60 * CHANGE_COST && report.copied_bytes > 0, "{report:?}");
    });
}

#[test]
fn an_update_that_is_cut_off_goes_on() {
    run(async {
        let new = noise(1, SIZE);
        let mut old = new.clone();
        old[SIZE - (2 << 20)..].fill(1);
        old[..100].fill(1);
        let versions = Versions::of(&old, &new);
        let host = versions.scene.source_host();
        let (endpoint, connection) = connect(host.code(), &NetOptions::default()).await.unwrap();
        let progress = Arc::new(Progress::default());
        let options = GetOptions { target: Some(versions.scene.target()), ..GetOptions::default() };
        let reached = async {
            while progress.bytes_done.get() < SIZE as u64 / 4 {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
            connection.close(7, b"cut");
            std::future::pending::<()>().await;
        };
        let outcome = tokio::select! {
            outcome = get(&connection, host.code(), &options, &progress) => outcome,
            () = reached => unreachable!("it never ends"),
        };
        endpoint.shutdown(0, b"").await;
        outcome.unwrap_err();
        assert!(fs::read(&versions.old).unwrap() == old, "the older version stays under its name");
        let report = versions.scene.get(host.code()).await.unwrap();
        assert_same_tree(&versions.scene.source(), &versions.scene.target());
        assert!(report.reused_bytes >= 1 << 20, "{report:?}");
        assert!(report.received_bytes <= (2 << 20) + 2 * CHANGE_COST, "{report:?}");
        assert_eq!(report.reused_bytes + report.copied_bytes + report.received_bytes, SIZE as u64);
    });
}

#[test]
fn what_the_host_has_read_for_the_list_is_not_hashed_again() {
    run(async {
        let new = noise(1, SIZE);
        let mut old = new.clone();
        old[SIZE / 2..SIZE / 2 + 3_000_000].fill(1);
        let versions = Versions::of(&old, &new);
        let host = versions.scene.source_host();
        settle(&versions.new).await;
        let report = versions.scene.get(host.code()).await.unwrap();
        assert!(report.received_bytes >= 3_000_000);
        assert_eq!(hashed(&host), SIZE as u64);
        // Nor for the next receiver, whether it has an older version or none.
        let second = versions.scene.dir.path().join("second");
        fs::create_dir(&second).unwrap();
        fs::write(second.join("file"), &old).unwrap();
        set_mtime(&second.join("file"), 1_600_000_000, 1);
        assert!(fetch(host.code(), &second).await.unwrap().copied_bytes > 0);
        fetch(host.code(), &versions.scene.dir.path().join("third")).await.unwrap();
        assert_eq!(hashed(&host), SIZE as u64);
    });
}

/// Waits until the file's times are old enough to tell its next change; hosts remember nothing younger.
async fn settle(file: &Path) {
    use std::os::unix::fs::MetadataExt;
    use std::time::{SystemTime, UNIX_EPOCH};
    let changed = fs::metadata(file).unwrap().ctime();
    while SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 <= changed + 4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn hashed(host: &Host) -> u64 {
    host.counters().hashed.load(Ordering::Relaxed)
}

#[test]
fn changes_in_every_part_of_a_file_of_many_parts() {
    run_within(Duration::from_secs(180), async {
        // More parts than may wait for their groups at once.
        let size = 700 << 20;
        let versions = Versions::of(b"", b"");
        let mut content = noise(1, size);
        fs::write(&versions.new, &content).unwrap();
        set_mtime(&versions.new, 1_700_000_000, 5);
        content.chunks_mut(1 << 20).for_each(|part| part[500_000] ^= 1);
        fs::write(&versions.old, &content).unwrap();
        drop(content);
        let report = versions.update().await;
        assert!(report.received_bytes <= 700 * (128 << 10), "{report:?}");
        assert_eq!(report.received_bytes + report.copied_bytes, size as u64);
    });
}
