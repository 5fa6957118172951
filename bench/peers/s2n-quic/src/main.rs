//! s2n-quic as a peer of the comparison: its tokio back end on one thread with GSO and GRO, s2n-tls, CUBIC, the packet
//! size of the run from the first packet on.
#![forbid(unsafe_code)]

mod adapter;
mod facts;
mod resumption;

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use s2n_quic::Server;
use s2n_quic::provider::datagram::default::Endpoint as Datagrams;
use s2n_quic::provider::io::tokio::{Builder as IoBuilder, Provider as Io};
use s2n_quic::provider::limits::Limits;
use s2n_quic::provider::tls::s2n_tls;
use warpline_peer_kit::{ALPN, ClientArgs, Command, Congestion, Result, ServerArgs, announce, exit_on_stdin_eof, load};

use adapter::{S2nConnection, S2nDialer};

/// Longer than any run, so that held connections stay.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// IPv4 and UDP headers, which s2n-quic counts as part of the packet size.
const HEADERS: u16 = 28;
/// Kernel socket buffers in bytes; the kernel grants what it allows.
const SOCKET_BUFFER: usize = 8 << 20;
/// Datagrams that wait to be sent: as many as in other stacks' defaults.
const DATAGRAMS_SEND: usize = 1_024;
/// Datagrams that wait to be read.
const DATAGRAMS_RECV: usize = 8_192;

fn main() -> Result<()> {
    let command = Command::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Server(args) => runtime.block_on(server(&args)),
        Command::Client(args) => runtime.block_on(client(&args)),
    }
}

async fn server(args: &ServerArgs) -> Result<()> {
    only_cubic(args.congestion)?;
    let mut tls = s2n_tls::Server::builder()
        .with_certificate(args.cert.as_path(), args.key.as_path())?
        .with_application_protocols([ALPN])?;
    resumption::enable_server(tls.config_mut())?;
    let mut server = Server::builder()
        .with_tls(tls.build()?)?
        .with_io(io(args.bind, args.payload)?)?
        .with_limits(limits(args.window)?)?
        .with_datagram(datagrams()?)?
        .start()?;
    exit_on_stdin_eof();
    announce(server.local_addr()?)?;
    while let Some(connection) = server.accept().await {
        tokio::spawn(load::serve(S2nConnection::new(connection, None)));
    }
    Ok(())
}

async fn client(args: &ClientArgs) -> Result<()> {
    only_cubic(args.congestion)?;
    load::run(S2nDialer::new(args)?, args).await
}

fn only_cubic(asked: Option<Congestion>) -> Result<()> {
    Congestion::refuse(asked.filter(|asked| *asked != Congestion::Cubic), "this program uses CUBIC")
}

/// Sockets with the packet size of the run.
fn io(bind: SocketAddr, payload: u16) -> Result<Io> {
    let mtu = payload + HEADERS;
    Ok(IoBuilder::default()
        .with_receive_address(bind)?
        .with_send_buffer_size(SOCKET_BUFFER)?
        .with_recv_buffer_size(SOCKET_BUFFER)?
        .with_max_mtu(mtu)?
        .with_initial_mtu(mtu)?
        .build()?)
}

fn limits(window: u64) -> Result<Limits> {
    Ok(Limits::new()
        .with_data_window((16 * window).min(u32::MAX.into()))?
        .with_bidirectional_local_data_window(window)?
        .with_bidirectional_remote_data_window(window)?
        .with_max_send_buffer_size(u32::try_from(window)?)?
        .with_max_open_local_bidirectional_streams(1_024)?
        .with_max_open_remote_bidirectional_streams(1_024)?
        .with_max_idle_timeout(IDLE_TIMEOUT)?)
}

fn datagrams() -> Result<Datagrams> {
    Ok(Datagrams::builder().with_send_capacity(DATAGRAMS_SEND)?.with_recv_capacity(DATAGRAMS_RECV)?.build()?)
}
