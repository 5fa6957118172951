//! `warpline h3 get`.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use clap::Args;
use h3::error::{Code, StreamError};
use http::header::{ACCEPT, CONTENT_LENGTH, LOCATION, USER_AGENT};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::time::timeout;
use warpline::{
    Choice, ClientConfig, ConnectError, Connection, ConnectionError, EarlyData, Endpoint, MemoryFile, TlsOptions,
    TransportConfig, TransportErrorCode,
};

use super::Failure;
use super::limits::{REDIRECTS_MAX, RESPONSE_HEADERS_MAX, STALL_TIMEOUT};
use super::pin::KeyHash;
use super::tls::Trust;
use super::url::Target;
use crate::crypto::{CryptoArgs, CryptoChoice};
use crate::io::{IoArgs, xdp_report};
use crate::output;

type ClientStream = h3::client::RequestStream<warpline_h3::BidiStream<Connection, Bytes>, Bytes>;

/// Fetch a URL over HTTP/3.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The URL, https.
    url: String,
    /// Write the body to this file, which appears when it is complete; by default to standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Trust the certificate authorities in this PEM file instead of the system's.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Trust whoever holds the key with this hash, in base64, as `warpline h3 serve` prints it.
    #[arg(long, value_name = "HASH", value_parser = KeyHash::parse, conflicts_with_all = ["ca", "insecure"])]
    pin: Option<KeyHash>,
    /// Trust whoever answers. Anybody in between can read and change everything.
    #[arg(long)]
    insecure: bool,
    /// Follow redirections.
    #[arg(short = 'L', long)]
    location: bool,
    /// Give up when no connection comes about within this time.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    connect_timeout: u64,
    /// Keep TLS sessions in this file, which holds secrets: the next fetch from the server begins sooner.
    #[arg(long, value_name = "FILE")]
    sessions: Option<PathBuf>,
    /// Send the request with the first packet where a session of --sessions allows it. Who records it can make the server answer
    /// again.
    #[arg(long)]
    early_data: bool,
    /// Print one JSON object at the end; needs --output.
    #[arg(long, requires = "output")]
    json: bool,
    #[command(flatten)]
    pub io: IoArgs,
    #[command(flatten)]
    crypto: CryptoArgs,
}

/// When what happened, from the beginning.
#[derive(Debug, Default)]
struct Timing {
    resolved: Duration,
    connected: Duration,
    first_byte: Duration,
    total: Duration,
}

/// What came.
struct Report {
    url: String,
    remote: SocketAddr,
    status: StatusCode,
    headers: HeaderMap,
    bytes: u64,
    redirects: usize,
    resumed: bool,
    early_data: EarlyData,
    /// The live back end, and why no faster one.
    io: Choice,
    xdp: serde_json::Value,
    timing: Timing,
}

/// Runs it.
pub fn run(args: &GetArgs) -> ExitCode {
    let outcome =
        output::runtime().map_err(|error| Failure::failed(format!("no threads: {error}"))).and_then(|runtime| {
            let crypto = args.crypto.choose().map_err(|error| Failure::failed(format!("--crypto: {error}")))?;
            Ok((runtime.block_on(fetch(args, &crypto))?, crypto))
        });
    match outcome {
        Ok((report, crypto)) => finish(args, &report, &crypto),
        Err(failure) => failure.report(args.json),
    }
}

fn finish(args: &GetArgs, report: &Report, crypto: &CryptoChoice) -> ExitCode {
    let Report { url, remote, status, headers, bytes, redirects, resumed, early_data, io, xdp, timing } = report;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    if args.json {
        let fields: serde_json::Map<_, _> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
            .collect();
        let object = serde_json::json!({
            "url": url, "remote": remote.to_string(), "status": status.as_u16(), "protocol": "h3", "bytes": bytes,
            "redirects": redirects, "resumed": resumed, "early_data": *early_data == EarlyData::Accepted, "resolve_ms": ms(timing.resolved), "connect_ms": ms(timing.connected),
            "first_byte_ms": ms(timing.first_byte), "total_ms": ms(timing.total),
            "goodput_bps": output::bits_per_second(*bytes, timing.total.saturating_sub(timing.first_byte)),
            "headers": fields, "io": io.kind.name(), "io_why": io.why, "xdp": xdp, "crypto": crypto.name(), "crypto_why": crypto.why, "qat": crypto.qat_report(),
        });
        println!("{object}");
    } else if let Some(path) = &args.output {
        let took = timing.total.as_secs_f64();
        eprintln!("{status}: {} in {took:.2} s, in {}", output::bytes(*bytes), path.display());
    }
    ExitCode::SUCCESS
}

