//! tquic as a peer of the comparison: a loop of our own, as tquic wants it, with GSO and GRO, BoringSSL, CUBIC, no
//! pacing; the packet size of the run is the most that its search for the path's size may find.
#![forbid(unsafe_code)]

mod client;
mod config;
mod link;
mod sender;
mod server;

use clap::Parser;
use warpline_peer_kit::{Command, Result};

fn main() -> Result<()> {
    match Command::parse() {
        Command::Server(args) => server::run(&args),
        Command::Client(args) => client::run(args),
    }
}
