//! A running `warpline h3 serve`, and `warpline h3 get` towards it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

/// A bound on a broken test, not a measure.
const LINE_TIMEOUT: Duration = Duration::from_secs(60);

/// The command under test.
pub fn warpline() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warpline"));
    command.arg("h3").stdin(Stdio::null());
    command
}

/// A server of a temporary directory. Ends when this is dropped.
pub struct Site {
    pub dir: tempfile::TempDir,
    pub ready: Value,
    child: Child,
    lines: Receiver<String>,
}

impl Site {
    /// On a free port of the loopback.
    pub fn new(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = warpline()
            .arg("serve")
            .arg(dir.path())
            .args(["--bind", "127.0.0.1:0", "--json"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut site = Self { dir, ready: Value::Null, child, lines };
        site.ready = site.line();
        site
    }

    /// Writes a file.
    pub fn file(&self, name: &str, content: &[u8]) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// The URL of a path without its first slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.ready["url"].as_str().unwrap())
    }

    /// Where HTTP/3 is served.
    pub fn address(&self) -> SocketAddr {
        self.ready["addr"].as_str().unwrap().parse().unwrap()
    }

    /// The hash of its key.
    pub fn pin(&self) -> &str {
        self.ready["spki_sha256"].as_str().unwrap()
    }

    /// The next line of its log.
    pub fn line(&self) -> Value {
        serde_json::from_str(&self.lines.recv_timeout(LINE_TIMEOUT).unwrap()).unwrap()
    }

    /// Fetches it, with the server's key pinned.
    pub fn get(&self, path: &str, options: &[&str]) -> Output {
        get(&self.url(path), &[&["--pin", self.pin()], options].concat())
    }

    /// Fetches it to standard output.
    pub fn body(&self, path: &str) -> Vec<u8> {
        let output = self.get(path, &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// As Ctrl-C does.
    pub fn interrupt(&self) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    }

    /// Waits for it to end by itself; gives its exit code and the lines that were not read.
    pub fn ended(mut self) -> (Option<i32>, Vec<Value>) {
        let status = self.child.wait().unwrap();
        let lines = self.lines.iter().map(|line| serde_json::from_str(&line).unwrap()).collect();
        (status.code(), lines)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // An error says that it ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fetches any URL.
pub fn get(url: &str, options: &[&str]) -> Output {
    warpline().args(["get", url]).args(options).output().unwrap()
}

/// A certificate for `localhost` and its key, in PEM files of `dir`.
pub fn certificate(dir: &Path) -> [String; 2] {
    let id = warpline::Identity::generate(["localhost"]).unwrap();
    let pem = |kind: &str, der: &[u8]| {
        let text = data_encoding::BASE64.encode(der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
    };
    let files = [("cert.pem", pem("CERTIFICATE", &id.certificate)), ("key.pem", pem("PRIVATE KEY", id.key_pkcs8()))];
    files.map(|(name, text)| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    })
}
