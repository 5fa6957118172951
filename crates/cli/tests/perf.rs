//! `warpline perf`: every scenario moves something, and says how much.

use std::io::{BufRead, BufReader};
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

fn server() -> (Server, String) {
    let mut command = perf();
    command.args(["server", "--bind", "127.0.0.1:0"]).stdout(Stdio::piped());
    let mut server = Server(command.spawn().expect("it starts"));
    let mut line = String::new();
    let out = server.0.stdout.take().expect("it is a pipe");
    BufReader::new(out).read_line(&mut line).expect("it says where it listens");
    let ready: Value = serde_json::from_str(&line).expect("one JSON object");
    (server, ready["addr"].as_str().expect("an address").to_owned())
}

/// What the client reports.
fn measure(address: &str, scenario: &str, more: &[&str]) -> Value {
    let mut command = perf();
    command.args(["client", address, "--insecure", "--duration", "0.3", "--warmup", "0.1", "--scenario", scenario]);
    let output = command.args(more).output().expect("it starts");
    assert!(output.status.success(), "{scenario}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn every_scenario_measures_something() {
    let (_server, address) = server();
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
    let (_server, address) = server();
    let output = perf().args(["client", &address, "--scenario", "reqresp"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--ca"), "{said}");
}
