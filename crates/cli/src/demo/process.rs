//! The two processes, and what the system knows of them.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;

use super::place::{Place, Side};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The host in its own process.
pub struct Host {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub code_file: PathBuf,
}

/// What a host said when it ended.
#[derive(Debug, Default)]
pub struct Hosted {
    pub syscalls: u64,
    pub peak_memory: u64,
}

impl Host {
    /// Starts it with its state and its code file in `scratch`: another one there takes its place.
    pub fn start(place: &Place, tree: &Path, scratch: &Path) -> Result<Self> {
        let code_file = scratch.join("code");
        let mut child = place
            .command(Side::Host)?
            .arg("host")
            .arg(tree)
            .args(["--bind", &place.bind(), "--json", "--code-file"])
            .arg(&code_file)
            .arg("--state-dir")
            .arg(scratch.join("state"))
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the host has no output")?;
        let mut host = Self { child, stdout: BufReader::new(stdout), code_file };
        let mut ready = String::new();
        host.stdout.read_line(&mut ready)?;
        if !ready.contains("\"ready\":true") {
            let status = host.child.wait()?;
            return Err(format!("the host did not start ({status})").into());
        }
        Ok(host)
    }

    /// CPU seconds so far.
    pub fn cpu(&self) -> Result<f64> {
        cpu_fields(&format!("/proc/{}/stat", self.child.id()), 11)
    }

    /// Kills it with SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Stops it.
    pub fn stop(mut self) -> Result<Hosted> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let mut last = String::new();
        self.stdout.read_line(&mut last)?;
        self.child.wait()?;
        let end: Value = serde_json::from_str(&last)?;
        Ok(Hosted { syscalls: number(&end, "syscalls")?, peak_memory: number(&end, "peak_memory")? })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Gone already when all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A receiver in its own process.
pub struct Get {
    child: Child,
}

/// What one `get` reported.
#[derive(Debug, Default)]
pub struct Fetched {
    pub bytes: u64,
    pub files: u64,
    pub seconds: f64,
    pub goodput_bps: f64,
    pub reused_bytes: u64,
    pub received_bytes: u64,
    pub packets_lost: u64,
    pub syscalls: u64,
    pub peak_memory: u64,
    pub verified: bool,
}

impl Get {
    /// Starts it.
    pub fn start(place: &Place, code_file: &Path, target: &Path) -> Result<Self> {
        let child = place
            .command(Side::Get)?
            .args(["get", "--json", "--code-file"])
            .arg(code_file)
            .arg("--output")
            .arg(target)
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self { child })
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Kills it with SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end and reads what it reported.
    pub fn finish(mut self) -> Result<Fetched> {
        let mut text = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout.read_to_string(&mut text)?;
        }
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("get failed ({status}): {text}").into());
        }
        let json: Value = serde_json::from_str(&text)?;
        Ok(Fetched {
            bytes: number(&json, "bytes")?,
            files: number(&json, "files")?,
            seconds: json["seconds"].as_f64().ok_or("get does not say how long it took")?,
            goodput_bps: json["goodput_bps"].as_f64().ok_or("get does not say how fast it was")?,
            reused_bytes: number(&json, "reused_bytes")?,
            received_bytes: number(&json, "received_bytes")?,
            packets_lost: number(&json, "packets_lost")?,
            syscalls: number(&json, "syscalls")?,
            peak_memory: number(&json, "peak_memory")?,
            verified: json["verified"] == true,
        })
    }
}

impl Drop for Get {
    fn drop(&mut self) {
        // Gone already when all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(json: &Value, name: &str) -> Result<u64> {
    json[name].as_u64().ok_or_else(|| format!("the report lacks `{name}`: {json}").into())
}

/// CPU seconds of the children that have ended.
pub fn cpu_of_children() -> Result<f64> {
    cpu_fields("/proc/self/stat", 13)
}

/// The sum of two neighbouring fields of a stat file, counted behind the name, in seconds.
fn cpu_fields(path: &str, first: usize) -> Result<f64> {
    let text = fs::read_to_string(path)?;
    let behind = text.rsplit_once(')').ok_or("a stat file without a name")?.1;
    let ticks: u64 = behind.split_whitespace().skip(first).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Bytes of data that files below `dir` have on disk.
pub fn on_disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => total += on_disk(&entry.path()),
            Ok(meta) => total += meta.blocks() * 512,
            Err(_) => {}
        }
    }
    total
}
