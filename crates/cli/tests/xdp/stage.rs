//! Namespaces, and the command in them.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::netns::Pair;

/// The server's end of the pair.
pub const SERVER: usize = 0;
/// The client's end.
pub const CLIENT: usize = 1;

/// How the two ends move packets: server and client, at least one of them over AF_XDP.
pub const ENDS: [[Io; 2]; 3] = [[Io::Xdp, Io::Xdp], [Io::Xdp, Io::Udp], [Io::Udp, Io::Xdp]];

/// How an end moves packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Io {
    Udp,
    Xdp,
}

/// Two namespaces, and the ways between them.
pub struct Stage {
    pub net: Pair,
    /// The server's addresses, by way.
    pub ways: Vec<(&'static str, &'static str)>,
    home: tempfile::TempDir,
}

impl Stage {
    /// Says why and gives `None` if that is not possible here. Without VLANs in the kernel the others are there.
    pub fn new(story: &str) -> Option<Stage> {
        let mut stage = Stage::with_queues(story, 1)?;
        stage.add_vlan();
        Some(stage)
    }

    fn add_vlan(&mut self) {
        let Stage { net, ways, .. } = self;
        match net.try_ip(SERVER, "link add link wl0 name v5 type vlan id 5") {
            Ok(_) => {
                net.ip(CLIENT, "link add link wl1 name v5 type vlan id 5");
                for end in [SERVER, CLIENT] {
                    net.ip(end, &format!("addr add 10.78.5.{}/24 dev v5", end + 1));
                    net.ip(end, &format!("addr add fd78::{}/64 dev v5 nodad", end + 1));
                    net.ip(end, "link set v5 up");
                }
                ways.extend([("VLAN, IPv4", "10.78.5.1"), ("VLAN, IPv6", "[fd78::1]")]);
            }
            Err(reason) => println!("VLAN interfaces skipped: this kernel has none: {reason}"),
        }
    }

    /// As [`new`](Self::new), with interfaces of so many queues and without a VLAN.
    pub fn with_queues(story: &str, queues: u32) -> Option<Stage> {
        let net = Pair::with_queues(story, queues)?;
        let ways = vec![("IPv4", "10.77.0.1"), ("IPv6", "[fd77::1]")];
        Some(Stage { net, ways, home: tempfile::tempdir().unwrap() })
    }

    /// The command at one end, without the settings of whoever runs the test.
    pub fn warpline(&self, end: usize, io: Io) -> Command {
        let mut command = self.inside(end, env!("CARGO_BIN_EXE_warpline"));
        command.env("HOME", self.home.path()).env_remove("XDG_CONFIG_HOME");
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WARPLINE_")) {
            command.env_remove(variable);
        }
        // A variable rather than a flag: that the environment is heard is part of the story.
        match io {
            Io::Udp => command.env("WARPLINE_IO", "udp"),
            Io::Xdp => command.env("WARPLINE_IO", "xdp").env("WARPLINE_INTERFACE", self.net.interface(end)),
        };
        command
    }

    /// A program at one end.
    pub fn inside(&self, end: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.net.name(end), program]).stdin(Stdio::null());
        command
    }
}

/// A program that serves until its standard input is closed.
pub struct Server {
    child: Child,
    /// The line that it began with.
    pub ready: Value,
}

impl Server {
    pub fn start(command: &mut Command) -> Server {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut line, mut output) = (String::new(), BufReader::new(child.stdout.take().unwrap()));
        output.read_line(&mut line).unwrap();
        // Read on, or a server that says much would stop at a full pipe.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        let Ok(ready) = serde_json::from_str(&line) else {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("the server did not start: {line}{said}");
        };
        Server { child, ready }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Asks it to end, and gives what it said to people, of which the last line is JSON for `perf server`.
    pub fn end(mut self) -> String {
        drop(self.child.stdin.take());
        // A host does not look at its input; by now it listens to signals.
        let ended = (0..50).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            !self.is_running()
        });
        if !ended {
            let process = rustix::process::Pid::from_child(&self.child);
            rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        }
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {said}");
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error says that it ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that works until this is dropped.
pub struct Load(pub Child);

impl Load {
    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // An error says that it ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The JSON that a command printed last.
pub fn report(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_else(|e| panic!("{e}: {text} {said}"))
}

/// What the command says of its packets is what was asked for, and nothing went the kernel's way instead.
pub fn check_io(name: &Value, xdp: &Value, io: Io) {
    match io {
        Io::Udp => assert_eq!((name.as_str(), xdp), (Some("udp"), &Value::Null)),
        Io::Xdp => {
            assert_eq!((name.as_str(), &xdp[0]["mode"]), (Some("xdp"), &"copy".into()), "{xdp}");
            assert_eq!(xdp[0]["by_kernel"], serde_json::json!({ "received": 0, "sent": 0 }), "{xdp}");
        }
    }
}
