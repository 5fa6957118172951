//! quinn's and noq's calls: noq began as a copy of quinn and has the same interface, so both programs are made of this
//! file. `stack` is the one or the other.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};
use warpline_interop_kit::args::{ClientArgs, Command, ServerArgs};
use warpline_interop_kit::hq::{self, Answer};
use warpline_interop_kit::tls::{self, Tickets};
use warpline_interop_kit::{Result, client, report};

use crate::http3;
use crate::stack::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use crate::stack::{
    ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig, TransportConfig, VarInt, ZeroRttAccepted,
};

/// Longer than the longest blackout of a case.
const IDLE_TIMEOUT_MS: u32 = 30_000;
/// Keeps a blackout from ending a connection that waits.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Larger than any file of the matrix.
const FILE_LEN_MAX: usize = 1 << 30;

/// Runs the program.
pub fn main() -> ExitCode {
    let command = Command::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report::finish(Err(error.into())),
    };
    report::finish(match command {
        Command::Server(args) => runtime.block_on(server(&args)),
        Command::Client(args) => runtime.block_on(run_client(&args)),
    })
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT_MS).into()));
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    Arc::new(transport)
}

async fn server(args: &ServerArgs) -> Result<Value> {
    args.refuse(&["v2"])?;
    args.refuse(http3::LACKS)?;
    let tls = Arc::new(tls::server_config(args)?);
    let crypto = QuicServerConfig::with_initial(tls, tls::initial_suite())?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport());
    match args.preferred {
        Some(SocketAddr::V4(address)) => drop(config.preferred_address_v4(Some(address))),
        Some(SocketAddr::V6(address)) => drop(config.preferred_address_v6(Some(address))),
        None => {}
    }
    let endpoint = Endpoint::server(config, args.bind)?;
    report::exit_with_parent();
    report::listening(endpoint.local_addr()?)?;
    while let Some(incoming) = endpoint.accept().await {
        if args.retry && !incoming.remote_address_validated() {
            incoming.retry()?;
            continue;
        }
        let (root, http3) = (args.root.clone(), args.http3);
        tokio::spawn(async move {
            let connecting = incoming.accept()?;
            // On the server's side this never fails: 0.5-RTT data can always be sent, and early data be read.
            let connection = match connecting.into_0rtt() {
                Ok((connection, _)) => connection,
                Err(connecting) => connecting.await?,
            };
            if http3 { http3::serve(connection, &root).await } else { serve(connection, root).await }
        });
    }
    Ok(Value::Null)
}

async fn serve(connection: Connection, root: PathBuf) -> Result<()> {
    loop {
        let (send, recv) = connection.accept_bi().await?;
        let root = root.clone();
        // A stream that fails is missed by the client, which says so.
        tokio::spawn(async move { answer(send, recv, &root).await });
    }
}

async fn answer(mut send: SendStream, mut recv: RecvStream, root: &Path) -> Result<()> {
    let request = recv.read_to_end(hq::REQUEST_LEN_MAX).await?;
    match hq::answer(&request, root) {
        Answer::File(content) => {
            send.write_all(&content).await?;
            send.finish()?;
        }
        Answer::Close(_) | Answer::Reset => send.reset(VarInt::from_u32(hq::BAD_REQUEST))?,
    }
    Ok(())
}

async fn run_client(args: &ClientArgs) -> Result<Value> {
    args.refuse(&["v2", "unknown-version"])?;
    args.refuse(http3::LACKS)?;
    let tickets = Arc::new(Tickets::default());
    let tls = Arc::new(tls::client_config(args, Arc::clone(&tickets))?);
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::with_initial(tls, tls::initial_suite())?));
    config.transport_config(transport());
    let endpoint = Endpoint::client(any_port(args.connect))?;
    let (remote, name) = (args.connect, args.server_name.clone());
    let dialer = Dialer { endpoint, config, tickets, remote, name, http3: args.http3 };
    client::run(&dialer, args).await
}

fn any_port(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

struct Dialer {
    endpoint: Endpoint,
    config: ClientConfig,
    tickets: Arc<Tickets>,
    remote: SocketAddr,
    name: String,
    http3: bool,
}

impl client::Dialer for Dialer {
    type Connection = Opened;

    async fn dial(&self, early: bool) -> Result<Opened> {
        let connecting = self.endpoint.connect_with(self.config.clone(), self.remote, &self.name)?;
        let (connection, accepted) = if early {
            match connecting.into_0rtt() {
                Ok((connection, accepted)) => (connection, Some(accepted)),
                Err(_) => return Err("there is no session for early data".into()),
            }
        } else {
            (connecting.await?, None)
        };
        let http = if self.http3 { Some(http3::Requests::begin(connection.clone()).await?) } else { None };
        let early = tokio::sync::Mutex::new(accepted);
        Ok(Opened { connection, http, early, endpoint: self.endpoint.clone(), tickets: Arc::clone(&self.tickets) })
    }

    async fn migrate(&self) -> Result<()> {
        Ok(self.endpoint.rebind(UdpSocket::bind(any_port(self.remote))?)?)
    }
}

struct Opened {
    connection: Connection,
    http: Option<http3::Requests>,
    early: tokio::sync::Mutex<Option<ZeroRttAccepted>>,
    endpoint: Endpoint,
    tickets: Arc<Tickets>,
}

impl client::Connection for Opened {
    async fn get(&self, path: &str) -> Result<Vec<u8>> {
        if let Some(mut http) = self.http.clone() {
            return http.get(path).await;
        }
        let (mut send, mut recv) = self.connection.open_bi().await?;
        send.write_all(&hq::request(path)).await?;
        send.finish()?;
        Ok(recv.read_to_end(FILE_LEN_MAX).await?)
    }

    async fn update_keys(&self) -> Result<()> {
        self.connection.force_key_update();
        Ok(())
    }

    async fn ticket(&self) -> Result<()> {
        self.tickets.available().await;
        Ok(())
    }

    async fn close(self) -> Result<Value> {
        let early = match self.early.lock().await.take() {
            Some(accepted) => Some(accepted.await),
            None => None,
        };
        self.connection.close(VarInt::from_u32(0), b"done");
        self.endpoint.wait_idle().await;
        Ok(json!({ "early_data": early }))
    }
}
