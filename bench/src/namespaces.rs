//! Two network namespaces with a virtual link between them.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Result;
use crate::process::Process;
use crate::reception;

/// Where servers listen, which are in the first namespace.
pub const SERVER: &str = "10.79.0.1:4433";

/// Two namespaces with a veth pair (`wl0`, `wl1`), removed at the end.
pub struct Pair {
    names: [String; 2],
}

impl Pair {
    /// Makes them; needs root.
    pub fn new() -> Result<Self> {
        let pair = Self { names: ["a", "b"].map(|end| format!("wlv-{}-{end}", std::process::id())) };
        let [a, b] = &pair.names;
        run("ip", &format!("netns add {a}"))?;
        run("ip", &format!("netns add {b}"))?;
        run("ip", &format!("-n {a} link add wl0 type veth peer name wl1 netns {b}"))?;
        for (index, name) in pair.names.iter().enumerate() {
            run("ip", &format!("-n {name} addr add 10.79.0.{}/24 dev wl{index}", index + 1))?;
            run("ip", &format!("-n {name} link set wl{index} up"))?;
        }
        Ok(pair)
    }

    /// Lets no more than `mbits` Mbit/s pass either way, with a queue of `queue_ms` milliseconds.
    pub fn shape(&self, mbits: u64, queue_ms: u64) -> Result<()> {
        // What may pass at once: what the rate carries in a millisecond, and a whole train of segments.
        let burst = (mbits * 1_000 / 8).max(128 << 10);
        for (index, name) in self.names.iter().enumerate() {
            let shaper = format!("rate {mbits}mbit burst {burst} latency {queue_ms}ms");
            run("tc", &format!("-n {name} qdisc replace dev wl{index} root tbf {shaper}"))?;
        }
        Ok(())
    }

    /// Lets the core `cores[end]` receive what comes for each end, and not the core that sends it.
    pub fn receive_on(&self, cores: [usize; 2]) -> Result<()> {
        for (end, (name, core)) in self.names.iter().zip(cores).enumerate() {
            let before = reception::threads()?;
            // With GRO the link has a queue of its own, with a thread.
            run("ip", &format!("netns exec {name} ethtool -K wl{end} gro on"))?;
            // `ip netns exec` shows the namespace's own part of /sys.
            let set = |value: String, file: &str| {
                let script = format!("echo {value} > /sys/class/net/wl{end}/{file}");
                checked(Command::new("ip").args(["netns", "exec", name, "sh", "-c", &script]))
            };
            set(format!("{:x}", 1u64 << core), "queues/rx-0/rps_cpus")?;
            set("1".to_owned(), "threaded")?;
            let threads = reception::threads()?;
            let mut new = threads.difference(&before).peekable();
            new.peek().ok_or("no thread receives for the link")?;
            for &thread in new {
                reception::pin(thread, core)?;
            }
        }
        Ok(())
    }

    /// Runs code on a thread in namespace `end` (0 or 1): sockets that are made there stay there.
    pub fn inside<T: Send>(&self, end: usize, code: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = File::open(format!("/run/netns/{}", self.names[end]))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                code()
            });
            thread.join().unwrap_or_else(|_| Err("a panic".into()))
        })
    }

    /// Starts `program` in namespace `end` (0 or 1) on `core`.
    pub fn start(&self, end: usize, program: &Path, args: Vec<String>, core: usize) -> Result<Process> {
        let mut line = vec!["netns".to_owned(), "exec".to_owned(), self.names[end].clone()];
        line.push(program.display().to_string());
        line.extend(args);
        Process::start("ip".as_ref(), &line, core)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in &self.names {
            // It may not have been made.
            let _ = run("ip", &format!("netns del {name}"));
        }
    }
}

fn run(program: &str, words: &str) -> Result<()> {
    checked(Command::new(program).args(words.split(' ')))
}

fn checked(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
