//! What is fetched is what is shared.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use common::{Scene, assert_same_tree, fetch, noise, run, set_mtime};
use warpline_share::{Listed, NetOptions, ShareError, connect, ls};

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// One of everything that is kept. Times are set last, from the inside out.
fn everything(root: &Path) {
    for dir in ["empty", "a", "a/deep", "a/deep/er", "read-only", "z"] {
        fs::create_dir(root.join(dir)).unwrap();
    }
    fs::write(root.join("a/empty file"), b"").unwrap();
    fs::write(root.join("a/deep/er/file"), b"deep").unwrap();
    fs::write(root.join("read-only/inside"), b"inside").unwrap();
    fs::write(root.join("a.txt"), b"sorts between a and what is in it, as bytes").unwrap();
    fs::hard_link(root.join("a/deep/er/file"), root.join("a.second")).unwrap();
    fs::hard_link(root.join("a/deep/er/file"), root.join("z/third")).unwrap();
    symlink("a/deep", root.join("link to a directory")).unwrap();
    symlink("/nowhere/at all", root.join("dangling")).unwrap();
    symlink("../..", root.join("upwards")).unwrap();
    fs::write(root.join("secret"), b"nobody may read this").unwrap();
    chmod(&root.join("secret"), if rustix::process::geteuid().is_root() { 0 } else { 0o400 });
    fs::write(root.join("program"), b"#!/bin/sh\n").unwrap();
    chmod(&root.join("program"), 0o755);
    let odd = OsStr::from_bytes(b"not \xff\xfe UTF-8\n");
    fs::create_dir(root.join(odd)).unwrap();
    fs::write(root.join(odd).join(odd), b"odd").unwrap();
    let _ = rustix::fs::setxattr(root.join("a.txt"), "user.colour", b"blue\0green", rustix::fs::XattrFlags::empty());
    let _ = rustix::fs::setxattr(root.join("empty"), "user.of a directory", b"", rustix::fs::XattrFlags::empty());
    for (i, name) in ["sparse", "all hole", "hole at the end"].into_iter().enumerate() {
        let file = fs::File::create(root.join(name)).unwrap();
        file.set_len(5 << 20).unwrap();
        if i != 1 {
            file.write_all_at(&noise(1, 8192), if i == 0 { (3 << 20) + 4096 } else { 0 }).unwrap();
        }
        if i == 0 {
            file.write_all_at(&noise(2, 4096), 64 * 1024).unwrap();
        }
        file.sync_all().unwrap();
    }
    let small = fs::File::create(root.join("small sparse")).unwrap();
    small.set_len(200_000).unwrap();
    small.write_all_at(b"in the middle", 100_000).unwrap();
    small.sync_all().unwrap();
    chmod(&root.join("read-only"), 0o555);
    let mut paths: Vec<_> = common::tree(root).into_keys().collect();
    paths.reverse();
    for (i, path) in paths.iter().enumerate() {
        set_mtime(&root.join(OsStr::from_bytes(path)), 1_000_000_000 + i as i64 * 7, 123_456_789 - i as i64);
    }
    set_mtime(&root.join("program"), -5, 999_999_999);
}

#[test]
fn a_tree_arrives_as_it_is_and_again_costs_nothing() {
    run(async {
        let scene = Scene::new();
        everything(&scene.source());
        let host = scene.source_host();
        let report = scene.get(host.code()).await.unwrap();
        assert!(report.not_kept.is_empty(), "{:?}", report.not_kept);
        assert_eq!(report.entries as usize, common::tree(&scene.source()).len());
        assert_same_tree(&scene.source(), &scene.target());

        let again = scene.get(host.code()).await.unwrap();
        assert_eq!((again.received_bytes, again.reused_bytes), (0, again.bytes));
        assert_same_tree(&scene.source(), &scene.target());
    });
}

#[test]
fn files_of_all_sizes_around_the_boundaries() {
    run(async {
        let scene = Scene::new();
        let (group, part) = (16 * 1024, 1 << 20);
        let sizes = [0, 1, group - 1, group, group + 1, part - 1, part, part + 1, 2 * part, 3 * part + 5];
        for size in sizes {
            fs::write(scene.source().join(format!("{size}")), noise(size as u64, size)).unwrap();
        }
        let host = scene.source_host();
        let report = scene.get(host.code()).await.unwrap();
        assert_eq!(report.bytes, sizes.iter().sum::<usize>() as u64);
        assert_eq!(report.received_bytes, report.bytes);
        assert_eq!((report.files, report.refetched), (sizes.len() as u64, 0));
        assert_same_tree(&scene.source(), &scene.target());
    });
}

#[test]
fn a_file_is_shared_by_itself() {
    run(async {
        let scene = Scene::new();
        let file = scene.source().join("one file");
        fs::write(&file, noise(3, 2_000_000)).unwrap();
        fs::write(scene.source().join("its neighbour"), b"not shared").unwrap();
        set_mtime(&file, 1_234_567_890, 42);
        let host = scene.host(&file);
        let report = scene.get(host.code()).await.unwrap();
        assert_eq!((report.files, report.entries), (1, 1));
        assert_eq!(fs::read_dir(scene.target()).unwrap().count(), 1);
        let (from, to) = (common::tree(&scene.source()), common::tree(&scene.target()));
        assert_eq!(from[&b"one file"[..]], to[&b"one file"[..]]);
        assert_eq!(scene.get(host.code()).await.unwrap().received_bytes, 0);
    });
}

