//! The command line of every endpoint.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser};

use crate::Result;

/// The roles.
#[derive(Parser, Debug)]
#[command(about = "An endpoint of the interop matrix: hq-interop, which is HTTP/0.9 over QUIC")]
pub enum Command {
    /// Serves the files of a directory until its standard input is closed
    Server(ServerArgs),
    /// Fetches files
    Client(ClientArgs),
}

/// A server.
#[derive(Args, Debug, Clone)]
pub struct ServerArgs {
    /// Directory with the files
    #[arg(long)]
    pub root: PathBuf,
    /// Address to listen on; port 0 takes a free one
    #[arg(long)]
    pub bind: SocketAddr,
    /// Certificate chain, PEM
    #[arg(long)]
    pub cert: PathBuf,
    /// Its private key, PEM
    #[arg(long)]
    pub key: PathBuf,
    /// Validate every address with a Retry packet
    #[arg(long)]
    pub retry: bool,
    /// Accept only TLS_CHACHA20_POLY1305_SHA256
    #[arg(long)]
    pub chacha20: bool,
    /// Prefer QUIC version 2
    #[arg(long)]
    pub v2: bool,
    /// Speak HTTP/3 instead of HTTP/0.9
    #[arg(long)]
    pub http3: bool,
    /// Tell clients to go over to this address
    #[arg(long, value_name = "ADDR")]
    pub preferred: Option<SocketAddr>,
    /// Append the secrets of connections to this file
    #[arg(long, value_name = "FILE")]
    pub key_log: Option<PathBuf>,
}

/// A client.
#[derive(Args, Debug, Clone)]
pub struct ClientArgs {
    /// What to fetch
    #[arg(required = true)]
    pub urls: Vec<Url>,
    /// The server's address; the URLs' authority is only sent along
    #[arg(long, value_name = "ADDR")]
    pub connect: SocketAddr,
    /// The name that the server's certificate must bear
    #[arg(long, default_value = "localhost")]
    pub server_name: String,
    /// Certificates to trust, PEM
    #[arg(long)]
    pub ca: PathBuf,
    /// Where the files go
    #[arg(long)]
    pub out: PathBuf,
    /// Offer only TLS_CHACHA20_POLY1305_SHA256
    #[arg(long)]
    pub chacha20: bool,
    /// Fetch the first file on one connection, the others on a second one that resumes the first's session
    #[arg(long)]
    pub resume: bool,
    /// Like --resume, with the second connection's requests as early data
    #[arg(long)]
    pub zero_rtt: bool,
    /// Fetch the first file, update the keys, fetch the others
    #[arg(long)]
    pub key_update: bool,
    /// Begin with version 1, offer version 2
    #[arg(long)]
    pub v2: bool,
    /// Speak HTTP/3 instead of HTTP/0.9
    #[arg(long)]
    pub http3: bool,
    /// Use a connection for each file, one after the other
    #[arg(long)]
    pub multiconnect: bool,
    /// Begin with a version that nobody speaks
    #[arg(long)]
    pub unknown_version: bool,
    /// Fetch the first file, go over to another local address, fetch the others
    #[arg(long)]
    pub migrate: bool,
    /// Append the secrets of connections to this file
    #[arg(long, value_name = "FILE")]
    pub key_log: Option<PathBuf>,
}

impl ServerArgs {
    /// Fails if one of `options` is set: names of options that the stack lacks.
    ///
    /// # Errors
    ///
    /// Names the option.
    pub fn refuse(&self, options: &[&str]) -> Result<()> {
        let set = [
            ("retry", self.retry),
            ("chacha20", self.chacha20),
            ("v2", self.v2),
            ("http3", self.http3),
            ("preferred", self.preferred.is_some()),
            ("key-log", self.key_log.is_some()),
        ];
        refuse(&set, options)
    }
}

impl ClientArgs {
    /// Fails if one of `options` is set: names of options that the stack lacks.
    ///
    /// # Errors
    ///
    /// Names the option.
    pub fn refuse(&self, options: &[&str]) -> Result<()> {
        let set = [
            ("chacha20", self.chacha20),
            ("resume", self.resume),
            ("zero-rtt", self.zero_rtt),
            ("key-update", self.key_update),
            ("v2", self.v2),
            ("http3", self.http3),
            ("unknown-version", self.unknown_version),
            ("migrate", self.migrate),
            ("key-log", self.key_log.is_some()),
        ];
        refuse(&set, options)
    }
}

fn refuse(set: &[(&str, bool)], options: &[&str]) -> Result<()> {
    match set.iter().find(|(name, is_set)| *is_set && options.contains(name)) {
        Some((name, _)) => Err(Box::new(Unsupported(format!("--{name} is not supported by this stack")))),
        None => Ok(()),
    }
}

/// An option that the stack cannot honour.
#[derive(Debug)]
pub struct Unsupported(String);

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unsupported {}

/// `https://AUTHORITY/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Host and port.
    pub authority: String,
    /// Begins with a slash.
    pub path: String,
}

impl Url {
    /// The last part of the path: what the file is called.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

impl std::str::FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("https://").ok_or_else(|| format!("{text}: not an https URL"))?;
        let (authority, path) = rest.split_once('/').ok_or_else(|| format!("{text}: no path"))?;
        if authority.is_empty() || path.is_empty() || path.ends_with('/') {
            return Err(format!("{text}: no host or no file"));
        }
        Ok(Self { authority: authority.into(), path: format!("/{path}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_host_and_a_file() {
        let url: Url = "https://localhost:443/a/b.bin".parse().unwrap();
        assert_eq!((url.authority.as_str(), url.path.as_str(), url.name()), ("localhost:443", "/a/b.bin", "b.bin"));
        for bad in ["http://a/b", "https://a", "https:///b", "https://a/", "https://a/b/"] {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_stack_lacks_is_refused() {
        let parse = |extra: &str| {
            let line = format!("x client --connect [::1]:1 --ca a --out b {extra} https://a/b");
            match Command::try_parse_from(line.split_whitespace()).unwrap() {
                Command::Client(args) => args,
                Command::Server(_) => unreachable!("the line says client"),
            }
        };
        assert!(parse("--v2").refuse(&["v2"]).unwrap_err().to_string().contains("--v2"));
        assert!(parse("--v2").refuse(&["http3"]).is_ok());
    }
}
