//! One case between two programs.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cases::{Case, Evidence, Setup};
use super::net::{INTERFACE, MORE_ADDRESSES, Net, Place};
use super::peers::Program;
use crate::hq;
use crate::identity::Identity;
use crate::proxy::{Config, Proxy};
use crate::wire::{Capture, Trace};

/// How often a running client is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How much of what a program says on its standard error stream is shown.
const SAID_LEN_MAX: usize = 600;

/// Who plays which part.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The client's program.
    pub client: &'a Program,
    /// The server's program.
    pub server: &'a Program,
}

/// Runs `case` in an empty `directory` and says what showed that it worked, or what did not.
///
/// # Errors
///
/// The text says what was wrong: with a file, with a program, or with what crossed the network.
pub fn run(case: &Case, quick: bool, pair: Pair<'_>, directory: &Path) -> Result<String, String> {
    let stage = Stage::new(case, quick, pair, directory).map_err(|error| error.to_string())?;
    let played = stage.play(pair).map_err(|error| format!("{error}{}", stage.said()))?;
    stage.compare("out")?;
    if case.setup == Setup::TwoClients {
        stage.compare("out2")?;
    }
    let (datagrams, preferred) = (stage.capture.datagrams(), stage.preferred.datagrams());
    let log = std::fs::read_to_string(directory.join("keys.log")).unwrap_or_default();
    let evidence = Evidence {
        trace: &Trace::read(&datagrams, &log),
        preferred: &Trace::read(&preferred, &log),
        network: played.network,
        report: &played.report,
        files: stage.names.len(),
        bytes: stage.sizes.iter().sum(),
        took: played.took,
        client_addresses: datagrams.iter().map(|datagram| datagram.client).collect::<BTreeSet<_>>().len(),
    };
    let shown = (case.check)(&evidence)?;
    match stage.net {
        Some(_) => Ok(format!("{shown}; {}", played.past_kernel)),
        None => Ok(shown),
    }
}

/// Everything that is there before the programs start.
struct Stage<'a> {
    case: &'a Case,
    quick: bool,
    directory: &'a Path,
    identity: Identity,
    sizes: Vec<usize>,
    names: Vec<String>,
    capture: Capture,
    preferred: Capture,
    /// Where one of the programs uses AF_XDP; otherwise everything is on the loopback.
    net: Option<Net>,
}

struct Played {
    report: Value,
    /// Whose datagrams the kernel's network stack did not see; empty on the loopback.
    past_kernel: String,
    network: crate::proxy::Stats,
    took: Duration,
}

impl<'a> Stage<'a> {
    fn new(case: &'a Case, quick: bool, pair: Pair<'_>, directory: &'a Path) -> io::Result<Self> {
        for name in ["www", "out", "out2"] {
            std::fs::create_dir_all(directory.join(name))?;
        }
        let sizes = if quick { case.quick_files } else { case.files }.sizes();
        let names = hq::make_files(&directory.join("www"), &sizes)?;
        let (capture, preferred) = (Capture::default(), Capture::default());
        let clients = if case.setup == Setup::TwoClients { 2 } else { 1 };
        let is_xdp = pair.client.is_xdp() || pair.server.is_xdp();
        let net = is_xdp.then(|| Net::new(clients)).transpose()?;
        Ok(Self { case, quick, directory, identity: Identity::new()?, sizes, names, capture, preferred, net })
    }

    fn play(&self, pair: Pair<'_>) -> io::Result<Played> {
        // The proxies need the server's port, the server needs the preferred proxy's: the server's is chosen first.
        let mut network = self.addresses()?;
        let server = network.to;
        (self.case.network)(&mut network, self.quick);
        let second = Config { capture: Some(self.preferred.clone()), ..network.clone() };
        network.capture = Some(self.capture.clone());
        let preferred = (self.case.setup == Setup::Preferred).then(|| self.proxy(second)).transpose()?;
        let preferred_address = preferred.as_ref().map(Proxy::address);
        let _server = Running::server(self.server(pair.server, server, preferred_address)?)?;
        let proxy = self.proxy(network)?;
        let began = Instant::now();
        let mut client = Running::start(self.client(pair.client, proxy.address(), 0)?)?;
        let other = (self.case.setup == Setup::TwoClients).then(|| self.client(pair.client, proxy.address(), 1));
        let other = other.transpose()?.map(Running::start).transpose()?;
        let limit = Duration::from_secs(self.case.limit_s);
        let report = client.finish(limit)?;
        let took = began.elapsed();
        if let Some(mut other) = other {
            other.finish(limit)?;
        }
        let past_kernel = self.past_kernel(pair)?;
        Ok(Played { report, past_kernel, network: proxy.stats(), took })
    }

    /// A network that changes nothing, between addresses that are free.
    fn addresses(&self) -> io::Result<Config> {
        let ipv6 = self.case.setup == Setup::Ipv6;
        if let Some(net) = &self.net {
            let server = net.free_address(Place::Server, net.server(ipv6))?;
            let listen = (net.listen(ipv6), 0).into();
            return Ok(Config { listen, rebind_from: MORE_ADDRESSES, ..Config::new(server) });
        }
        let localhost: IpAddr = if ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
        Ok(Config { listen: (localhost, 0).into(), ..Config::new(free_address(localhost)?) })
    }

    fn proxy(&self, config: Config) -> io::Result<Proxy> {
        match &self.net {
            Some(net) => net.inside(Place::Middle, || Proxy::start(config)),
            None => Proxy::start(config),
        }
    }

