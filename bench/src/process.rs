//! Child processes: started on one core, watched through `/proc`, ended by closing their input.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Result;

/// How long a child may take to end by itself once its input is closed.
const GRACE: Duration = Duration::from_secs(5);
/// Most of a child's complaints that is kept.
const STDERR_MAX: u64 = 16 << 10;

/// A running child with its lines of output.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    complaints: Receiver<String>,
}

impl Process {
    /// Starts `program` with all its threads on `core`.
    pub fn start(program: &Path, args: &[String], core: usize) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A child inherits the affinity of the thread that starts it, so a thread pins itself and starts it: this
        // way no instruction of the child runs elsewhere.
        let started = thread::spawn(move || -> io::Result<Child> {
            let mut set = CpuSet::new();
            set.set(core);
            sched_setaffinity(None, &set)?;
            command.spawn()
        });
        let mut child = started
            .join()
            .map_err(|_| "the starting thread panicked")?
            .map_err(|error| format!("cannot start {} on core {core}: {error}", program.display()))?;
        let stdout = child.stdout.take().ok_or("a child without output")?;
        let stderr = child.stderr.take().ok_or("a child without error output")?;
        let (line, lines) = channel();
        thread::spawn(move || {
            for text in BufReader::new(stdout).lines().map_while(io::Result::ok) {
                if line.send(text).is_err() {
                    break;
                }
            }
        });
        let (complaint, complaints) = channel();
        thread::spawn(move || {
            let (mut text, mut stderr) = (Vec::new(), stderr);
            // Past the limit the pipe is still emptied, so that the child never blocks on it.
            let _ = stderr.by_ref().take(STDERR_MAX).read_to_end(&mut text);
            let _ = io::copy(&mut stderr, &mut io::sink());
            let _ = complaint.send(String::from_utf8_lossy(&text).into_owned());
        });
        Ok(Self { child, lines, complaints })
    }

    /// The process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of output within `limit`.
    pub fn line(&mut self, limit: Duration) -> Result<String> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => Err(format!("no answer within {} s", limit.as_secs()).into()),
            Err(RecvTimeoutError::Disconnected) => Err(self.why_ended().into()),
        }
    }

    /// Closes the child's input and waits for it to end; kills it if it does not.
    pub fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + GRACE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                return Err("did not end when its input closed".into()); // and Drop kills it
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Closes the child's input, waits for it to end, and gives the last line of its error output.
    pub fn last_words(mut self) -> Result<String> {
        drop(self.child.stdin.take());
        let text = self.complaints.recv_timeout(GRACE).map_err(|_| "did not end when its input closed")?;
        Ok(text.lines().last().unwrap_or_default().to_owned())
    }

    fn why_ended(&mut self) -> String {
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let complaints = self.complaints.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        let lines: Vec<&str> = complaints.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.iter().rev().take(3).rev().copied().collect::<Vec<_>>().join(" / ");
        if last.is_empty() { status } else { format!("{status}: {last}") }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// CPU time that a process has used so far, user and system and with threads that have ended, in seconds; to a tick, 10 ms.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_cpu_ticks(&stat)
        .map(|ticks| ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
        .ok_or_else(|| format!("unexpected /proc/{pid}/stat").into())
}

fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    // The command's name may hold spaces and brackets; fields 14 and 15 are counted after its last bracket (proc(5)).
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident memory of a process in KiB.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_resident(&status).ok_or_else(|| format!("unexpected /proc/{pid}/status").into())
}

fn parse_resident(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_proc_files() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 100 0 0 0 120 34 0 0 20 0 1 0 1 2 3";
        assert_eq!(parse_cpu_ticks(stat), Some(154));
        assert_eq!(parse_cpu_ticks("7 (a"), None);
        assert_eq!(parse_resident("Name:\tx\nVmRSS:\t   5120 kB\n"), Some(5_120));
        assert_eq!(parse_resident("Name:\tx\n"), None);
        assert!(cpu_seconds(std::process::id()).is_ok() && resident_kib(std::process::id()).is_ok());
    }

    #[test]
    fn a_child_speaks_and_ends_with_its_input() {
        let args = ["-c", "echo ready; cat"].map(str::to_owned);
        let mut child = Process::start(Path::new("/bin/sh"), &args, 0).unwrap();
        assert_eq!(child.line(Duration::from_secs(20)).unwrap(), "ready");
        child.stop().unwrap();
    }

    #[test]
    fn a_child_that_dies_says_why() {
        let args = ["-c", "echo no such thing >&2; exit 3"].map(str::to_owned);
        let mut child = Process::start(Path::new("/bin/sh"), &args, 0).unwrap();
        let error = child.line(Duration::from_secs(20)).unwrap_err().to_string();
        assert!(error.contains("no such thing") && error.contains('3'), "{error}");
    }
}
