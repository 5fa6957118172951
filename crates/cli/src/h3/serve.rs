//! `warpline h3 serve`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use h3::error::{Code, StreamError};
use http::header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE};
use http::{Request, Response};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use warpline::{Connection, Endpoint};

use super::body::Pieces;
use super::files::Root;
use super::limits::{CONNECTIONS_MAX, HEADERS_TIMEOUT, REQUESTS_MAX, SHUTDOWN_TIMEOUT, STALL_TIMEOUT};
use super::log::{Entry, Outcome, Protocol};
use super::respond::{Body, respond};
use super::tls::Shown;
use super::{Failure, http1, stopped};
use crate::crypto::{CryptoArgs, CryptoChoice};
use crate::io::{IoArgs, growing, xdp_report};
use crate::output;
use crate::signals::Signals;

type Transport = warpline_h3::Connection;
type ServerStream = h3::server::RequestStream<warpline_h3::BidiStream<Connection, Bytes>, Bytes>;

/// Serve the files of a directory over HTTP/3.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The directory whose files are served. Nothing outside of it is, whatever is asked for.
    dir: PathBuf,
    /// Address to serve on; port 0 takes a free one.
    #[arg(long, default_value = "[::]:4433")]
    bind: SocketAddr,
    /// The certificate with its chain, PEM. Without it a self-signed one is made.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The key of the certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// A name for the self-signed certificate; may be given several times.
    #[arg(long = "name", value_name = "NAME", default_value = "localhost", conflicts_with = "cert")]
    names: Vec<String>,
    /// Number of workers for HTTP/3.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Add workers under load, up to this many, and remove them again without; on AF_XDP those that own queues stay.
    #[arg(long, value_name = "WORKERS")]
    max_workers: Option<usize>,
    /// Serve the same over HTTP/1.1 on this TCP port, and tell clients there of HTTP/3 (Alt-Svc); 0 takes a free one.
    #[arg(long, value_name = "PORT")]
    http1: Option<u16>,
    /// List the directories that have no index.html; entries that begin with a dot are left out.
    #[arg(long)]
    list: bool,
    /// Print JSON: one object when ready, one for each request.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub io: IoArgs,
    #[command(flatten)]
    crypto: CryptoArgs,
}

/// What is served, and how it is said.
#[derive(Debug)]
pub struct Site {
    /// The files.
    pub root: Arc<Root>,
    /// The UDP port of HTTP/3.
    pub port: u16,
    /// Lines for machines.
    pub json: bool,
}

/// Runs it until Ctrl-C or SIGTERM.
pub fn run(args: &ServeArgs) -> ExitCode {
    let outcome = output::runtime()
        .map_err(|error| Failure::failed(format!("no threads: {error}")))
        .and_then(|runtime| runtime.block_on(serve(args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(args.json),
    }
}

/// Every open response holds a file, every connection over TCP a socket: shells give a program fewer than it may have.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    if let Err(error) = raised {
        tracing::warn!("no more than {:?} open files: {error}", limit.current);
    }
}

