//! The program of quinn, and of noq, which has the same interface: tokio on one thread, GSO and GRO as they do them by default, rustls with
//! *ring*, CUBIC, the packet size of the run from the first packet on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::stack::congestion::{ControllerFactory, CubicConfig, NewRenoConfig};
use crate::stack::crypto::rustls::QuicServerConfig;
use crate::stack::{self, Endpoint, EndpointConfig, MtuDiscoveryConfig, TokioRuntime, TransportConfig, VarInt};
use clap::Parser;
use warpline_peer_kit::{
    ClientArgs, Command, Congestion, Result, ServerArgs, announce, exit_on_stdin_eof, load, tls, udp_socket,
};

use super::adapter::{PeerConnection, PeerDialer};

/// Longer than any run, so that held connections stay.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Runs the program.
pub fn main() -> Result<()> {
    let command = Command::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Server(args) => runtime.block_on(server(&args)),
        Command::Client(args) => runtime.block_on(client(&args)),
    }
}

async fn server(args: &ServerArgs) -> Result<()> {
    let tls = QuicServerConfig::try_from(tls::server_config(&args.cert, &args.key)?)?;
    let mut config = stack::ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(Arc::new(transport(args.payload, args.window, args.congestion)?));
    let endpoint = endpoint(args.bind, args.payload, Some(config))?;
    exit_on_stdin_eof();
    announce(endpoint.local_addr()?)?;
    while let Some(incoming) = endpoint.accept().await {
        let connecting = incoming.accept()?;
        tokio::spawn(async move {
            // 0.5-RTT: with early data the streams are there before the handshake completes. On this side it cannot
            // fail, and a handshake that fails shows as a closed connection.
            if let Ok((connection, _)) = connecting.into_0rtt() {
                load::serve(PeerConnection::accepted(connection)).await;
            }
        });
    }
    Ok(())
}

async fn client(args: &ClientArgs) -> Result<()> {
    let remote = args.address()?;
    let local = SocketAddr::new(if remote.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
    let endpoint = endpoint(local, args.payload, None)?;
    let transport = Arc::new(transport(args.payload, args.window, args.congestion)?);
    load::run(PeerDialer::new(endpoint, remote, args.ca.clone(), transport)?, args).await
}

fn endpoint(bind: SocketAddr, payload: u16, server: Option<stack::ServerConfig>) -> Result<Endpoint> {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(payload)?;
    Ok(Endpoint::new(config, server, udp_socket(bind)?, Arc::new(TokioRuntime))?)
}

fn transport(payload: u16, window: u64, congestion: Option<Congestion>) -> Result<TransportConfig> {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(payload);
    let mut config = TransportConfig::default();
    config
        .initial_mtu(payload)
        .mtu_discovery_config(Some(discovery))
        .stream_receive_window(VarInt::from_u64(window)?)
        // As in the stack's own defaults: no limit for the connection, eight stream windows of unsent data.
        .send_window(8 * window)
        .max_concurrent_bidi_streams(VarInt::from_u32(1_024))
        .max_idle_timeout(Some(IDLE_TIMEOUT.try_into()?));
    if let Some(congestion) = congestion {
        let factory: Arc<dyn ControllerFactory + Send + Sync> = match congestion {
            Congestion::NewReno => Arc::new(NewRenoConfig::default()),
            Congestion::Cubic => Arc::new(CubicConfig::default()),
            Congestion::Bbr => Arc::new(crate::Bbr::default()),
        };
        config.congestion_controller_factory(factory);
    }
    Ok(config)
}
