//! quiche as a peer of the comparison: a loop of our own, as quiche wants it, with GSO and GRO, BoringSSL, CUBIC, which it does
//! not pace, or BBR with its release times kept, the packet size of the run from the first packet on.
#![forbid(unsafe_code)]

mod client;
mod config;
mod link;
mod pace;
mod server;
mod timers;

use clap::Parser;
use warpline_peer_kit::{Command, Result};

fn main() -> Result<()> {
    match Command::parse() {
        Command::Server(args) => server::run(&args),
        Command::Client(args) => client::run(args),
    }
}