    /// The kernel counts the datagrams of its sockets: programs on AF_XDP have none there.
    fn past_kernel(&self, pair: Pair<'_>) -> io::Result<String> {
        let Some(net) = &self.net else { return Ok(String::new()) };
        let mut past = Vec::new();
        for (who, program, place) in [("client", pair.client, Place::Client(0)), ("server", pair.server, Place::Server)]
        {
            match net.kernel_datagrams(place)? {
                0 if program.is_xdp() => past.push(who),
                count if program.is_xdp() => {
                    return Err(io::Error::other(format!("{count} datagrams of the {who} went through the kernel")));
                }
                0 => {
                    return Err(io::Error::other(format!(
                        "the kernel saw no datagram of the {who}, which has sockets"
                    )));
                }
                _ => (),
            }
        }
        Ok(format!("past the kernel: {}", past.join(" and ")))
    }

    /// A program at its place.
    fn program(&self, program: &Program, place: Place) -> Command {
        match &self.net {
            Some(net) => net.command(place, program.command()),
            None => program.command(),
        }
    }

    fn server(&self, program: &Program, bind: SocketAddr, preferred: Option<SocketAddr>) -> io::Result<Command> {
        let long = self.case.setup == Setup::LongChain;
        let cert = if long { self.identity.long_chain_file()? } else { self.identity.certificate_file() };
        let mut command = self.program(program, Place::Server);
        command.arg("server").arg("--root").arg(self.directory.join("www"));
        command.args(["--bind", &bind.to_string()]).arg("--cert").arg(cert);
        command.arg("--key").arg(self.identity.key_file());
        self.log_keys(&mut command);
        command.args(self.case.both).args(self.case.server);
        if let Some(address) = preferred {
            command.args(["--preferred", &address.to_string()]);
        }
        if program.is_xdp() {
            command.args(["--interface", INTERFACE]);
        }
        command.stderr(File::create(self.directory.join("server.txt"))?);
        Ok(command)
    }

    /// The client with that number.
    fn client(&self, program: &Program, to: SocketAddr, number: usize) -> io::Result<Command> {
        let out = ["out", "out2"][number];
        let mut command = self.program(program, Place::Client(number));
        command.arg("client").args(["--connect", &to.to_string()]);
        command.arg("--ca").arg(self.identity.certificate_file()).arg("--out").arg(self.directory.join(out));
        self.log_keys(&mut command);
        command.args(self.case.both).args(self.case.client);
        if program.is_xdp() {
            command.args(["--interface", INTERFACE]);
        }
        command.args(self.names.iter().map(|name| format!("https://localhost:{}/{name}", to.port())));
        command.stderr(File::create(self.directory.join(format!("client-{out}.txt")))?);
        Ok(command)
    }

    /// s2n-tls takes the file from the environment only.
    fn log_keys(&self, command: &mut Command) {
        let file = self.directory.join("keys.log");
        command.arg("--key-log").arg(&file).env("SSLKEYLOGFILE", file);
    }

    fn compare(&self, out: &str) -> Result<(), String> {
        for name in &self.names {
            let read = |place: &str| std::fs::read(self.directory.join(place).join(name));
            match (read("www"), read(out)) {
                (Ok(sent), Ok(received)) if sent == received => {}
                (Ok(sent), Ok(received)) => {
                    return Err(format!("{name} differs: {} bytes of {}", received.len(), sent.len()));
                }
                (Err(error), _) | (_, Err(error)) => return Err(format!("{name}: {error}")),
            }
        }
        Ok(())
    }

    /// The ends of what the programs said to people.
    fn said(&self) -> String {
        let files = ["client-out.txt", "client-out2.txt", "server.txt"];
        let said = files.iter().filter_map(|file| Some((file, tail(&self.directory.join(file))?)));
        said.map(|(file, text)| format!("\n      {file}: {text}")).collect()
    }
}

fn tail(path: &PathBuf) -> Option<String> {
    let text = String::from_utf8_lossy(&std::fs::read(path).ok()?).trim().to_owned();
    let from = text.char_indices().rev().nth(SAID_LEN_MAX).map_or(0, |(at, _)| at);
    (!text.is_empty()).then(|| text[from..].replace('\n', "\n        "))
}

/// A port that was free a moment ago. Somebody else may take it before the server does, which then says so.
fn free_address(ip: IpAddr) -> io::Result<SocketAddr> {
    std::net::UdpSocket::bind((ip, 0))?.local_addr()
}

/// A program of ours. It ends when this is dropped.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> io::Result<Self> {
        Ok(Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?))
    }

    /// Starts a server and waits until it listens.
    fn server(command: Command) -> io::Result<Self> {
        let mut running = Self::start(command)?;
        let output = running.0.stdout.take().ok_or_else(|| io::Error::other("the server has no output"))?;
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        if serde_json::from_str::<Value>(&line).is_ok_and(|event| event["event"] == "listening") {
            // Read on, or a server that says much would stop at a full pipe.
            std::thread::spawn(move || io::copy(&mut output, &mut io::sink()));
            return Ok(running);
        }
        Err(io::Error::other(format!("the server did not start: {}", line.trim())))
    }

    /// Waits for a client's end and returns what it reports last.
    fn finish(&mut self, limit: Duration) -> io::Result<Value> {
        let mut output = self.0.stdout.take().ok_or_else(|| io::Error::other("the client has no output"))?;
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            output.read_to_string(&mut text).map(|_| text)
        });
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.0.try_wait()? {
                break status;
            }
            if began.elapsed() > limit {
                self.0.kill()?;
                return Err(io::Error::other(format!("the client was not done after {} s", limit.as_secs())));
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let text = reader.join().map_err(|_| io::Error::other("reading panicked"))??;
        let last = text.lines().last().unwrap_or_default();
        if !status.success() {
            return Err(io::Error::other(format!("the client failed: {last}")));
        }
        Ok(serde_json::from_str(last)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It is ours and has nothing to lose; an error means that it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
