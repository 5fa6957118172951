//! `warpline perf`: every scenario moves something, and says how much.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A server that is ended with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn perf() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warpline"));
    command.arg("perf").stdin(Stdio::null());
    command
}

fn server(more: &[&str]) -> (Server, String) {
    let mut command = perf();
    command.args(["server", "--bind", "127.0.0.1:0"]).args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Server(command.spawn().expect("it starts"));
    let mut line = String::new();
    let out = server.0.stdout.take().expect("it is a pipe");
    BufReader::new(out).read_line(&mut line).expect("it says where it listens");
    let ready: Value = serde_json::from_str(&line).expect("one JSON object");
    (server, ready["addr"].as_str().expect("an address").to_owned())
}

/// What the client reports.
fn measure(address: &str, scenario: &str, more: &[&str]) -> Value {
    measure_for("0.3", address, scenario, more)
}

fn measure_for(seconds: &str, address: &str, scenario: &str, more: &[&str]) -> Value {
    let mut command = perf();
    command.args(["client", address, "--insecure", "--duration", seconds, "--warmup", "0.1", "--scenario", scenario]);
    let output = command.args(more).output().expect("it starts");
    assert!(output.status.success(), "{scenario}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn every_scenario_measures_something() {
    let (_server, address) = server(&[]);
    for scenario in ["download", "upload", "bidi"] {
        let report = measure(&address, scenario, &["--streams", "2"]);
        assert!(report["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{report}");
    }
    for scenario in ["reqresp", "churn", "connect", "resume", "zerortt"] {
        let report = measure(&address, scenario, &["--in-flight", "3"]);
        assert!(report["requests"].as_u64().is_some_and(|requests| requests > 0), "{report}");
        assert_eq!(report["fallbacks"], 0, "{report}");
    }
    for scenario in ["smallmsg", "datagram", "datagram-echo"] {
        let report = measure(&address, scenario, &["--bytes", "100", "--in-flight", "8"]);
        assert!(report["requests"].as_u64().is_some_and(|messages| messages > 0), "{report}");
    }
}

#[test]
fn whom_nobody_vouches_for_is_not_measured() {
    let (_server, address) = server(&[]);
    let output = perf().args(["client", &address, "--scenario", "reqresp"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--ca"), "{said}");
}

/// Handshakes take long enough for one worker to fall behind.
#[test]
fn a_server_under_load_has_as_many_workers_as_it_may() {
    let (mut server, address) = server(&["--max-workers", "2", "--io", "udp"]);
    // The first change comes after two seconds at the earliest.
    measure_for("4", &address, "connect", &["--in-flight", "32"]);
    let pid = rustix::process::Pid::from_child(&server.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    let mut said = String::new();
    let mut err = server.0.stderr.take().expect("it is a pipe");
    err.read_to_string(&mut said).expect("it ends");
    let report = said.lines().find_map(|line| serde_json::from_str::<Value>(line).ok()).expect("it reports at its end");
    assert_eq!(report["workers"], 2, "{report}");
    assert!(report["growth_asked"].as_u64().is_some_and(|times| times > 0), "{report}");
}

#[test]
fn more_workers_than_there_may_be_are_refused() {
    let output = perf().args(["server", "--workers", "3", "--max-workers", "2"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("workers"), "{said}");
}