async fn fetch(args: &GetArgs, crypto: &CryptoChoice) -> Result<Report, Failure> {
    let trust = match (&args.ca, args.pin, args.insecure) {
        (Some(file), ..) => Trust::File(file),
        (_, Some(hash), _) => Trust::Key(hash),
        (.., true) => Trust::Anyone,
        (.., false) => Trust::System,
    };
    if args.early_data && args.sessions.is_none() {
        return Err(Failure::usage("--early-data takes the sessions of a file: name it with --sessions"));
    }
    let transport = TransportConfig { keep_alive: Some(Duration::from_secs(10)), ..warpline_h3::transport_config() };
    let options =
        TlsOptions { crypto: crypto.crypto, portable_sessions: args.sessions.is_some(), ..TlsOptions::default() };
    let mut config = trust.client(transport, &options)?;
    config.early_data = args.early_data;
    let (config, file) = (Arc::new(config), args.sessions.as_ref().map(MemoryFile::new));
    let outcome = follow(args, &config, file.as_ref()).await;
    if let Some(file) = file
        && let Err(error) = file.save(&config.memory)
    {
        eprintln!("warpline: the sessions are not kept: {error}");
    }
    outcome
}

/// Fetches from one place after the other, until there is no redirection.
async fn follow(args: &GetArgs, config: &Arc<ClientConfig>, file: Option<&MemoryFile>) -> Result<Report, Failure> {
    let mut target = Target::parse(&args.url)?;
    let began = Instant::now();
    let mut redirects = 0;
    loop {
        if let Some(file) = file {
            let taken = file.load_server(&config.memory, &target.name, target.port);
            taken.map_err(|error| Failure::failed(format!("--sessions: {error}")))?;
        }
        let (mut visit, response, mut stream) = visit(args, &target, config, began).await?;
        visit.timing.first_byte = began.elapsed();
        let (status, headers) = (response.status(), response.headers());
        let next = headers.get(LOCATION).filter(|_| status.is_redirection() && args.location);
        if let Some(location) = next {
            let location = location.to_str().map_err(|_| Failure::failed("a redirection that is no text"))?;
            target = target.redirected(location)?;
            redirects += 1;
            if redirects > REDIRECTS_MAX {
                return Err(Failure::failed(format!("more than {REDIRECTS_MAX} redirections")));
            }
            visit.close().await;
            continue;
        }
        if !status.is_success() {
            let to =
                headers.get(LOCATION).map(|to| format!(" (to {}; --location follows)", to.as_bytes().escape_ascii()));
            visit.close().await;
            return Err(Failure::failed(format!("{}: {status}{}", target.url, to.unwrap_or_default())));
        }
        let bytes = receive(args.output.as_deref(), &mut stream, headers).await?;
        visit.timing.total = began.elapsed();
        drop(stream);
        let (resumed, early_data) = visit.beginning().await;
        let (io, xdp) = (visit.endpoint.io_choice(), xdp_report(&visit.endpoint.workers()));
        let (remote, timing) = visit.close().await;
        let (url, headers) = (target.url.into(), response.into_parts().0.headers);
        return Ok(Report { url, remote, status, headers, bytes, redirects, resumed, early_data, io, xdp, timing });
    }
}

