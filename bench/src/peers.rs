//! The stacks that are compared, and how their programs are built.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use warpline_peer_kit::Scenario;

use crate::Result;

/// Name of the reference without QUIC.
pub const TCP: &str = "tcp";

/// A row's competitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Name on the command line and in the results.
    pub name: &'static str,
    /// Package of this workspace that has its program.
    package: &'static str,
    /// Name of the program.
    program: &'static str,
    /// Arguments before the role.
    prefix: &'static [&'static str],
    /// The back end to ask for, for Warpline.
    backend: Option<&'static str>,
    /// Package in the lock file whose version is the stack's.
    pub locked: &'static str,
    /// Scenarios that the stack has nothing for.
    lacks: &'static [Scenario],
    /// Largest UDP payload in bytes that it can send.
    payload_max: u16,
    /// Whether its program has a BBR.
    pub has_bbr: bool,
}

const fn warpline(name: &'static str, backend: &'static str) -> Peer {
    Peer {
        name,
        package: "warpline-cli",
        program: "warpline",
        prefix: &["perf"],
        backend: Some(backend),
        locked: "warpline",
        lacks: &[],
        payload_max: u16::MAX,
        has_bbr: true,
    }
}

const fn other(name: &'static str, package: &'static str, locked: &'static str) -> Peer {
    let (lacks, payload_max) = (&[], u16::MAX);
    Peer { name, package, program: package, prefix: &[], backend: None, locked, lacks, payload_max, has_bbr: false }
}

/// What the reference has nothing for: TCP has no datagrams, its 0-RTT is another thing, and a blocking thread for each
/// connection says nothing about the memory of idle ones.
const TCP_LACKS: &[Scenario] = &[Scenario::Datagram, Scenario::DatagramEcho, Scenario::ZeroRtt, Scenario::Idle];

/// msquic is built for paths of 1,500 bytes (`CXPLAT_MAX_MTU`), IPv4 and UDP headers included.
const MSQUIC_PAYLOAD_MAX: u16 = 1_472;

/// Every peer, in the order of the table.
pub const PEERS: &[Peer] = &[
    warpline("warpline-udp", "udp"),
    warpline("warpline-uring", "uring"),
    warpline("warpline-xdp", "xdp"),
    Peer { has_bbr: true, ..other("quinn", "warpline-peer-quinn", "quinn") },
    Peer { has_bbr: true, ..other("noq", "warpline-peer-noq", "noq") },
    Peer { lacks: &[Scenario::ZeroRtt], ..other("s2n-quic", "warpline-peer-s2n-quic", "s2n-quic") },
    Peer { has_bbr: true, ..other("quiche", "warpline-peer-quiche", "quiche") },
    Peer { lacks: &[Scenario::Datagram, Scenario::DatagramEcho], ..other("tquic", "warpline-peer-tquic", "tquic") },
    Peer { has_bbr: true, payload_max: MSQUIC_PAYLOAD_MAX, ..other("msquic", "warpline-peer-msquic", "msquic") },
    Peer { lacks: TCP_LACKS, ..other(TCP, "warpline-peer-tcp", "rustls") },
];

/// Whether `name` is one of ours.
pub fn is_ours(name: &str) -> bool {
    name.starts_with("warpline-")
}

/// The peers called `names`, in the table's order; all of them if `names` is empty.
pub fn select(names: &[String]) -> Result<Vec<Peer>, String> {
    let known = |name: &String| PEERS.iter().any(|peer| peer.name == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let all: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
        return Err(format!("no peer {unknown}; there are {}", all.join(", ")));
    }
    Ok(PEERS.iter().filter(|peer| names.is_empty() || names.iter().any(|name| name == peer.name)).copied().collect())
}

/// Whether a peer can be started.
#[derive(Debug)]
pub enum Availability {
    /// As this program with these first arguments, then the role.
    Ready(Program),
    /// It is not in this build.
    Absent(String),
    /// It should be there and is not.
    Failed(String),
}

/// How to start a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
    prefix: &'static [&'static str],
    backend: Option<&'static str>,
}

impl Program {
    /// The executable.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The arguments that start `role`, with the role's own `args` behind them.
    pub fn args(&self, role: &str, args: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut all: Vec<String> = self.prefix.iter().map(|&arg| arg.to_owned()).collect();
        all.push(role.to_owned());
        all.extend(args);
        if let Some(backend) = self.backend {
            all.extend(["--io".to_owned(), backend.to_owned()]);
        }
        all
    }
}

