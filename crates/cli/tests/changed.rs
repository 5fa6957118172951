//! `warpline get` of a file that has changed since it was fetched, and what it reports of that.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Running, warpline};
use serde_json::Value;

const SIZE: usize = 40 << 20;

fn host(dir: &Path) -> Running {
    Running::host(dir, &dir.join("code"), |_| {})
}

/// Fetches, and what that came to.
fn get(dir: &Path, set: impl FnOnce(&mut Command)) -> Value {
    let mut command = warpline();
    command.args(["get", "--json", "--code-file"]).arg(dir.join("code")).arg("-o").arg(dir.join("target"));
    set(&mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read(dir.join("target/file")).unwrap() == fs::read(dir.join("source/file")).unwrap());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Changes a tenth of the file, at places that are no multiples of anything.
fn change(dir: &Path, seed: u8) {
    let path = dir.join("source/file");
    let mut content = fs::read(&path).unwrap();
    for nth in 0..4 {
        let at = nth * (SIZE / 4) + usize::from(seed) * 10_007;
        content[at..at + (1 << 20)].iter_mut().for_each(|byte| *byte ^= seed);
    }
    fs::write(&path, content).unwrap();
}

#[test]
fn a_file_with_a_tenth_changed() {
    let scene = tempfile::tempdir().unwrap();
    let dir = scene.path();
    fs::create_dir(dir.join("source")).unwrap();
    let mut content = Vec::with_capacity(SIZE);
    let mut state = 1u64;
    while content.len() < SIZE {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        content.extend_from_slice(&(state ^ state >> 29).to_le_bytes());
    }
    fs::write(dir.join("source/file"), &content).unwrap();
    let _host = host(dir);
    let number = |report: &Value, name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"));
    let first = get(dir, |_| {});
    assert_eq!(number(&first, "received_bytes"), SIZE as u64);
    assert_eq!((number(&first, "copied_bytes"), number(&first, "list_bytes")), (0, 0));

    change(dir, 3);
    let delta = get(dir, |_| {});
    let received = number(&delta, "received_bytes");
    assert!((4 << 20..SIZE as u64 * 12 / 100).contains(&(received + number(&delta, "list_bytes"))), "{delta}");
    assert_eq!(received + number(&delta, "copied_bytes"), SIZE as u64);
    assert_eq!(number(&delta, "reused_bytes"), 0);

    let again = get(dir, |_| {});
    assert_eq!(number(&again, "reused_bytes"), SIZE as u64);
    assert_eq!((number(&again, "received_bytes"), number(&again, "copied_bytes")), (0, 0));

    // Not when that is not wanted, by flag, variable or file.
    fs::write(dir.join("settings.toml"), "[get]\nwhole_file = true\n").unwrap();
    let ways: [&dyn Fn(&mut Command); 3] = [
        &|command| _ = command.arg("--whole-file"),
        &|command| _ = command.env("WARPLINE_WHOLE_FILE", "true"),
        &|command| _ = command.arg("--config").arg(dir.join("settings.toml")),
    ];
    for (seed, way) in (5..).zip(ways) {
        change(dir, seed);
        let whole = get(dir, way);
        assert_eq!(number(&whole, "received_bytes"), SIZE as u64);
        assert_eq!((number(&whole, "copied_bytes"), number(&whole, "list_bytes")), (0, 0));
    }

    change(dir, 9);
    let mut command = warpline();
    command.args(["get", "--code-file"]).arg(dir.join("code")).arg("-o").arg(dir.join("target"));
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(said.contains("taken from older versions"), "{said}");
}
