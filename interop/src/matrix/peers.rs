//! The stacks, how their programs are started, and what they lack.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::cases::Case;
use crate::aioquic::Python;

/// Which program of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// Something that a stack cannot do, and how that is known.
#[derive(Debug)]
struct Lack {
    case: &'static str,
    /// In which role; none for both.
    role: Option<Role>,
    why: &'static str,
}

/// A stack.
#[derive(Debug)]
pub struct Stack {
    /// Its name on the command line and in the table.
    pub name: &'static str,
    /// The package in the lock file whose version is the stack's; none for aioquic.
    locked: Option<&'static str>,
    lacks: &'static [Lack],
}

const fn both(case: &'static str, why: &'static str) -> Lack {
    Lack { case, role: None, why }
}

const fn server(case: &'static str, why: &'static str) -> Lack {
    Lack { case, role: Some(Role::Server), why }
}

const fn client(case: &'static str, why: &'static str) -> Lack {
    Lack { case, role: Some(Role::Client), why }
}

const QUINN_LACKS: &[Lack] = &[
    both("v2", "crypto/rustls.rs, interpret_version(): version 1 and drafts only"),
    client("versionnegotiation", "Connection::handle_decode: a Version Negotiation packet ends the connection"),
    client("connectionmigration", "the client reads preferred_address only for its connection ID and never goes there"),
];

/// noq is quinn as it was, and more; HTTP/3 is not part of either.
const NOQ_LACKS: &[Lack] = &[
    both("http3", "there is no HTTP/3 for it; quinn's is a crate of other people"),
    both("v2", "crypto/rustls.rs, interpret_version(): version 1 and drafts only"),
    client("versionnegotiation", "Connection::handle_decode: a Version Negotiation packet ends the connection"),
    client("connectionmigration", "the client reads preferred_address only for its connection ID and never goes there"),
];

const S2N_LACKS: &[Lack] = &[
    both("zerortt", "no early data in either role"),
    both("http3", "its HTTP/3 is a crate in the repository that is not published"),
    client("keyupdate", "keys are updated only when they wear out; a server follows"),
    both("v2", "version 1 only"),
    both("connectionmigration", "the server never sends preferred_address, the client never follows it"),
    client("activemigration", "the client has one socket, and nothing to change it"),
    client("versionnegotiation", "the client sends version 1 only and ignores Version Negotiation"),
];

const QUICHE_LACKS: &[Lack] = &[
    client("keyupdate", "keys are only updated after the peer's; there is no call for it"),
    both("ecn", "quiche neither asks for marks nor counts them: ecn_counts is always none"),
    both("v2", "version 1 only"),
    both("connectionmigration", "transport_params.rs: preferred_address is neither written nor read"),
];

const TQUIC_LACKS: &[Lack] = &[
    client("keyupdate", "keys are only updated after the peer's; the call for it is private"),
    both("ecn", "connection.rs: \"ECN not supported\""),
    both("v2", "version 1 only"),
    both("connectionmigration", "the server has no setting for preferred_address, the client never follows it"),
    both(
        "activemigration",
        "Connection::migrate_path: \"TODO: support migration\"; the server stays with the first path",
    ),
    server(
        "rebind-port",
        "connection.rs: \"TODO: try to do connection migration\"; the server stays with the first path",
    ),
    server(
        "rebind-addr",
        "connection.rs: \"TODO: try to do connection migration\"; the server stays with the first path",
    ),
    client("versionnegotiation", "the client begins with version 1 only"),
];

const AIOQUIC_LACKS: &[Lack] = &[
    client("activemigration", "the asyncio client has one socket, and nothing to change it"),
    server("connectionmigration", "quic/connection.py: the server never sends preferred_address"),
    both("ecn", "asyncio datagram endpoints neither set nor read the codepoint"),
];

/// Our own.
pub const OURS: Stack = Stack { name: "warpline", locked: Some("warpline"), lacks: &[] };

/// The others, in the order of the table.
pub const STACKS: &[Stack] = &[
    Stack { name: "quinn", locked: Some("quinn"), lacks: QUINN_LACKS },
    Stack { name: "noq", locked: Some("noq"), lacks: NOQ_LACKS },
    Stack { name: "aioquic", locked: None, lacks: AIOQUIC_LACKS },
    Stack { name: "quiche", locked: Some("quiche"), lacks: QUICHE_LACKS },
    Stack { name: "s2n-quic", locked: Some("s2n-quic"), lacks: S2N_LACKS },
    Stack { name: "tquic", locked: Some("tquic"), lacks: TQUIC_LACKS },
];

