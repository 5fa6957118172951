//! quiche as an endpoint of the interop matrix: quiche leaves sockets and time to its user, so the loops are here.
//!
//! BoringSSL always offers all three cipher suites, so `--chacha20` rests on the other side's offer; the matrix looks at
//! the suite that was chosen.
#![forbid(unsafe_code)]

mod client;
mod config;
mod server;

use std::process::ExitCode;

use clap::Parser;
use warpline_interop_kit::args::Command;
use warpline_interop_kit::{Result, report};

fn main() -> ExitCode {
    let command = Command::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report::finish(Err(error.into())),
    };
    report::finish(match command {
        Command::Server(args) => runtime.block_on(server::run(&args)),
        Command::Client(args) => runtime.block_on(client::run(&args)),
    })
}

/// A connection ID.
fn connection_id() -> Result<quiche::ConnectionId<'static>> {
    let mut id = vec![0; quiche::MAX_CONN_ID_LEN];
    getrandom::fill(&mut id)?;
    Ok(quiche::ConnectionId::from_vec(id))
}

/// Gives the peer as many more connection IDs as it takes, so that either side can change its address.
fn offer_ids(connection: &mut quiche::Connection) -> Result<()> {
    while connection.is_established() && connection.scids_left() > 0 {
        let mut token = [0; 16];
        getrandom::fill(&mut token)?;
        connection.new_scid(&connection_id()?, u128::from_be_bytes(token), false)?;
    }
    Ok(())
}
