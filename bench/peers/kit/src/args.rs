//! The command line that every peer has.

use std::net::SocketAddr;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::{Result, Scenario};

/// A peer of the comparison: a server, or a client that puts one scenario of load on a server.
#[derive(Debug, Parser)]
pub enum Command {
    /// Serve until standard input closes or SIGTERM.
    Server(ServerArgs),
    /// Run one scenario, print one JSON line.
    Client(ClientArgs),
}

/// A congestion controller. A program either uses the one that it is asked for or ends with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Congestion {
    /// As RFC 9002 has it.
    #[value(name = "newreno")]
    NewReno,
    /// CUBIC.
    Cubic,
    /// The stack's version of BBR.
    Bbr,
}

impl Congestion {
    /// As it is called on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NewReno => "newreno",
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }

    /// The error of a program that was asked for something that it does not have.
    ///
    /// # Errors
    ///
    /// Always, unless nothing was asked for.
    pub fn refuse(asked: Option<Self>, why: &str) -> Result<()> {
        asked.map_or(Ok(()), |asked| Err(format!("no congestion control {}: {why}", asked.name()).into()))
    }
}

/// Arguments of the server role.
#[derive(Debug, Clone, Parser)]
pub struct ServerArgs {
    /// Address to listen on; port 0 lets the kernel choose.
    #[arg(long)]
    pub bind: SocketAddr,
    /// Certificate chain, PEM.
    #[arg(long)]
    pub cert: PathBuf,
    /// Private key, PEM (PKCS #8).
    #[arg(long)]
    pub key: PathBuf,
    /// UDP payload in bytes of a full packet.
    #[arg(long, default_value_t = 1_452)]
    pub payload: u16,
    /// Stream receive window in bytes.
    #[arg(long, default_value_t = 4 << 20)]
    pub window: u64,
    /// Congestion controller; the stack's default if not given.
    #[arg(long, value_enum)]
    pub congestion: Option<Congestion>,
}

/// Arguments of the client role.
#[derive(Debug, Clone, Parser)]
pub struct ClientArgs {
    /// The server, HOST:PORT.
    pub target: String,
    /// Root certificate that the server's chain must lead to, PEM.
    #[arg(long)]
    pub ca: PathBuf,
    /// What to do.
    #[arg(long)]
    pub scenario: Scenario,
    /// Seconds to measure.
    #[arg(long, default_value_t = 5.0)]
    pub duration: f64,
    /// Seconds of the same load before measuring.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Bytes of one transfer (bulk), of one message, or of one datagram.
    #[arg(long, default_value_t = 1 << 30)]
    pub bytes: u64,
    /// Streams at a time on each connection (bulk).
    #[arg(long, default_value_t = 1)]
    pub streams: usize,
    /// Connections.
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Requests, handshakes or echoes in flight.
    #[arg(long, default_value_t = 1)]
    pub in_flight: usize,
    /// UDP payload in bytes of a full packet.
    #[arg(long, default_value_t = 1_452)]
    pub payload: u16,
    /// Stream receive window in bytes.
    #[arg(long, default_value_t = 4 << 20)]
    pub window: u64,
    /// Congestion controller; the stack's default if not given.
    #[arg(long, value_enum)]
    pub congestion: Option<Congestion>,
}

impl ClientArgs {
    /// The address of [`target`](Self::target).
    ///
    /// # Errors
    ///
    /// If the name does not resolve.
    pub fn address(&self) -> Result<SocketAddr> {
        let mut addresses = self.target.to_socket_addrs()?;
        addresses.next().ok_or_else(|| format!("{} has no address", self.target).into())
    }

    /// Whether the scenario fills packets, so that their size means something.
    #[must_use]
    pub fn is_bulk(&self) -> bool {
        matches!(self.scenario, Scenario::Download | Scenario::Upload)
    }

    /// Time to measure.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.duration.max(0.0))
    }

    /// Time of load before measuring.
    #[must_use]
    pub fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_common_parameters() {
        let line = ["peer", "client", "127.0.0.1:4433", "--ca", "ca.pem", "--scenario", "datagram-echo"];
        let Command::Client(args) = Command::parse_from(line) else { panic!("not a client") };
        assert_eq!(args.scenario, Scenario::DatagramEcho);
        assert_eq!((args.payload, args.window), (1_452, 4 << 20));
        assert_eq!(args.address().unwrap().port(), 4433);
    }
}
