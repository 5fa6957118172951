//! Two network namespaces with a veth pair between them, removed at the end.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The namespaces, `10.77.0.1/24` and `fd77::1/64` in the first, `.2` and `::2` in the second.
pub struct Pair {
    names: [String; 2],
}

/// Runs `ip` and the like; the answer if it succeeded.
pub fn run(words: &str) -> Result<String, String> {
    let mut parts = words.split(' ');
    let output = Command::new(parts.next().unwrap_or_default()).args(parts).output();
    match output {
        Ok(Output { status, stdout, .. }) if status.success() => Ok(String::from_utf8_lossy(&stdout).into_owned()),
        Ok(output) => Err(format!("`{words}`: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("`{words}`: {error}")),
    }
}

impl Pair {
    /// Makes the namespaces; says why and gives `None` if that is not possible here.
    pub fn new(story: &str) -> Option<Pair> {
        Pair::with_queues(story, 1)
    }

    pub fn with_queues(story: &str, queues: u32) -> Option<Pair> {
        let names = ["a", "b"].map(|end| format!("wlx-{story}-{}-{end}", std::process::id()));
        let pair = Pair { names };
        match pair.make(queues) {
            Ok(()) => Some(pair),
            Err(reason) => {
                println!("skipped: no network namespaces here: {reason}");
                None
            }
        }
    }

    fn make(&self, queues: u32) -> Result<(), String> {
        let [a, b] = &self.names;
        run(&format!("ip netns add {a}"))?;
        run(&format!("ip netns add {b}"))?;
        for name in &self.names {
            run(&format!("ip -n {name} link set lo up"))?;
        }
        self.link(queues)
    }

    /// Makes the pair of interfaces with their addresses.
    fn link(&self, queues: u32) -> Result<(), String> {
        let [a, b] = &self.names;
        let size = format!("numrxqueues {queues} numtxqueues {queues}");
        run(&format!("ip -n {a} link add wl0 {size} type veth peer name wl1 {size} netns {b}"))?;
        for (end, name) in self.names.iter().enumerate() {
            let (interface, host) = (self.interface(end), end + 1);
            run(&format!("ip -n {name} addr add 10.77.0.{host}/24 dev {interface}"))?;
            run(&format!("ip -n {name} addr add fd77::{host}/64 dev {interface} nodad"))?;
            run(&format!("ip -n {name} link set {interface} up"))?;
        }
        Ok(())
    }

    /// Makes the interfaces anew, with so many queues, after one was deleted, and the other with it.
    pub fn link_again(&self, queues: u32) {
        self.link(queues).expect("as before");
    }

    pub fn interface(&self, end: usize) -> String {
        format!("wl{end}")
    }

    pub fn name(&self, end: usize) -> &str {
        &self.names[end]
    }

    /// Runs `ip` in a namespace.
    pub fn ip(&self, end: usize, words: &str) -> String {
        run(&format!("ip -n {} {words}", self.names[end])).expect("ip does as it is told")
    }

    /// Runs `ip` in a namespace, which may refuse.
    pub fn try_ip(&self, end: usize, words: &str) -> Result<String, String> {
        run(&format!("ip -n {} {words}", self.names[end]))
    }

    /// Runs a command in a namespace.
    pub fn exec(&self, end: usize, words: &str) -> Result<String, String> {
        run(&format!("ip netns exec {} {words}", self.names[end]))
    }

    /// Writes a file of an interface's in `/sys`, as the namespace sees it.
    pub fn write_sys(&self, end: usize, path: &str, value: &str) -> Result<(), String> {
        let script = format!("echo {value} > /sys/class/net/{}/{path}", self.interface(end));
        let output = Command::new("ip").args(["netns", "exec", &self.names[end], "sh", "-c", &script]).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Runs code on a thread inside a namespace: sockets made there stay there.
    pub fn inside<T: Send>(&self, end: usize, code: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.names[end])).expect("the namespace exists");
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter its namespaces");
                code()
            });
            thread.join().expect("the code does not panic")
        })
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in &self.names {
            // It may not have been made.
            let _ = run(&format!("ip netns del {name}"));
        }
    }
}