#[test]
fn what_changed_between_runs_is_fetched_and_nothing_else() {
    run(async {
        let scene = Scene::new();
        let large = scene.source().join("large");
        fs::write(&large, noise(4, 3_000_000)).unwrap();
        fs::write(scene.source().join("small"), noise(5, 1000)).unwrap();
        fs::write(scene.source().join("as it was"), noise(6, 5000)).unwrap();
        fs::hard_link(scene.source().join("small"), scene.source().join("small too")).unwrap();
        let host = scene.source_host();
        scene.get(host.code()).await.unwrap();
        fs::write(&large, noise(7, 3_000_000)).unwrap();
        set_mtime(&large, 2_000_000_000, 1);
        fs::write(scene.source().join("small"), noise(8, 1001)).unwrap();
        chmod(&scene.source().join("as it was"), 0o640);
        let report = scene.get(host.code()).await.unwrap();
        assert_eq!((report.received_bytes, report.reused_bytes), (3_001_001, 5000));
        assert_same_tree(&scene.source(), &scene.target());
    });
}

#[test]
fn more_files_than_may_be_asked_for_at_once() {
    run(async {
        let scene = Scene::new();
        for i in 0..12_000 {
            if i % 500 == 0 {
                fs::create_dir(scene.source().join(format!("{}", i / 500))).unwrap();
            }
            fs::write(scene.source().join(format!("{}/{i}", i / 500)), format!("{i}")).unwrap();
        }
        // More files of several parts than this process may have open.
        for i in 0..700 {
            let file = fs::File::create(scene.source().join(format!("large {i}"))).unwrap();
            file.set_len((1 << 20) + 1).unwrap();
            file.write_all_at(format!("{i}").as_bytes(), 1 << 20).unwrap();
        }
        let host = scene.source_host();
        let report = scene.get(host.code()).await.unwrap();
        assert_eq!(report.files, 12_700);
        assert_same_tree(&scene.source(), &scene.target());
    });
}

#[test]
fn what_cannot_be_shared_is_told() {
    run(async {
        let scene = Scene::new();
        fs::write(scene.source().join("file"), b"here").unwrap();
        let fifo = scene.source().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let host = scene.source_host();
        let report = scene.get(host.code()).await.unwrap();
        assert_eq!(report.not_kept.len(), 1);
        assert_eq!(report.not_kept[0].0, b"pipe");
        assert!(report.not_kept[0].1.contains("pipe"), "{:?}", report.not_kept);
        assert_eq!(fs::read(scene.target().join("file")).unwrap(), b"here");
    });
}

#[test]
fn a_list_names_everything_in_order_and_fetches_nothing() {
    run(async {
        let scene = Scene::new();
        everything(&scene.source());
        let host = scene.source_host();
        let (_endpoint, connection) = connect(host.code(), &NetOptions::default()).await.unwrap();
        let mut paths = Vec::new();
        ls(&connection, host.code(), |listed| {
            let Listed::Entry(entry) = listed else { panic!("{listed:?}") };
            paths.push(entry.path);
            Ok(())
        })
        .await
        .unwrap();
        let mut expected: Vec<_> = common::tree(&scene.source()).into_keys().collect();
        expected.sort_by(|a, b| a.split(|b| *b == b'/').cmp(b.split(|b| *b == b'/')));
        expected.sort_by_key(|path| !path.is_empty());
        assert_eq!(paths, expected);
        assert_eq!(host.counters().wants.load(std::sync::atomic::Ordering::Relaxed), 0);
    });
}

#[test]
fn who_does_not_know_the_secret_gets_nothing() {
    run(async {
        let scene = Scene::new();
        fs::write(scene.source().join("file"), b"secret").unwrap();
        let host = scene.source_host();
        let mut code = host.code().clone();
        code.secret[0] ^= 1;
        assert!(matches!(fetch(&code, &scene.target()).await, Err(ShareError::WrongSecret)));
        assert!(!scene.target().exists());
        code = host.code().clone();
        code.fingerprint[0] ^= 1;
        assert!(matches!(fetch(&code, &scene.target()).await, Err(ShareError::Connection(_))));
        // The right code still works.
        scene.get(host.code()).await.unwrap();
    });
}

#[test]
fn a_target_is_for_one_transfer_at_a_time_and_names_in_the_way_are_told() {
    run(async {
        let scene = Scene::new();
        fs::create_dir(scene.source().join("name")).unwrap();
        let host = scene.source_host();
        fs::create_dir(scene.target()).unwrap();
        symlink("/", scene.target().join("name")).unwrap();
        assert!(matches!(scene.get(host.code()).await, Err(ShareError::Misuse { .. })));
        fs::remove_file(scene.target().join("name")).unwrap();
        scene.get(host.code()).await.unwrap();
        assert_same_tree(&scene.source(), &scene.target());
    });
}