impl Peer {
    /// Whether the stack has what `scenario` is about.
    pub fn has(&self, scenario: Scenario) -> bool {
        !self.lacks.contains(&scenario)
    }

    /// Whether it can send packets of `payload` bytes.
    pub fn fits(&self, payload: u16) -> bool {
        payload <= self.payload_max
    }

    /// Whether the impairment proxy, which passes on datagrams, can stand between its client and server.
    pub fn goes_through_a_proxy(&self) -> bool {
        self.name != TCP
    }

    /// Builds the peer's program and looks whether it is what was asked for.
    pub fn prepare(&self, workspace: &Workspace) -> Availability {
        if let Err(error) = workspace.build(self.package) {
            return Availability::Failed(error.to_string());
        }
        let path = workspace.release_dir.join(self.program);
        let program = Program { path, prefix: self.prefix, backend: self.backend };
        if self.backend == Some("xdp") {
            let why = "AF_XDP wants an interface of its own, and this comparison runs on the loopback; docs/af-xdp.md has another";
            return Availability::Absent(why.to_owned());
        }
        Availability::Ready(program)
    }
}

/// The workspace that the programs are built from.
#[derive(Debug)]
pub struct Workspace {
    /// Its root.
    pub root: PathBuf,
    release_dir: PathBuf,
}

impl Workspace {
    /// Finds the workspace that this package belongs to.
    pub fn find() -> Result<Self> {
        let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let output =
            cargo().current_dir(manifest_dir).args(["metadata", "--no-deps", "--format-version=1"]).output()?;
        if !output.status.success() {
            return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
        }
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let path = |key: &str| metadata[key].as_str().map(PathBuf::from).ok_or(format!("cargo metadata without {key}"));
        Ok(Self { root: path("workspace_root")?, release_dir: path("target_directory")?.join("release") })
    }

    /// The `warpline` command as its users build it, built.
    pub fn warpline(&self) -> Result<PathBuf> {
        self.build("warpline-cli")?;
        Ok(self.release_dir.join("warpline"))
    }

    /// The program that stands between client and server as a bad network.
    pub fn impairment_proxy(&self) -> Result<PathBuf> {
        self.build("warpline-interop")?;
        Ok(self.release_dir.join("warpline-interop"))
    }

    /// Builds a package in release mode; does nothing if it is up to date.
    fn build(&self, package: &str) -> Result<()> {
        eprintln!("building {package}");
        let output = cargo()
            .current_dir(&self.root)
            .args(["build", "--release", "--quiet", "--package", package])
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let error = text.lines().find(|line| line.starts_with("error")).unwrap_or("cargo build failed");
        eprintln!("{text}");
        Err(format!("cannot build {package}: {error}").into())
    }
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_by_name() {
        assert_eq!(select(&[]).unwrap().len(), PEERS.len());
        assert_eq!(select(&["quinn".to_owned()]).unwrap()[0].locked, "quinn");
        assert!(select(&["qinn".to_owned()]).unwrap_err().contains("quinn"));
        assert!(is_ours("warpline-udp") && !is_ours("quinn"));
    }

    #[test]
    fn the_reference_is_left_out_where_it_has_nothing() {
        let tcp = select(&[TCP.to_owned()]).unwrap()[0];
        assert!(tcp.has(Scenario::Download) && !tcp.has(Scenario::Datagram) && !tcp.goes_through_a_proxy());
        assert!(PEERS[0].has(Scenario::Datagram));
    }

    #[test]
    fn packets_that_a_stack_cannot_send_are_left_out() {
        let msquic = select(&["msquic".to_owned()]).unwrap()[0];
        assert!(msquic.fits(1_452) && !msquic.fits(8_972));
        assert!(PEERS[0].fits(8_972));
    }

    #[test]
    fn arguments_in_order() {
        let program = Program { path: "warpline".into(), prefix: &["perf"], backend: Some("udp") };
        let args = program.args("server", ["--bind".to_owned(), "x".to_owned()]);
        assert_eq!(args, ["perf", "server", "--bind", "x", "--io", "udp"]);
    }
}
