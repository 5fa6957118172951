//! The interop matrix, our endpoint in it, and the bad network as a program of its own.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use warpline::InterfaceName;
use warpline_interop::endpoint;
use warpline_interop::matrix::{peers, table};
use warpline_interop::proxy::{Config, Proxy};
use warpline_interop_kit::args::{ClientArgs, ServerArgs};
use warpline_interop_kit::report;

#[derive(Parser)]
#[command(about = "Other QUIC implementations as peers, and a bad network between them and us")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A UDP proxy that delays, drops, reorders, duplicates and damages datagrams
    Proxy(ProxyArgs),
    /// Runs the cases of the public interop suite between us and other stacks, in both roles
    Matrix(MatrixArgs),
    /// Our own stack as a server of the matrix; runs until its standard input is closed
    Server(Ours<ServerArgs>),
    /// Our own stack as a client of the matrix
    Client(Ours<ClientArgs>),
}

/// What our own endpoint understands beside the options that all have.
#[derive(Args)]
struct Ours<T: Args> {
    #[command(flatten)]
    common: T,
    /// Use AF_XDP on this interface, with the program in its driver
    #[arg(long, value_name = "NAME", value_parser = InterfaceName::new)]
    interface: Option<InterfaceName>,
}

/// How packets move.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Io {
    /// The kernel's sockets
    Udp,
    /// AF_XDP, each program in a network namespace of its own behind a virtual link (needs root)
    Xdp,
}

#[derive(Args)]
struct MatrixArgs {
    /// Small files and few connections
    #[arg(long)]
    quick: bool,
    /// With whom, such as quinn,aioquic; also warpline [default: everybody else]
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Which cases, such as retry,ipv6 [default: all]
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// Runs at the same time; most wait for the network most of the time
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// How our packets move
    #[arg(long, value_enum, default_value = "udp")]
    io: Io,
    /// How the peer's packets move, with ourselves as the peer
    #[arg(long, value_enum, default_value = "udp")]
    peer_io: Io,
    /// Writes all results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keeps each run's files, key log and messages in this directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

#[derive(Args)]
struct ProxyArgs {
    /// Where clients send to
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The server
    #[arg(long, value_name = "ADDR")]
    to: SocketAddr,
    /// Delay in each direction, such as 25ms
    #[arg(long, default_value = "0ms", value_parser = duration)]
    delay: Duration,
    /// Loss in each direction, such as 1% or 0.01
    #[arg(long, default_value = "0", value_parser = share)]
    loss: f64,
    /// Loss towards the server, instead of --loss
    #[arg(long, value_parser = share)]
    loss_up: Option<f64>,
    /// Loss towards the client, instead of --loss
    #[arg(long, value_parser = share)]
    loss_down: Option<f64>,
    /// Rate in each direction, such as 100mbit
    #[arg(long, value_parser = rate)]
    rate: Option<u64>,
    /// Bytes that wait before the rate limit [default: one bandwidth-delay product]
    #[arg(long, requires = "rate")]
    queue: Option<u64>,
    /// Mark ECN-capable packets CE that find more than this many bytes waiting
    #[arg(long, requires = "rate")]
    ce_above: Option<u64>,
    /// Hold packets back with this probability
    #[arg(long, value_name = "SHARE", default_value = "0", default_missing_value = "10%", num_args = 0..=1, value_parser = share)]
    reorder: f64,
    /// Send packets twice with this probability
    #[arg(long, value_name = "SHARE", default_value = "0", default_missing_value = "1%", num_args = 0..=1, value_parser = share)]
    duplicate: f64,
    /// Damage packets with this probability
    #[arg(long, value_name = "SHARE", default_value = "0", default_missing_value = "1%", num_args = 0..=1, value_parser = share)]
    corrupt: f64,
    /// Drop IP packets larger than this
    #[arg(long)]
    mtu: Option<usize>,
    /// Give every client a new address towards the server each such time
    #[arg(long, value_parser = duration)]
    rebind_after: Option<Duration>,
    /// Seed of everything random
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Proxy(args) => proxy(&args).map(|()| true),
        Command::Matrix(args) => matrix(args),
        Command::Server(args) => return endpoint(endpoint::server(&args.common, args.interface)),
        Command::Client(args) => return endpoint(endpoint::client(&args.common, args.interface)),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn endpoint(program: impl Future<Output = warpline_interop_kit::Result<serde_json::Value>>) -> ExitCode {
    report::finish(match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(program),
        Err(error) => Err(error.into()),
    })
}

/// Returns whether everything passed.
fn matrix(args: MatrixArgs) -> io::Result<bool> {
    let plan = table::Plan {
        stacks: peers::select(&args.peers)?,
        cases: table::select(&args.cases)?,
        quick: args.quick,
        jobs: args.jobs,
        xdp: [args.io, args.peer_io].map(|io| io == Io::Xdp),
        keep: args.keep,
    };
    let table = table::matrix(&plan)?;
    println!("{}\n{}", table.markdown(), table.remarks());
    if let Some(path) = args.json {
        std::fs::write(path, serde_json::to_string_pretty(&table.json())?)?;
    }
    Ok(table.passed())
}

fn proxy(args: &ProxyArgs) -> io::Result<()> {
    let proxy = Proxy::start(Config {
        listen: args.listen,
        delay: args.delay,
        loss_up: args.loss_up.unwrap_or(args.loss),
        loss_down: args.loss_down.unwrap_or(args.loss),
        rate: args.rate,
        queue: args.queue,
        ce_above: args.ce_above,
        reorder: args.reorder,
        duplicate: args.duplicate,
        corrupt: args.corrupt,
        mtu: args.mtu,
        rebind_after: args.rebind_after,
        seed: args.seed,
        ..Config::new(args.to)
    })?;
    println!("{} -> {}", proxy.address(), args.to);
    proxy.wait()
}

/// `25ms`, `100us` or `5s`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        _ => return Err("expected a number with us, ms or s".into()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// `1%` or `0.01`.
fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text)?;
    let share = match unit {
        "%" => number / 100.0,
        "" => number,
        _ => return Err("expected a number between 0 and 1, or one with %".into()),
    };
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("expected 0 to 100 %".into()) }
}

/// `100mbit`, `1gbit`, `64kbit`, or a number of bits per second.
fn rate(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let scale = match unit {
        "" | "bit" => 1.0,
        "kbit" => 1e3,
        "mbit" => 1e6,
        "gbit" => 1e9,
        _ => return Err("expected a number with kbit, mbit or gbit".into()),
    };
    Ok((number * scale) as u64)
}

fn split(text: &str) -> Result<(f64, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = number.parse().map_err(|_| format!("'{number}' is not a number"))?;
    Ok((number, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_understood() {
        assert_eq!(duration("25ms"), Ok(Duration::from_millis(25)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(share("1%"), Ok(0.01));
        assert_eq!(rate("100mbit"), Ok(100_000_000));
        assert!(duration("25").is_err());
        assert!(share("101%").is_err());
        assert!(rate("1parsec").is_err());
    }
}
