//! Servers and clients of aioquic, as child processes. The scripts are in `interop/aioquic/`, what they print is JSON.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::identity::Identity;

/// How long to wait for a line of a server: a bound on a broken test, not a measure.
const LINE_TIMEOUT: Duration = Duration::from_secs(60);

/// An interpreter that can import aioquic.
#[derive(Debug, Clone)]
pub struct Python {
    interpreter: PathBuf,
    scripts: PathBuf,
}

impl Python {
    /// Finds the interpreter, and makes its environment when it is not there (`interop/setup-aioquic.sh`).
    ///
    /// # Errors
    ///
    /// When the environment cannot be made: no Python, or no packages to be had.
    pub fn find() -> io::Result<Self> {
        let interop = Path::new(env!("CARGO_MANIFEST_DIR"));
        let output = Command::new(interop.join("setup-aioquic.sh")).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(io::Error::other("setup-aioquic.sh failed"));
        }
        let interpreter = String::from_utf8(output.stdout).map_err(io::Error::other)?.trim().into();
        Ok(Self { interpreter, scripts: interop.join("aioquic") })
    }

    /// The interpreter.
    pub fn interpreter(&self) -> &Path {
        &self.interpreter
    }

    /// One of our scripts.
    pub fn script(&self, name: &str) -> PathBuf {
        self.scripts.join(name)
    }

    /// Starts a server on a free port that serves the files in `root`. `options` are those of `server.py`.
    ///
    /// # Errors
    ///
    /// When the process does not start or does not come to listen.
    pub fn server(&self, identity: &Identity, root: &Path, options: &[&str]) -> io::Result<Server> {
        let mut child = Command::new(&self.interpreter)
            .arg(self.scripts.join("server.py"))
            .arg("--cert")
            .arg(identity.certificate_file())
            .arg("--key")
            .arg(identity.key_file())
            .arg("--root")
            .arg(root)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("the child has no output"))?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut server = Server { child, lines, address: ([127, 0, 0, 1], 0).into() };
        let port = server.event("listening")?["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        server.address.set_port(port.ok_or_else(|| io::Error::other("no port in the listening event"))?);
        Ok(server)
    }

    /// Runs a client towards `server` to its end. `options` are those of `client.py`.
    ///
    /// # Errors
    ///
    /// When the process does not run, or says that something was not as it must be.
    pub fn client(&self, identity: &Identity, server: SocketAddr, options: &[&str]) -> io::Result<Value> {
        let output = Command::new(&self.interpreter)
            .arg(self.scripts.join("client.py"))
            .arg("--ca")
            .arg(identity.certificate_file())
            .args(["--host", &server.ip().to_string(), "--port", &server.port().to_string()])
            .args(options)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        let result: Value = serde_json::from_slice(&output.stdout)?;
        if !output.status.success() {
            return Err(io::Error::other(format!("the client failed: {result}")));
        }
        Ok(result)
    }
}

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    lines: Receiver<String>,
    address: SocketAddr,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next event of this name; others before it are passed over.
    ///
    /// # Errors
    ///
    /// When the server ended, printed something odd, or nothing for a minute.
    pub fn event(&mut self, name: &str) -> io::Result<Value> {
        loop {
            let line = self.lines.recv_timeout(LINE_TIMEOUT).map_err(io::Error::other)?;
            let event: Value = serde_json::from_str(&line)?;
            if event["event"] == name {
                return Ok(event);
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is ours and has nothing to lose; an error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