async fn serve(args: &ServeArgs) -> Result<(), Failure> {
    allow_many_files();
    let mut signals = Signals::take().map_err(|error| Failure::failed(format!("signals: {error}")))?;
    let root = Root::open(&args.dir, args.list)
        .map_err(|error| Failure::failed(format!("{}: {error}", args.dir.display())))?;
    let shown = match (&args.cert, &args.key) {
        (Some(certificate), Some(key)) => Shown::load(certificate, key)?,
        _ => Shown::generate(args.names.iter().map(String::as_str))?,
    };
    let crypto = args.crypto.choose().map_err(|error| Failure::failed(format!("--crypto: {error}")))?;
    let builder = Endpoint::builder()
        .bind(args.bind)
        .workers(args.workers.into())
        .server(shown.quic(warpline_h3::transport_config(), crypto.crypto)?);
    let endpoint = args
        .io
        .endpoint(growing(builder, args.max_workers))
        .start()
        .map_err(|error| Failure::failed(format!("serving on {}: {error}", args.bind)))?;
    let port = endpoint.local_addr().port();
    let site = Arc::new(Site { root: Arc::new(root), port, json: args.json });
    let (stop, stopping) = watch::channel(false);
    let mut tcp = None;
    if let Some(port) = args.http1 {
        let failed = |error| Failure::failed(format!("TCP port {port}: {error}"));
        let listener = TcpListener::bind(SocketAddr::new(args.bind.ip(), port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let serving = http1::serve(listener, shown.tcp()?, Arc::clone(&site), stopping.clone());
        tcp = Some((address, tokio::spawn(serving)));
    }
    announce(args, &endpoint, (&shown, &crypto), tcp.as_ref().map(|(address, _)| *address))?;
    let serving = tokio::spawn(accept(endpoint.clone(), site, stopping));
    signals.next().await;
    stop.send_replace(true);
    let ended = async {
        // A panic was printed.
        let _ = serving.await;
        if let Some((_, tcp)) = tcp {
            let _ = tcp.await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = tokio::time::sleep(SHUTDOWN_TIMEOUT) => eprintln!("warpline: some responses took too long and were cut off"),
        () = signals.next() => eprintln!("warpline: asked twice; some responses were cut off"),
    }
    endpoint.shutdown(Code::H3_NO_ERROR.value(), b"the server ends").await;
    Ok(())
}

fn announce(
    args: &ServeArgs,
    endpoint: &Endpoint,
    (shown, crypto): (&Shown, &CryptoChoice),
    tcp: Option<SocketAddr>,
) -> Result<(), Failure> {
    let (address, fingerprint) = (endpoint.local_addr(), shown.key_hash()?);
    let host = args.names.first().filter(|_| shown.is_self_signed).map_or("HOST", String::as_str);
    let url = format!("https://{host}:{}/", address.port());
    let io = endpoint.io_choice();
    if args.json {
        let ready = serde_json::json!({
            "ready": true, "addr": address.to_string(), "url": url, "spki_sha256": fingerprint.to_string(),
            "self_signed": shown.is_self_signed, "http1": tcp.map(|address| address.to_string()), "io": io.kind.name(), "io_why": io.why,
            "xdp": xdp_report(&endpoint.workers()), "crypto": crypto.name(), "crypto_why": crypto.why,
        });
        println!("{ready}");
    } else {
        eprintln!("serving {} on {address} ({}): {url}", args.dir.display(), io.kind);
        if let Some(tcp) = tcp {
            eprintln!("also over HTTP/1.1 on {tcp}: https://{host}:{}/", tcp.port());
        }
        eprintln!("key fingerprint (SHA-256 of the public key): {fingerprint}");
        if shown.is_self_signed {
            eprintln!("to fetch: warpline h3 get {url} --pin {fingerprint}");
            eprintln!(
                "for Chromium: --origin-to-force-quic-on={host}:{} --ignore-certificate-errors-spki-list={fingerprint}",
                address.port()
            );
        }
        eprintln!("stop with Ctrl-C");
    }
    // Whoever reads it from a pipe gets it now.
    let _ = std::io::stdout().flush();
    Ok(())
}

/// Serves HTTP/3 until `stopping`, and then until what was begun is delivered.
async fn accept(endpoint: Endpoint, site: Arc<Site>, mut stopping: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let connection = tokio::select! {
            connection = endpoint.accept() => connection,
            // A panic is the connection's alone, and was printed.
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut stopping) => break,
        };
        let Some(connection) = connection else { break };
        if connections.len() >= CONNECTIONS_MAX {
            connection.close(Code::H3_EXCESSIVE_LOAD.value(), b"too many connections");
            continue;
        }
        let (site, stopping) = (Arc::clone(&site), stopping.clone());
        connections.spawn(async move {
            let remote = connection.remote();
            if let Err(error) = serve_connection(connection, site, stopping).await
                && !error.is_h3_no_error()
            {
                tracing::debug!("{remote}: {error}");
            }
        });
    }
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(
    connection: Connection,
    site: Arc<Site>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), h3::error::ConnectionError> {
    let remote = connection.remote();
    // Not the handles of a worker, for which alone this can fail.
    let Ok(transport) = Transport::new(connection) else { return Ok(()) };
    let mut builder = h3::server::builder();
    builder.max_field_section_size(warpline_h3::limits::FIELD_SECTION_MAX);
    let mut connection = builder.build::<_, Bytes>(transport).await?;
    let mut requests = JoinSet::new();
    let ended = take_requests(&mut connection, &mut requests, remote, &site, &mut stopping).await;
    // If the connection is lost these see it at once, and say in the log how far they came.
    while requests.join_next().await.is_some() {}
    ended
}

/// Until the connection ends, or `stopping` and nothing is under way: then it is over, and closed with H3_NO_ERROR.
async fn take_requests(
    connection: &mut h3::server::Connection<Transport, Bytes>,
    requests: &mut JoinSet<()>,
    remote: SocketAddr,
    site: &Arc<Site>,
    stopping: &mut watch::Receiver<bool>,
) -> Result<(), h3::error::ConnectionError> {
    let places = Arc::new(Semaphore::new(REQUESTS_MAX));
    let mut is_open = true;
    while is_open || !requests.is_empty() {
        let request = tokio::select! {
            request = next_request(connection, &places) => request?,
            Some(_) = requests.join_next() => continue,
            () = stopped(stopping), if is_open => {
                is_open = false;
                connection.shutdown(0).await?;
                continue;
            }
        };
        let Some((request, place)) = request else { break };
        let site = Arc::clone(site);
        requests.spawn(async move {
            serve_request(request, remote, &site).await;
            drop(place);
        });
    }
    Ok(())
}

type Next = (h3::server::RequestResolver<Transport, Bytes>, tokio::sync::OwnedSemaphorePermit);

/// The next request once there is a place for it. May be given up at any time.
async fn next_request(
    connection: &mut h3::server::Connection<Transport, Bytes>,
    places: &Arc<Semaphore>,
) -> Result<Option<Next>, h3::error::ConnectionError> {
    // Nobody closes the semaphore.
    let Ok(place) = Arc::clone(places).acquire_owned().await else { return Ok(None) };
    Ok(connection.accept().await?.map(|request| (request, place)))
}

async fn serve_request(request: h3::server::RequestResolver<Transport, Bytes>, remote: SocketAddr, site: &Site) {
    // Whoever sends a broken request or none has been told so by its code; given up, the stream is reset.
    let (request, mut stream) = match timeout(HEADERS_TIMEOUT, request.resolve_request()).await {
        Ok(Ok(request)) => request,
        Ok(Err(error)) => return tracing::debug!("{remote}: {error}"),
        Err(_) => return tracing::debug!("{remote}: headers that never end"),
    };
    if !is_whole(&request) {
        stream.stop_sending(Code::H3_MESSAGE_ERROR);
        return stream.stop_stream(Code::H3_MESSAGE_ERROR);
    }
    let entry = Entry::new(remote, Protocol::H3, request.method(), request.uri().path(), site.json);
    let (request, ()) = request.into_parts();
    let response = respond(&site.root, request).await;
    let status = response.status();
    let mut bytes = 0;
    let sent = send(&mut stream, response, &mut bytes).await;
    let error = sent.err().inspect(|_| {
        // Nothing that was cut off is taken for the whole.
        stream.stop_stream(Code::H3_INTERNAL_ERROR);
    });
    entry.done(&Outcome { status, bytes, error });
}

/// Is well-formed also where `h3` does not look: it has none of the fields that are about a connection of HTTP/1.1 (RFC 9114
/// section 4.2).
fn is_whole(request: &Request<()>) -> bool {
    let headers = request.headers();
    let connection = [CONNECTION, TRANSFER_ENCODING, UPGRADE];
    let old = ["keep-alive", "proxy-connection"];
    if connection.iter().any(|name| headers.contains_key(name)) || old.iter().any(|name| headers.contains_key(*name)) {
        return false;
    }
    headers.get(TE).is_none_or(|te| te == "trailers")
}

/// Sends the response; done when the client has all of it.
async fn send(stream: &mut ServerStream, response: Response<Body>, bytes: &mut u64) -> Result<(), String> {
    let (parts, body) = response.into_parts();
    within(stream.send_response(Response::from_parts(parts, ()))).await?;
    let mut pieces = Pieces::of(body);
    while let Some(piece) = pieces.next().await.map_err(|error| error.to_string())? {
        let len = piece.len() as u64;
        within(stream.send_data(piece)).await?;
        *bytes += len;
    }
    within(async {
        match stream.finish().await {
            // Who closes in peace, before saying that all of it came, has what it wanted.
            Err(error) if error.is_h3_no_error() => Ok(()),
            finished => finished,
        }
    })
    .await
}

async fn within(sending: impl Future<Output = Result<(), StreamError>>) -> Result<(), String> {
    match timeout(STALL_TIMEOUT, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the client takes nothing".to_owned()),
    }
}
