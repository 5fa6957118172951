//! `warpline h3`: files over HTTP/3, for browsers and for us.

mod body;
mod conditions;
mod files;
mod get;
mod http1;
mod limits;
mod listing;
mod log;
mod pin;
mod respond;
mod serve;
mod tls;
mod url;

use std::process::ExitCode;

use clap::Subcommand;
use tokio::sync::watch;

use crate::exit;
use crate::io::IoArgs;

/// HTTP/3.
#[derive(Debug, Subcommand)]
pub enum H3 {
    /// Serve the files of a directory over HTTP/3, and over HTTP/1.1 to those who do not know of it yet.
    Serve(serve::ServeArgs),
    /// Fetch a URL over HTTP/3.
    Get(get::GetArgs),
}

impl H3 {
    /// How the packets move.
    pub fn io(&self) -> &IoArgs {
        match self {
            Self::Serve(args) => &args.io,
            Self::Get(args) => &args.io,
        }
    }
}

/// Runs it.
pub fn run(command: &H3) -> ExitCode {
    match command {
        H3::Serve(args) => serve::run(args),
        H3::Get(args) => get::run(args),
    }
}

/// Why a command ended, with the exit code for it.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    what: String,
}

impl Failure {
    /// Something failed here, or the other side said no.
    pub fn failed(what: impl Into<String>) -> Self {
        Self { code: exit::FAILED, what: what.into() }
    }

    /// The command line was wrong.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { code: exit::USAGE, what: what.into() }
    }

    /// The other side was not reached, or went away.
    pub fn disconnected(what: impl Into<String>) -> Self {
        Self { code: exit::DISCONNECTED, what: what.into() }
    }

    /// Says it, and gives the exit code.
    fn report(&self, json: bool) -> ExitCode {
        eprintln!("warpline: {}", self.what);
        if json {
            println!("{}", serde_json::json!({ "error": self.what }));
        }
        ExitCode::from(self.code)
    }
}

/// Waits until the server is to end.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error says that nobody is left to say it, which comes to the same.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
