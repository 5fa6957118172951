//! `warpline doctor` as a command: what it prints, how it ends, and what `--fix` touches.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "../../pktio/tests/common/netns.rs"]
mod netns;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::warpline;
use netns::Pair;
use serde_json::Value;

const USAGE: i32 = 2;
/// What is said of any machine.
const MACHINE: [&str; 18] = [
    "kernel",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_BPF",
    "CAP_IPC_LOCK",
    "locked memory",
    "net.core.rmem_max",
    "net.core.wmem_max",
    "net.core.bpf_jit_enable",
    "cores",
    "topology",
    "memory nodes",
    "CPU governor",
    "irqbalance",
    "ciphers in hardware",
    "Intel QAT",
    "UDP sockets",
    "io_uring",
];
/// What is said of any interface that AF_XDP could be used on.
const INTERFACE: [&str; 4] = ["driver", "best mode of AF_XDP", "MTU", "receive queues"];

fn findings(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "one object and nothing else: {text}");
    let mut object: Value = serde_json::from_str(&text).unwrap();
    let Value::Array(all) = object["findings"].take() else { panic!("the findings are an array: {text}") };
    for finding in &all {
        let text = |key: &str| finding[key].as_str().unwrap_or_else(|| panic!("{key} is a text: {finding}"));
        assert!(!text("what").is_empty() && !text("meaning").is_empty() && !text("found").is_empty(), "{finding}");
        assert!(["good", "costs speed", "missing", "note"].contains(&text("state")), "{finding}");
        let (safe, command) = (finding["safe"].as_bool().unwrap(), finding["command"].as_str());
        assert!(!safe || command.is_some(), "what can be applied has a command: {finding}");
    }
    all
}

fn of<'a>(all: &'a [Value], area: &str, what: &str) -> &'a Value {
    let found: Vec<&Value> = all.iter().filter(|one| one["area"] == area && one["what"] == what).collect();
    assert_eq!(found.len(), 1, "{area}: {what}");
    found[0]
}

#[test]
fn everything_that_was_looked_at_is_in_the_json() {
    let output = warpline().args(["doctor", "--interface", "lo", "--json"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let all = findings(&output);
    for what in MACHINE {
        of(&all, "machine", what);
    }
    for what in INTERFACE {
        of(&all, "interface lo", what);
    }
    assert!(all.iter().all(|one| one["applied"].is_null() && one["error"].is_null()), "nothing was to be applied");
    // The table has the same.
    let table = warpline().args(["doctor", "--interface", "lo"]).output().unwrap();
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(table.status.success() && MACHINE.iter().chain(&INTERFACE).all(|what| text.contains(what)), "{text}");
}

#[test]
fn interfaces_of_the_namespace_are_looked_at() {
    let Some(pair) = Pair::with_queues("doctor", 2) else { return };
    let mut inside = Command::new("ip");
    inside.args(["netns", "exec", pair.name(0), env!("CARGO_BIN_EXE_warpline"), "doctor", "--json"]);
    let output = inside.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let all = findings(&output);
    for what in INTERFACE {
        of(&all, "interface wl0", what);
    }
    assert!(of(&all, "interface wl0", "driver")["found"].as_str().unwrap().starts_with("veth"));
    assert_eq!(of(&all, "interface wl0", "best mode of AF_XDP")["found"], "copy");
    assert_eq!(of(&all, "interface wl0", "MTU")["found"], "1500");
}

#[test]
fn what_is_not_understood_is_refused() {
    for (words, part) in [
        (&["--repair"][..], "--repair"),
        (&["--interface"], "--interface"),
        (&["--interface", "a-name-that-is-too-long"], "a-name-that-is-too-long"),
        (&["--cores", "three"], "three"),
        (&["eth0"], "eth0"),
    ] {
        let output = warpline().arg("doctor").args(words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(USAGE), &b""[..]), "{words:?}: {text}");
        assert!(text.contains(part), "{words:?}: {text}");
    }
}

#[test]
fn an_interface_that_does_not_exist_is_an_error() {
    for words in [&["--json"][..], &[]] {
        let output = warpline().args(["doctor", "--interface", "lo", "--interface", "wl-nothing"]).args(words).output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b""[..]), "{text}");
        assert!(text.contains("there is no interface wl-nothing"), "{text}");
    }
}

