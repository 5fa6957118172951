//! `warpline perf`: the transport by itself, in the scenarios and with the output of the comparison (`bench/README.md`).

mod client;
mod server;
mod sessions;
mod setup;
mod streams;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use warpline_peer_kit::{Congestion, Scenario};

/// Measure the transport by itself.
#[derive(Debug, Subcommand)]
pub enum Perf {
    /// Serve measurements until Ctrl-C, SIGTERM, or the end of the pipe that is standard input.
    Server(ServerArgs),
    /// Put one kind of load on a server and print one line of JSON.
    Client(ClientArgs),
}

impl Perf {
    /// How packets move.
    pub fn io(&self) -> &crate::io::IoArgs {
        match self {
            Self::Server(args) => &args.common.io,
            Self::Client(args) => &args.common.io,
        }
    }
}

/// Arguments of `warpline perf server`.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Address to listen on; port 0 lets the system choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub bind: std::net::SocketAddr,
    /// Certificate chain, PEM; a self-signed one is made without it.
    #[arg(long, requires = "key")]
    pub cert: Option<PathBuf>,
    /// Private key, PEM (PKCS #8).
    #[arg(long, requires = "cert")]
    pub key: Option<PathBuf>,
    /// Worker threads.
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
    /// Add workers under load, up to this many, and remove them again without; on AF_XDP those that own queues stay.
    #[arg(long, value_name = "WORKERS")]
    pub max_workers: Option<usize>,
    /// Threads that receive for the workers; 0 has each worker receive for itself.
    #[arg(long, default_value_t = 0)]
    pub readers: usize,
    #[command(flatten)]
    pub common: Common,
}

/// Arguments of `warpline perf client`.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// The server, HOST:PORT.
    pub target: String,
    /// Root certificate that the server's chain must lead to, PEM.
    #[arg(long, required_unless_present = "insecure")]
    pub ca: Option<PathBuf>,
    /// Measure against any server, whoever it is.
    #[arg(long, conflicts_with = "ca")]
    pub insecure: bool,
    /// What to do.
    #[arg(long)]
    pub scenario: Scenario,
    /// Seconds to measure.
    #[arg(long, default_value_t = 5.0)]
    pub duration: f64,
    /// Seconds of the same load before measuring.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Bytes of one transfer, of one message, or of one datagram.
    #[arg(long, default_value_t = 1 << 30)]
    pub bytes: u64,
    /// Streams at a time on each connection.
    #[arg(long, default_value_t = 1)]
    pub streams: usize,
    /// Connections.
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Requests, handshakes or echoes in flight.
    #[arg(long, default_value_t = 1)]
    pub in_flight: usize,
    /// The output is JSON in any case; accepted for symmetry with the other commands.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: Common,
}

/// Settings of the transport that both sides take.
#[derive(Debug, Args)]
pub struct Common {
    /// UDP payload in bytes of a full packet.
    #[arg(long, default_value_t = 1452, value_parser = clap::value_parser!(u16).range(1200..=65527))]
    pub payload: u16,
    /// Stream receive window in bytes.
    #[arg(long, default_value_t = 4 << 20)]
    pub window: u64,
    /// Congestion controller; CUBIC if not given. It governs what this side sends.
    #[arg(long, value_enum)]
    pub congestion: Option<Congestion>,
    /// Begins connections with half of what their path carried in one before (careful resume). It governs what this side sends.
    #[arg(long)]
    pub careful_resume: bool,
    #[command(flatten)]
    pub crypto: crate::crypto::CryptoArgs,
    /// Microseconds to poll the socket before sleeping.
    #[arg(long, default_value_t = 0)]
    pub busy_poll: u64,
    /// With --io uring: a kernel thread polls for what is to be sent, and sleeps after so many idle milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub sq_poll: u64,
    #[command(flatten)]
    pub io: crate::io::IoArgs,
    #[command(flatten)]
    pub trace: crate::trace::TraceArgs,
}

/// Runs it.
pub fn run(perf: Perf) -> ExitCode {
    let outcome = match perf {
        Perf::Server(args) => server::run(&args),
        Perf::Client(args) => client::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("warpline perf: {error}");
            ExitCode::from(crate::exit::FAILED)
        }
    }
}
