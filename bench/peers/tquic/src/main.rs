//! tquic as a peer of the comparison: a loop of our own, as tquic wants it, with GSO and GRO, BoringSSL, CUBIC, no
//! pacing; the packet size of the run is the most that its search for the path's size may find.
#![forbid(unsafe_code)]

mod client;
mod config;
mod link;
mod sender;
mod server;

use clap::Parser;
use warpline_peer_kit::{Command, Congestion, Result};

fn main() -> Result<()> {
    match Command::parse() {
        Command::Server(args) => only_cubic(args.congestion).and_then(|()| server::run(&args)),
        Command::Client(args) => only_cubic(args.congestion).and_then(|()| client::run(args)),
    }
}

fn only_cubic(asked: Option<Congestion>) -> Result<()> {
    Congestion::refuse(asked.filter(|asked| *asked != Congestion::Cubic), "this program uses CUBIC")
}