/// Connects and asks. What fails before there is an answer, and was sent early, is tried once more as if nothing were known of
/// the server: the first try did not wait to see whether the address answers.
async fn visit(
    args: &GetArgs,
    target: &Target,
    config: &Arc<ClientConfig>,
    began: Instant,
) -> Result<(Visit, Response<()>, ClientStream), Failure> {
    if args.early_data && config.memory.stats().sessions > 0 {
        let mut visit = Visit::open(args, target, config, began, true).await?;
        let connection = visit.connection.clone();
        let limit = Duration::from_secs(args.connect_timeout);
        let unanswered = async {
            if matches!(timeout(limit, connection.handshake()).await, Ok(Ok(()))) {
                std::future::pending().await
            }
        };
        let answer = tokio::select! {
            answer = visit.request(target) => answer.ok(),
            () = unanswered => None,
        };
        if let Some((response, stream)) = answer {
            return Ok((visit, response, stream));
        }
        connection.close(Code::H3_NO_ERROR.value(), b"");
        visit.close().await;
    }
    let mut visit = Visit::open(args, target, config, began, false).await?;
    let (response, stream) = visit.request(target).await?;
    Ok((visit, response, stream))
}

/// A connection to one host.
struct Visit {
    endpoint: Endpoint,
    connection: Connection,
    remote: SocketAddr,
    requests: h3::client::SendRequest<warpline_h3::OpenStreams, Bytes>,
    driver: tokio::task::JoinHandle<h3::error::ConnectionError>,
    timing: Timing,
}

impl Visit {
    async fn open(
        args: &GetArgs,
        target: &Target,
        config: &Arc<ClientConfig>,
        began: Instant,
        is_early: bool,
    ) -> Result<Self, Failure> {
        let addresses = target.addresses().await?;
        let mut timing = Timing { resolved: began.elapsed(), ..Timing::default() };
        let limit = Duration::from_secs(args.connect_timeout);
        // The time is for all addresses together; none may use up that of those after it.
        let share = limit / u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let mut failure = Failure::disconnected(format!("{}: no address", target.url));
        for remote in addresses {
            let (endpoint, connection) = match connect(args, remote, &target.name, (config, is_early), share).await {
                Ok(connected) => connected,
                Err(Tried::Final(failure)) => return Err(failure),
                Err(Tried::Next(next)) => {
                    failure = next;
                    continue;
                }
            };
            timing.connected = began.elapsed();
            let transport = warpline_h3::Connection::new(connection.clone())
                .map_err(|error| Failure::disconnected(format!("{remote}: {error}")))?;
            let mut builder = h3::client::builder();
            builder.max_field_section_size(RESPONSE_HEADERS_MAX);
            let (mut driver, requests) = builder
                .build::<_, _, Bytes>(transport)
                .await
                .map_err(|error| Failure::disconnected(format!("{remote}: {error}")))?;
            let driver = tokio::spawn(async move { driver.wait_idle().await });
            return Ok(Self { endpoint, connection, remote, requests, driver, timing });
        }
        Err(failure)
    }

