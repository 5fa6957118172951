//! s2n-quic as an endpoint of the interop matrix, with s2n-tls.
//!
//! s2n-tls offers all three cipher suites and has no way to leave some out, so `--chacha20` rests on the other side's
//! offer; the matrix looks at the suite that was chosen.
#![forbid(unsafe_code)]

mod resumption;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use s2n_quic::application::Error as Code;
use s2n_quic::client::Connect;
use s2n_quic::connection::{Handle, StreamAcceptor};
use s2n_quic::provider::endpoint_limits::Default as EndpointLimits;
use s2n_quic::provider::limits::Limits;
use s2n_quic::provider::tls::s2n_tls;
use s2n_quic::stream::BidirectionalStream;
use s2n_quic::{Client, Server};
use serde_json::{Value, json};
use warpline_interop_kit::args::{ClientArgs, Command, ServerArgs};
use warpline_interop_kit::hq::{self, Answer};
use warpline_interop_kit::{Result, client, report};

use resumption::Tickets;

/// Longer than the longest blackout of a case.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// More than the longest chain of a case; s2n-tls takes 7 otherwise.
const CHAIN_LEN_MAX: u16 = 16;
/// How long a client goes on to retransmit its CONNECTION_CLOSE; there is no way to wait for exactly that.
const CLOSE_TIME: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
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

fn limits() -> Result<Limits> {
    Ok(Limits::new().with_max_idle_timeout(IDLE_TIMEOUT)?)
}

async fn server(args: &ServerArgs) -> Result<Value> {
    args.refuse(&["v2", "http3", "preferred"])?;
    let mut tls = s2n_tls::Server::builder()
        .with_certificate(args.cert.as_path(), args.key.as_path())?
        .with_application_protocols([hq::ALPN])?;
    if args.key_log.is_some() {
        // Takes the file from SSLKEYLOGFILE.
        tls = tls.with_key_logging()?;
    }
    resumption::enable_server(tls.config_mut())?;
    // Past this many handshakes under way every address is validated.
    let handshakes = if args.retry { 0 } else { usize::MAX };
    let mut server = Server::builder()
        .with_tls(tls.build()?)?
        .with_io(args.bind)?
        .with_limits(limits()?)?
        .with_endpoint_limits(EndpointLimits::builder().with_inflight_handshake_limit(handshakes)?.build()?)?
        .start()?;
    report::exit_with_parent();
    report::listening(server.local_addr()?)?;
    while let Some(connection) = server.accept().await {
        let (_, acceptor) = connection.split();
        tokio::spawn(serve(acceptor, args.root.clone()));
    }
    Ok(Value::Null)
}

async fn serve(mut acceptor: StreamAcceptor, root: PathBuf) -> Result<()> {
    while let Some(stream) = acceptor.accept_bidirectional_stream().await? {
        let root = root.clone();
        // A stream that fails is missed by the client, which says so.
        tokio::spawn(async move { answer(stream, &root).await });
    }
    Ok(())
}

async fn answer(stream: BidirectionalStream, root: &Path) -> Result<()> {
    let (mut recv, mut send) = stream.split();
    let mut request = Vec::new();
    while let Some(chunk) = recv.receive().await? {
        request.extend_from_slice(&chunk);
        if request.len() > hq::REQUEST_LEN_MAX {
            return Ok(send.reset(Code::new(hq::BAD_REQUEST.into())?)?);
        }
    }
    match hq::answer(&request, root) {
        Answer::File(content) => {
            send.send(content.into()).await?;
            send.close().await?;
        }
        Answer::Close(_) | Answer::Reset => send.reset(Code::new(hq::BAD_REQUEST.into())?)?,
    }
    Ok(())
}

async fn run_client(args: &ClientArgs) -> Result<Value> {
    args.refuse(&["zero-rtt", "key-update", "v2", "http3", "unknown-version", "migrate"])?;
    let tickets = args.resume.then(Arc::<Tickets>::default);
    let mut tls = s2n_tls::Client::builder()
        .with_empty_trust_store()?
        .with_certificate(args.ca.as_path())?
        .with_max_cert_chain_depth(CHAIN_LEN_MAX)?
        .with_application_protocols([hq::ALPN])?;
    if args.key_log.is_some() {
        tls = tls.with_key_logging()?;
    }
    if let Some(tickets) = &tickets {
        resumption::enable_client(tls.config_mut(), tickets)?;
    }
    let any_port: SocketAddr = match args.connect {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let client = Client::builder().with_tls(tls.build()?)?.with_io(any_port)?.with_limits(limits()?)?.start()?;
    let dialer = Dialer { client, remote: args.connect, name: args.server_name.clone(), tickets };
    client::run(&dialer, args).await
}

struct Dialer {
    client: Client,
    remote: SocketAddr,
    name: String,
    tickets: Option<Arc<Tickets>>,
}

impl client::Dialer for Dialer {
    type Connection = Opened;

    async fn dial(&self, _early: bool) -> Result<Opened> {
        let connect = Connect::new(self.remote).with_server_name(self.name.as_str());
        let mut connection = self.client.connect(connect).await?;
        connection.keep_alive(true)?;
        Ok(Opened { handle: connection.handle(), tickets: self.tickets.clone() })
    }

    async fn migrate(&self) -> Result<()> {
        Err("the option has been refused".into())
    }
}

#[derive(Clone)]
struct Opened {
    handle: Handle,
    tickets: Option<Arc<Tickets>>,
}

impl client::Connection for Opened {
    async fn get(&self, path: &str) -> Result<Vec<u8>> {
        let (mut recv, mut send) = self.handle.clone().open_bidirectional_stream().await?.split();
        send.send(hq::request(path).into()).await?;
        send.finish()?;
        let mut answer = Vec::new();
        while let Some(chunk) = recv.receive().await? {
            answer.extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    async fn update_keys(&self) -> Result<()> {
        Err("the option has been refused".into())
    }

    async fn ticket(&self) -> Result<()> {
        if let Some(tickets) = &self.tickets {
            tickets.available().await;
        }
        Ok(())
    }

    async fn close(self) -> Result<Value> {
        self.handle.close(Code::UNKNOWN);
        tokio::time::sleep(CLOSE_TIME).await;
        Ok(json!({}))
    }
}