/// The stacks called `names`, of which one may be ours; all others if `names` is empty.
///
/// # Errors
///
/// Names the one that there is not.
pub fn select(names: &[String]) -> io::Result<Vec<&'static Stack>> {
    let known = |name: &String| STACKS.iter().chain([&OURS]).any(|stack| stack.name == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let all: Vec<_> = STACKS.iter().map(|stack| stack.name).collect();
        return Err(io::Error::other(format!("no peer {unknown}; there are {}", all.join(", "))));
    }
    let is_named = |stack: &&Stack| names.iter().any(|name| name == stack.name);
    // We are our own peer only if that is asked for.
    Ok(STACKS
        .iter()
        .filter(|stack| names.is_empty() || is_named(stack))
        .chain([&OURS].into_iter().filter(is_named))
        .collect())
}

impl Stack {
    /// Why it cannot take part in `case` in this role; none if it can.
    pub fn lacks(&self, case: &Case, role: Role) -> Option<&'static str> {
        let lack = |lack: &&Lack| lack.case == case.name && lack.role.is_none_or(|its| its == role);
        self.lacks.iter().find(lack).map(|lack| lack.why)
    }

    /// The version in use: of the lock file, or of the list that aioquic's environment is made from.
    pub fn version(&self) -> String {
        let interop = Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        let version = match self.locked {
            Some(package) => locked_version(&read(interop.join("../Cargo.lock")), package),
            None => read(interop.join("aioquic/requirements.txt")).trim().split_once("==").map(|(_, v)| v.to_owned()),
        };
        version.unwrap_or_else(|| "unknown".into())
    }

    /// Builds the stack's program, in the same profile as this one, and says how to start it.
    ///
    /// # Errors
    ///
    /// When it cannot be built.
    pub fn program(&self) -> io::Result<Program> {
        if self.name == OURS.name {
            return Ok(Program::ours(std::env::current_exe()?));
        }
        if self.locked.is_none() {
            let python = Python::find()?;
            return Ok(Program {
                path: python.interpreter().into(),
                prefix: vec![python.script("endpoint.py")],
                xdp: false,
            });
        }
        let package = format!("warpline-interop-{}", self.name);
        build(&package)?;
        let own = std::env::current_exe()?;
        let directory = own.parent().ok_or_else(|| io::Error::other("this program lies nowhere"))?;
        Ok(Program { path: directory.join(package), prefix: Vec::new(), xdp: false })
    }
}

/// How to start a stack's program.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    prefix: Vec<PathBuf>,
    xdp: bool,
}

impl Program {
    /// Our own, this one or one that was built beside.
    pub fn ours(path: PathBuf) -> Self {
        Self { path, prefix: Vec::new(), xdp: false }
    }

    /// With AF_XDP; our own program only.
    #[must_use]
    pub fn with_xdp(self, xdp: bool) -> Self {
        Self { xdp, ..self }
    }

    /// Whether its packets go past the kernel's network stack.
    pub fn is_xdp(&self) -> bool {
        self.xdp
    }

    /// The command, to which role and options are added.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.prefix);
        command
    }
}

fn build(package: &str) -> io::Result<()> {
    eprintln!("building {package}");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", package]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    if command.stdin(Stdio::null()).status()?.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{package} cannot be built")))
}

fn locked_version(lock: &str, package: &str) -> Option<String> {
    let lock: toml::Table = lock.parse().ok()?;
    let packages = lock.get("package")?.as_array()?;
    let is = |entry: &&toml::Value| entry.get("name").and_then(toml::Value::as_str) == Some(package);
    Some(packages.iter().find(is)?.get("version")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::cases::CASES;
    use super::*;

    #[test]
    fn every_lack_is_of_a_case_that_there_is() {
        for stack in STACKS.iter().chain([&OURS]) {
            for lack in stack.lacks {
                assert!(CASES.iter().any(|case| case.name == lack.case), "{}: {}", stack.name, lack.case);
            }
        }
    }

    #[test]
    fn a_lack_of_one_role_leaves_the_other() {
        let case = CASES.iter().find(|case| case.name == "versionnegotiation").unwrap();
        let quinn = select(&["quinn".to_owned()]).unwrap()[0];
        assert!(quinn.lacks(case, Role::Client).is_some());
        assert!(quinn.lacks(case, Role::Server).is_none());
        assert!(select(&["qinn".to_owned()]).unwrap_err().to_string().contains("noq"));
    }

    #[test]
    fn versions_come_from_the_lock_file() {
        assert!(STACKS.iter().chain([&OURS]).all(|stack| stack.version() != "unknown"));
    }
}
