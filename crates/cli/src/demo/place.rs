//! Where the two processes of the demo meet: the loopback, or two network namespaces joined by a pair of virtual interfaces.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Packets of this length cross virtual interfaces, as in a data centre.
const MTU: &str = "9000";
const HOST_ADDRESS: &str = "10.77.0.1";
const GET_ADDRESS: &str = "10.77.0.2";
/// The interface in either namespace.
const INTERFACE: &str = "wl0";

/// Where the processes run.
#[derive(Debug)]
pub enum Place {
    /// Both beside this process.
    Loopback,
    /// Each in a namespace of its own, which goes with this value.
    Namespaces(Namespaces),
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Host,
    Get,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Get => "get",
        }
    }
}

impl Place {
    /// The loopback, or new namespaces, which only root can make.
    pub fn new(namespaces: bool) -> Result<Self> {
        Ok(if namespaces { Self::Namespaces(Namespaces::new()?) } else { Self::Loopback })
    }

    /// This program, to be run where `side` is.
    pub fn command(&self, side: Side) -> Result<Command> {
        let program = std::env::current_exe()?;
        Ok(match self {
            Self::Loopback => Command::new(program),
            Self::Namespaces(namespaces) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &namespaces.name(side)]).arg(program);
                command
            }
        })
    }

    /// What the host binds.
    pub fn bind(&self) -> String {
        let address = match self {
            Self::Loopback => "127.0.0.1",
            Self::Namespaces(_) => HOST_ADDRESS,
        };
        format!("{address}:0")
    }

    /// Bytes that have come to the receiver's interface, with all headers; on the loopback they cannot be told from others'.
    pub fn received_on_wire(&self) -> Result<Option<u64>> {
        let Self::Namespaces(namespaces) = self else { return Ok(None) };
        let file = Path::new("/sys/class/net").join(INTERFACE).join("statistics/rx_bytes");
        let output = Command::new("ip")
            .args(["netns", "exec", &namespaces.name(Side::Get), "cat"])
            .arg(file)
            .stderr(Stdio::inherit())
            .output()?;
        Ok(Some(String::from_utf8(output.stdout)?.trim().parse()?))
    }
}

/// Two network namespaces.
#[derive(Debug)]
pub struct Namespaces {
    prefix: String,
}

impl Namespaces {
    fn new() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can make network namespaces".into());
        }
        let id = std::process::id();
        let made = Self { prefix: format!("warpline-demo-{id}") };
        for side in [Side::Host, Side::Get] {
            ip(&["netns", "add", &made.name(side)])?;
        }
        let (host, get) = (made.name(Side::Host), made.name(Side::Get));
        ip(&[
            "link", "add", INTERFACE, "mtu", MTU, "netns", &host, "type", "veth", "peer", "name", INTERFACE, "mtu",
            MTU, "netns", &get,
        ])?;
        for (name, address) in [(&host, HOST_ADDRESS), (&get, GET_ADDRESS)] {
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", INTERFACE])?;
            ip(&["-n", name, "link", "set", INTERFACE, "up"])?;
        }
        Ok(made)
    }

    fn name(&self, side: Side) -> String {
        format!("{}-{}", self.prefix, side.name())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for side in [Side::Host, Side::Get] {
            // One that was never made cannot be removed; the interfaces go with the namespaces.
            let exists = fs::exists(Path::new("/run/netns").join(self.name(side))).unwrap_or(false);
            if exists && let Err(error) = ip(&["netns", "delete", &self.name(side)]) {
                eprintln!("warpline demo: {error}");
            }
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().map_err(|e| format!("`ip` (package iproute2): {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`ip {}`: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()).into())
}