/// A kernel whose settings are files of the test's; everything else of it can only be read.
struct Sham {
    home: tempfile::TempDir,
    settings: Vec<(&'static str, PathBuf)>,
}

impl Sham {
    fn new(settings: &[(&'static str, &str)]) -> Sham {
        let home = tempfile::tempdir().unwrap();
        let make = |(place, &(real, value)): (usize, &(&'static str, &str))| {
            let file = home.path().join(place.to_string());
            std::fs::write(&file, value).unwrap();
            (real, file)
        };
        Sham { settings: settings.iter().enumerate().map(make).collect(), home }
    }

    /// The command within, or why there cannot be one. With `locked` the files can only be read, too.
    fn doctor(&self, words: &str, locked: bool) -> Result<Output, String> {
        let mut script = "set -e\n".to_owned();
        for all in ["/proc/sys", "/sys"] {
            script += &format!("mount --bind {all} {all}; mount -o remount,bind,ro {all}\n");
        }
        for (real, file) in &self.settings {
            script += &format!("mount --bind {} {real}\n", file.display());
            if locked {
                script += &format!("mount -o remount,bind,ro {real}\n");
            }
        }
        script += "echo ready >&2\n";
        script += &format!("exec {} doctor {words}\n", env!("CARGO_BIN_EXE_warpline"));
        let output = Command::new("unshare").args(["--mount", "--net", "sh", "-c", &script]).output();
        let output = output.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stderr);
        if text.contains("ready") { Ok(output) } else { Err(text.trim().to_owned()) }
    }

    fn value(&self, real: &str) -> String {
        let (_, file) = self.settings.iter().find(|(path, _)| *path == real).unwrap();
        std::fs::read_to_string(file).unwrap()
    }
}

const RMEM: &str = "/proc/sys/net/core/rmem_max";
const WMEM: &str = "/proc/sys/net/core/wmem_max";
const PAGES: &str = "/proc/sys/vm/nr_hugepages";
const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

fn sham() -> Option<Sham> {
    let there = |path: &&(&'static str, &str)| Path::new(path.0).exists();
    let wanted = [(RMEM, "1000"), (WMEM, "99999999"), (PAGES, "0"), (THP, "always madvise [never]")];
    let sham = Sham::new(&wanted.iter().filter(there).copied().collect::<Vec<_>>());
    match sham.doctor("--json", false) {
        Ok(output) if findings(&output).iter().any(|one| one["what"] == "net.core.rmem_max") => Some(sham),
        Ok(output) => panic!("the settings are shown: {output:?}"),
        Err(reason) => {
            println!("skipped: no namespaces for files here: {reason}");
            None
        }
    }
}

#[test]
fn fix_applies_what_is_safe_and_needed_and_nothing_else() {
    let Some(sham) = sham() else { return };
    let before = std::fs::read_to_string(RMEM).unwrap();
    assert_eq!(sham.value(RMEM), "1000", "without --fix nothing is applied");
    let output = sham.doctor("--fix --json", false).unwrap();
    // What is not a file of the test's cannot be written, which is said.
    let all = findings(&output);
    let failed = all.iter().any(|one| one["applied"] == false);
    assert_eq!(output.status.code(), Some(i32::from(failed)), "{output:?}");
    for one in &all {
        let needed = one["safe"] == true && (one["state"] == "costs speed" || one["state"] == "missing");
        assert_eq!(needed, !one["applied"].is_null(), "{one}");
    }
    let rmem = of(&all, "machine", "net.core.rmem_max");
    assert_eq!((&rmem["applied"], &rmem["state"]), (&Value::Bool(true), &Value::from("costs speed")), "{rmem}");
    let written = sham.value(RMEM);
    assert!(rmem["command"].as_str().unwrap().contains(&format!("\"{written}\"")) && written != "1000", "{rmem}");
    assert_eq!(sham.value(WMEM), "99999999", "what is good stays");
    assert_eq!(std::fs::read_to_string(RMEM).unwrap(), before, "it was a file of the test's");
    // Once more: what was applied is good.
    let all = findings(&sham.doctor("--fix --json", false).unwrap());
    let rmem = of(&all, "machine", "net.core.rmem_max");
    assert!(rmem["state"] == "good" && rmem["applied"].is_null(), "{rmem}");
}

#[test]
fn what_cannot_be_applied_is_an_error_with_the_reason() {
    let Some(sham) = sham() else { return };
    let output = sham.doctor("--fix --json", true).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let all = findings(&output);
    let rmem = of(&all, "machine", "net.core.rmem_max");
    assert!(rmem["applied"] == false && rmem["error"].as_str().unwrap().contains(RMEM), "{rmem}");
    assert_eq!(sham.value(RMEM), "1000");
    let table = sham.doctor("--fix", true).unwrap();
    let text = String::from_utf8_lossy(&table.stdout);
    assert!(table.status.code() == Some(1) && text.contains("not applied: "), "{text}");
    drop(sham.home);
}
