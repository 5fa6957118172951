//! What the tests of the command share: starting it, and hosts that end with the test.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How often a test looks whether a host is ready, and how long it sleeps in between.
const LOOKS: usize = 3000;
const LOOK: Duration = Duration::from_millis(10);

/// The command, without input.
pub fn warpline() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warpline"));
    command.stdin(Stdio::null());
    command
}

/// A host that is ended with the test.
pub struct Running(pub Child);

impl Running {
    /// Starts a host that shares `source` within `dir` and is ready once it has written `code`.
    pub fn host(dir: &Path, code: &Path, set: impl FnOnce(&mut Command)) -> Self {
        let mut command = warpline();
        command.arg("host").arg(dir.join("source")).args(["--bind", "127.0.0.1:0", "--code-file"]).arg(code);
        command.arg("--state-dir").arg(dir.join("state")).stdout(Stdio::null());
        set(&mut command);
        let mut host = Self(command.spawn().expect("it starts"));
        for _ in 0..LOOKS {
            if std::fs::read_to_string(code).is_ok_and(|text| !text.is_empty()) {
                return host;
            }
            if let Ok(Some(status)) = host.0.try_wait() {
                panic!("the host ended before it was ready: {status}");
            }
            std::thread::sleep(LOOK);
        }
        panic!("the host did not become ready");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
