//! Who seals packets: by flag, variable and file, in what the commands say; and what is said where there is no card.
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;

use common::{Running, warpline};
use serde_json::Value;

/// A directory with a file to share.
fn source() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir(dir.path().join("source")).expect("it is ours");
    std::fs::write(dir.path().join("source/file"), vec![7; 300_000]).expect("it is ours");
    dir
}

/// What a fetch with these settings says.
fn fetch(dir: &Path, code: &Path, set: impl FnOnce(&mut std::process::Command)) -> Value {
    let mut command = warpline();
    command.args(["get", "--json", "--code-file"]).arg(code).arg("--output").arg(dir.join("fetched"));
    set(&mut command);
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn who_seals_packets_is_set_like_everything_else_and_reported() {
    let dir = source();
    let (code, file) = (dir.path().join("code"), dir.path().join("settings.toml"));
    std::fs::write(&file, "crypto = \"ring\"\n").expect("it is ours");
    let _host = Running::host(dir.path(), &code, |host| {
        host.args(["--crypto", "aws-lc"]);
    });
    let by_file = fetch(dir.path(), &code, |get| {
        get.arg("--config").arg(&file);
    });
    assert_eq!((&by_file["crypto"], &by_file["crypto_why"]), (&"ring".into(), &"as asked for".into()), "{by_file}");
    let by_variable = fetch(dir.path(), &code, |get| {
        get.arg("--config").arg(&file).env("WARPLINE_CRYPTO", "aws-lc");
    });
    assert_eq!((&by_variable["crypto"], &by_variable["qat"]), (&"aws-lc-rs".into(), &Value::Null), "{by_variable}");
}

#[test]
fn without_a_card_auto_says_why_not_and_qat_fails_with_the_reason() {
    if !warpline_qat::cards(Path::new("/")).is_empty() {
        return eprintln!("skipped: this machine has a QAT card");
    }
    let dir = source();
    let code = dir.path().join("code");
    let _host = Running::host(dir.path(), &code, |_| ());
    let report = fetch(dir.path(), &code, |_| ());
    let why = report["crypto_why"].as_str().expect("it says why");
    assert_eq!(why, "the fastest library, as measured; no QAT card is in this machine", "{report}");
    let refused: [&[&str]; 4] = [
        &["perf", "server", "--crypto", "qat"],
        &["host", "source", "--bind", "127.0.0.1:0", "--state-dir", "state", "--crypto", "qat"],
        &["h3", "serve", "source", "--bind", "127.0.0.1:0", "--crypto", "qat"],
        &["h3", "get", "https://localhost:1/", "--crypto", "qat"],
    ];
    for line in refused {
        let output = warpline().current_dir(dir.path()).args(line).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("no QAT card is in this machine"), "{line:?}: {said}");
    }
}
