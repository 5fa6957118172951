//! The steps of the demo: two processes, real sockets, real files.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::{DemoArgs, compare, tree};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

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
    pub verified: bool,
}

/// What the demo found.
#[derive(Debug, Default)]
pub struct Outcome {
    pub first: Fetched,
    pub second: Fetched,
    pub host_cpu: f64,
    pub get_cpu: f64,
    pub host_syscalls: u64,
    pub killed_after: u64,
    pub compared: u64,
    pub differences: Vec<String>,
}

impl Outcome {
    pub fn is_good(&self) -> bool {
        self.differences.is_empty() && self.first.verified && self.second.verified
    }

    pub fn host_cpu_per_gib(&self) -> f64 {
        per_gib(self.host_cpu, self.first.bytes)
    }

    pub fn get_cpu_per_gib(&self) -> f64 {
        per_gib(self.get_cpu, self.first.bytes)
    }
}

fn per_gib(seconds: f64, bytes: u64) -> f64 {
    if bytes == 0 { 0.0 } else { seconds * (1u64 << 30) as f64 / bytes as f64 }
}

/// Runs all steps.
pub fn demo(args: &DemoArgs) -> Result<Outcome> {
    let scratch = match &args.scratch {
        Some(dir) => tempfile::Builder::new().prefix("warpline-demo-").tempdir_in(dir)?,
        None => tempfile::Builder::new().prefix("warpline-demo-").tempdir()?,
    };
    let scratch = Scratch(scratch);
    let tree = match &args.dir {
        Some(dir) => dir.clone(),
        None => {
            eprintln!("making a tree of {} MiB and {} small files", args.size, args.files);
            let tree = scratch.path().join("tree");
            tree::make(&tree, args.size, args.files)?;
            tree
        }
    };
    let mut outcome = Outcome::default();
    let mut host = Host::start(&tree, scratch.path())?;

    eprintln!("fetching it through the loopback, in two processes");
    let copy = scratch.path().join("copy");
    let (host_before, get_before) = (cpu_of(host.child.id())?, cpu_of_children()?);
    outcome.first = fetch(&host.code_file, &copy)?;
    outcome.host_cpu = cpu_of(host.child.id())? - host_before;
    outcome.get_cpu = cpu_of_children()? - get_before;
    check(&mut outcome, &tree, &copy)?;

    eprintln!("fetching it again, and killing that half-way");
    let again = scratch.path().join("again");
    outcome.killed_after = fetch_and_kill(&host.code_file, &again, outcome.first.bytes / 2)?;
    eprintln!("going on where it stopped");
    outcome.second = fetch(&host.code_file, &again)?;
    check(&mut outcome, &tree, &again)?;

    outcome.host_syscalls = host.stop()?;
    Ok(outcome)
}

fn check(outcome: &mut Outcome, tree: &Path, copy: &Path) -> Result<()> {
    eprintln!("comparing every byte and attribute");
    let comparison = compare::compare(tree, copy)?;
    outcome.compared = comparison.entries;
    outcome.differences.extend(comparison.differences);
    Ok(())
}

/// The directory for everything, removed with it even where modes stand against it.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        open_up(self.path());
    }
}

/// Read-only directories would keep what is in them.
fn open_up(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    // What cannot be changed is found by the removal that follows.
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// The host in its own process.
struct Host {
    child: Child,
    stdout: BufReader<ChildStdout>,
    code_file: PathBuf,
}

impl Host {
    fn start(tree: &Path, scratch: &Path) -> Result<Self> {
        let code_file = scratch.join("code");
        let mut child = Command::new(std::env::current_exe()?)
            .arg("host")
            .arg(tree)
            .args(["--bind", "127.0.0.1:0", "--json", "--code-file"])
            .arg(&code_file)
            .arg("--state-dir")
            .arg(scratch.join("state"))
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the host has no output")?;
        let mut stdout = BufReader::new(stdout);
        let mut ready = String::new();
        stdout.read_line(&mut ready)?;
        if !ready.contains("\"ready\":true") {
            let status = child.wait()?;
            return Err(format!("the host did not start ({status})").into());
        }
        Ok(Self { child, stdout, code_file })
    }

    /// Stops it; returns the system calls it made for packets.
    fn stop(&mut self) -> Result<u64> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let mut last = String::new();
        self.stdout.read_line(&mut last)?;
        self.child.wait()?;
        let end: serde_json::Value = serde_json::from_str(&last)?;
        Ok(end["syscalls"].as_u64().unwrap_or(0))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Gone already when all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn getting(code_file: &Path, target: &Path) -> Result<Child> {
    Ok(Command::new(std::env::current_exe()?)
        .args(["get", "--json", "--code-file"])
        .arg(code_file)
        .arg("--output")
        .arg(target)
        .stdout(Stdio::piped())
        .spawn()?)
}

fn fetch(code_file: &Path, target: &Path) -> Result<Fetched> {
    let output = getting(code_file, target)?.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("get failed ({}): {}", output.status, String::from_utf8_lossy(&output.stdout)).into());
    }
    let json: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let number = |name: &str| json[name].as_u64().unwrap_or(0);
    Ok(Fetched {
        bytes: number("bytes"),
        files: number("files"),
        seconds: json["seconds"].as_f64().unwrap_or(0.0),
        goodput_bps: json["goodput_bps"].as_f64().unwrap_or(0.0),
        reused_bytes: number("reused_bytes"),
        received_bytes: number("received_bytes"),
        packets_lost: number("packets_lost"),
        syscalls: number("syscalls"),
        verified: json["verified"].as_bool().unwrap_or(false),
    })
}

/// Kills the receiver with SIGKILL once about `bytes` are on disk; returns how many were.
fn fetch_and_kill(code_file: &Path, target: &Path, bytes: u64) -> Result<u64> {
    let mut child = getting(code_file, target)?;
    loop {
        let there = on_disk(target);
        if there >= bytes {
            child.kill()?;
            child.wait()?;
            return Ok(there);
        }
        if let Some(status) = child.try_wait()? {
            // Too fast for the watch: still a transfer, but nothing was interrupted.
            return Err(format!("the transfer ended before it could be interrupted ({status})").into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Bytes of data that files below `dir` have on disk.
fn on_disk(dir: &Path) -> u64 {
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

/// CPU seconds of a running process.
fn cpu_of(pid: u32) -> Result<f64> {
    cpu_fields(&format!("/proc/{pid}/stat"), 11)
}

/// CPU seconds of the children that have ended.
fn cpu_of_children() -> Result<f64> {
    cpu_fields("/proc/self/stat", 13)
}

/// The sum of two neighbouring fields of a stat file, counted behind the name, in seconds.
fn cpu_fields(path: &str, first: usize) -> Result<f64> {
    let text = fs::read_to_string(path)?;
    let behind = text.rsplit_once(')').ok_or("a stat file without a name")?.1;
    let ticks: u64 = behind.split_whitespace().skip(first).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}
