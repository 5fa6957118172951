//! tquic as an endpoint of the interop matrix: tquic leaves sockets and time to its user, so the loops are here.
//!
//! BoringSSL always offers all three cipher suites, so `--chacha20` rests on the other side's offer; the matrix looks at
//! the suite that was chosen.
#![forbid(unsafe_code)]

mod client;
mod config;
mod server;
mod wire;

use std::process::ExitCode;

use clap::Parser;
use warpline_interop_kit::args::Command;
use warpline_interop_kit::report;

fn main() -> ExitCode {
    let command = Command::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report::finish(Err(error.into())),
    };
    // tquic's endpoints stay on their thread.
    let tasks = tokio::task::LocalSet::new();
    report::finish(match command {
        Command::Server(args) => tasks.block_on(&runtime, server::run(&args)),
        Command::Client(args) => tasks.block_on(&runtime, client::run(&args)),
    })
}
