//! TCP with rustls as a reference of the comparison: blocking sockets and a thread for each connection, which is the
//! fastest way to move bulk data over TCP on one core. What is a stream elsewhere is a connection of its own here, so
//! that nothing waits behind anything else; requests follow one another on it.
#![forbid(unsafe_code)]

mod client;
mod server;
mod session;

use clap::Parser;
use warpline_peer_kit::{Command, Congestion, Result};

fn main() -> Result<()> {
    match Command::parse() {
        Command::Server(args) => unasked(args.congestion).and_then(|()| server::run(&args)),
        Command::Client(args) => unasked(args.congestion).and_then(|()| client::run(&args)),
    }
}

fn unasked(asked: Option<Congestion>) -> Result<()> {
    Congestion::refuse(asked, "TCP's is the kernel's setting")
}
