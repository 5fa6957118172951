//! Hosts that read files in each of their ways.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Command;

use common::{Scene, assert_same_tree, noise, run};
use warpline_share::{FileIo, Host, HostOptions, NetOptions};

/// Few large files among many small ones, some of them with holes.
fn tree(scene: &Scene) {
    for i in 0..400 {
        let dir = scene.source().join(format!("{}", i % 7));
        fs::create_dir_all(&dir).unwrap();
        let len = if i % 100 == 0 { 3 << 20 } else { i * 300 };
        fs::write(dir.join(format!("{i}")), noise(i as u64, len)).unwrap();
        if i % 9 == 0 {
            let file = fs::File::create(dir.join(format!("{i} sparse"))).unwrap();
            file.set_len(50_000).unwrap();
            file.write_all_at(b"in the middle", 20_000).unwrap();
        }
    }
}

fn arrives(files: FileIo, name: &str) {
    run(async {
        let scene = Scene::new();
        tree(&scene);
        let host = scene.host_by(&scene.source(), files);
        assert_eq!(host.reading().name(), name, "{}", host.reading().reason());
        let report = scene.get(host.code()).await.unwrap();
        assert!(report.not_kept.is_empty(), "{:?}", report.not_kept);
        assert_eq!(report.refetched, 0);
        assert_same_tree(&scene.source(), &scene.target());
    });
}

#[test]
fn one_file_after_the_other() {
    arrives(FileIo::Plain, "plain");
}

/// Whether this process may use `io_uring`; says so if not.
fn has_uring() -> bool {
    let scene = Scene::new();
    let options = options(&scene, FileIo::Uring);
    let may = run(async { Host::open(&options).map(drop) });
    may.map_err(|error| eprintln!("skipped: {error}")).is_ok()
}

fn options(scene: &Scene, files: FileIo) -> HostOptions {
    let (root, state_dir) = (scene.source(), scene.source().with_file_name("state"));
    HostOptions { root, state_dir, bind: ([127, 0, 0, 1], 0).into(), net: NetOptions::default(), files }
}

#[test]
fn several_files_at_once() {
    if has_uring() {
        arrives(FileIo::Uring, "uring");
    }
}

/// Makes `io_uring_setup` fail with EPERM for this process, as container runtimes do.
fn forbid_io_uring() {
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        step(LOAD_WORD, 0, 0, 0),
        step(JUMP_EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: sets a flag of the process.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program is valid and is copied by the kernel.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) }, 0);
}

#[test]
#[ignore = "forbids io_uring to its process: run by where_io_uring_is_forbidden_files_are_read_plainly"]
fn child_forbidden() {
    forbid_io_uring();
    arrives(FileIo::Auto, "plain");
    let scene = Scene::new();
    let refused = run(async { Host::open(&options(&scene, FileIo::Uring)).map(drop) }).unwrap_err().to_string();
    assert!(refused.contains("not permitted"), "{refused}");
}

#[test]
fn where_io_uring_is_forbidden_files_are_read_plainly() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_forbidden", "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}
