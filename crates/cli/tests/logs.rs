//! What `host`, `get` and `ls` write down about their connections when asked to.

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::{Running, warpline};

fn host(dir: &Path, code: &Path) -> Running {
    Running::host(dir, code, |command| {
        command.arg("--qlog-dir").arg(dir.join("host")).arg("--key-log").arg(dir.join("host.keys"));
    })
}

fn logs(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("it is there").map(|entry| entry.expect("it can be read").path());
    entries.map(|path| std::fs::read_to_string(path).expect("it is text")).collect()
}

#[test]
fn both_sides_log_their_connections_and_the_secrets_agree() {
    let scene = tempfile::tempdir().expect("a directory");
    let (dir, code) = (scene.path(), scene.path().join("code"));
    for name in ["source", "host", "receiver"] {
        std::fs::create_dir(dir.join(name)).expect("there is room");
    }
    std::fs::write(dir.join("source/file"), vec![7; 300_000]).expect("there is room");
    let host = host(dir, &code);
    for what in ["get", "ls"] {
        let mut command = warpline();
        command.stdout(Stdio::null());
        command.arg(what).arg("--code-file").arg(&code).arg("--qlog-dir").arg(dir.join("receiver"));
        command.arg("--key-log").arg(dir.join("receiver.keys"));
        if what == "get" {
            command.arg("-o").arg(dir.join("target"));
        }
        assert!(command.status().expect("it starts").success(), "{what}");
    }
    // The host writes its part when the receiver has gone.
    let is_whole = || logs(&dir.join("host")).iter().filter(|log| log.contains("connection_closed")).count() == 2;
    for _ in 0..500 {
        if is_whole() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(host);
    let receiver = logs(&dir.join("receiver"));
    assert_eq!(receiver.len(), 2);
    assert!(receiver.iter().all(|log| log.contains("\"name\":\"connectivity:connection_closed\"")));
    assert!(is_whole(), "{:?}", logs(&dir.join("host")));
    let keys = |name: &str| {
        let text = std::fs::read_to_string(dir.join(name)).expect("it was written");
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert!(!keys("host.keys").is_empty());
    assert_eq!(keys("host.keys"), keys("receiver.keys"));
}

#[test]
fn logs_that_cannot_be_written_are_refused_before_anything_moves() {
    let scene = tempfile::tempdir().expect("a directory");
    let missing = scene.path().join("missing");
    for (flag, value) in [("--qlog-dir", missing.clone()), ("--key-log", missing.join("keys"))] {
        let mut command = warpline();
        command.stdout(Stdio::null());
        command.arg("host").arg(scene.path()).arg(flag).arg(value).arg("--state-dir").arg(scene.path().join("state"));
        let output = command.stderr(Stdio::piped()).args(["--bind", "127.0.0.1:0"]).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("missing"), "{said}");
    }
}
