//! msquic as a peer of the comparison: the whole load in the callbacks of its one worker thread, as its own performance
//! tool has it, with its GSO and GRO, OpenSSL (quictls), CUBIC, the packet size of the run from the first packet on.
//!
//! `quic` is a safe layer over its C interface and the only place with `unsafe`; [`server`] and [`client`] are the two
//! roles.
#![deny(unsafe_code)]

mod client;
#[expect(unsafe_code, reason = "msquic's interface is C's")]
mod quic;
mod sending;
mod server;

use clap::Parser;
use warpline_peer_kit::{Command, Result};

fn main() -> Result<()> {
    match Command::parse() {
        Command::Server(args) => server::run(&args),
        Command::Client(args) => client::run(args),
    }
}