    async fn request(&mut self, target: &Target) -> Result<(Response<()>, ClientStream), Failure> {
        let request = Request::get(target.url.as_str())
            .header(USER_AGENT, concat!("warpline/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "*/*")
            .body(())
            .map_err(|error| Failure::usage(format!("{}: {error}", target.url)))?;
        let failed = |error| lost(target.url.as_str(), &error);
        let mut stream = in_time(&target.url, self.requests.send_request(request)).await?.map_err(failed)?;
        in_time(&target.url, stream.finish()).await?.map_err(failed)?;
        loop {
            let response = in_time(&target.url, stream.recv_response()).await?.map_err(failed)?;
            // Of interim responses there may be several (RFC 9114 section 4.1).
            if !response.status().is_informational() {
                return Ok((response, stream));
            }
        }
    }

    /// Whether a session was resumed, and what became of early data; unknown of a connection that is lost.
    async fn beginning(&self) -> (bool, EarlyData) {
        let resumed = self.connection.is_resumed().await.unwrap_or(false);
        (resumed, self.connection.early_data().await.unwrap_or(EarlyData::None))
    }

    /// Closes the connection with H3_NO_ERROR.
    async fn close(self) -> (SocketAddr, Timing) {
        drop(self.requests);
        // How it ended was asked of the response already.
        let _ = self.driver.await;
        self.endpoint.shutdown(Code::H3_NO_ERROR.value(), b"").await;
        (self.remote, self.timing)
    }
}

/// Why an address gave no connection.
enum Tried {
    /// Another one may do better.
    Next(Failure),
    /// No other one will.
    Final(Failure),
}

async fn connect(
    args: &GetArgs,
    remote: SocketAddr,
    name: &str,
    (config, is_early): (&Arc<ClientConfig>, bool),
    limit: Duration,
) -> Result<(Endpoint, Connection), Tried> {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = args
        .io
        .endpoint(Endpoint::builder().bind(any))
        .start()
        .map_err(|error| Tried::Next(Failure::failed(format!("a socket for {remote}: {error}"))))?;
    let config = Arc::clone(config);
    let attempt = async {
        match is_early {
            true => endpoint.connect_early(remote, name, config).await,
            false => endpoint.connect(remote, name, config).await,
        }
    };
    match timeout(limit, attempt).await {
        Ok(Ok(connection)) => Ok((endpoint, connection)),
        Ok(Err(ConnectError::Failed(ConnectionError::Transport(error)))) if is_about_trust(error.code) => {
            let why = error.reason.strip_prefix("TLS: ").unwrap_or(&error.reason);
            let how = "--ca, --pin or --insecure change what is trusted";
            Err(Tried::Final(Failure::failed(format!("{name} ({remote}) is not trusted: {why}; {how}"))))
        }
        Ok(Err(error)) => Err(Tried::Next(Failure::disconnected(format!("{name} ({remote}): {error}")))),
        Err(_) => {
            let what = format!("{name} ({remote}): no answer over QUIC in {:.1} s", limit.as_secs_f64());
            Err(Tried::Next(Failure::disconnected(what)))
        }
    }
}

/// One of the alerts that speak of certificates (RFC 8446 section 6.2), from bad_certificate to access_denied.
fn is_about_trust(code: TransportErrorCode) -> bool {
    code.alert().is_some_and(|alert| (42..=49).contains(&alert) && alert != 47)
}

/// A server that keeps the connection alive and says nothing is given up.
async fn in_time<T>(what: impl std::fmt::Display, next: impl Future<Output = T>) -> Result<T, Failure> {
    timeout(STALL_TIMEOUT, next)
        .await
        .map_err(|_| Failure::disconnected(format!("{what}: nothing came for {} s", STALL_TIMEOUT.as_secs())))
}

/// A response that did not come, or not whole.
fn lost(url: &str, error: &StreamError) -> Failure {
    let what = format!("{url}: {error}");
    match error {
        StreamError::ConnectionError { .. } | StreamError::RemoteTerminate { .. } => Failure::disconnected(what),
        _ => Failure::failed(what),
    }
}

/// Writes the body to where it is wanted, and checks that it is whole.
async fn receive(path: Option<&Path>, stream: &mut ClientStream, headers: &HeaderMap) -> Result<u64, Failure> {
    let promised: Option<u64> = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let Some(path) = path else {
        return copy(stream, &mut io::stdout().lock(), promised, "standard output").await;
    };
    let said = path.display().to_string();
    let failed = |error: io::Error| Failure::failed(format!("{said}: {error}"));
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Beside it and moved into place: a file of this name is whole.
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    let bytes = copy(stream, file.as_file_mut(), promised, &said).await?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(bytes)
}

async fn copy(
    stream: &mut ClientStream,
    to: &mut impl Write,
    promised: Option<u64>,
    name: &str,
) -> Result<u64, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("{name}: {error}"));
    let mut bytes = 0;
    let cut = |error| lost("the response was cut off", &error);
    while let Some(mut data) = in_time("the response was cut off", stream.recv_data()).await?.map_err(cut)? {
        while data.has_remaining() {
            to.write_all(data.chunk()).map_err(failed)?;
            bytes += data.chunk().len() as u64;
            data.advance(data.chunk().len());
        }
    }
    to.flush().map_err(failed)?;
    match promised {
        Some(promised) if promised != bytes => {
            Err(Failure::disconnected(format!("the response has {bytes} bytes, of {promised} that were promised")))
        }
        _ => Ok(bytes),
    }
}
