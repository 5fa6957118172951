//! HTTP/1.1 over TLS: the same files, and word of HTTP/3 (RFC 7838).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALT_SVC, HOST, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body_util::channel::{Channel, Sender};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::body::Pieces;
use super::limits::{CONNECTIONS_MAX, HEADERS_MAX, HEADERS_TIMEOUT, STALL_TIMEOUT};
use super::log::{Entry, Outcome, Protocol};
use super::respond::{Body, respond, text};
use super::serve::Site;
use super::stopped;

/// A reading body that fails ends the connection: the client must not take what it got for the whole.
type ResponseBody = Channel<Bytes, std::io::Error>;

/// Serves until `stopping`, and then until what was begun is delivered.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    site: Arc<Site>,
    mut stopping: watch::Receiver<bool>,
) {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            // A panic is the connection's alone, and was printed.
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut stopping) => break,
        };
        let Some((stream, remote, place)) = accepted else { continue };
        let (acceptor, site, stopping) = (acceptor.clone(), Arc::clone(&site), stopping.clone());
        connections.spawn(async move {
            connection(stream, remote, acceptor, site, stopping).await;
            drop(place);
        });
    }
    while connections.join_next().await.is_some() {}
}

/// The next connection once there is a place for it; `None` if the system gave none.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, remote)) => Some((stream, remote, place)),
        Err(error) => {
            // Out of descriptors, most likely: at once again would burn the processor.
            tracing::warn!("accepting over TCP: {error}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    acceptor: TlsAcceptor,
    site: Arc<Site>,
    mut stopping: watch::Receiver<bool>,
) {
    let stream = match timeout(HEADERS_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!("{remote}: {error}"),
        Err(_) => return tracing::debug!("{remote}: no handshake"),
    };
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(answer(&site, remote, request).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT).max_buf_size(HEADERS_MAX);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("{remote}: {error}");
    }
}

/// The response, whose body a task of its own reads and logs.
async fn answer(site: &Arc<Site>, remote: SocketAddr, request: Request<Incoming>) -> Response<ResponseBody> {
    let (request, _) = request.into_parts();
    let entry = Entry::new(remote, Protocol::Http11, &request.method, request.uri.path(), site.json);
    // RFC 9112 section 3.2.
    let is_whole = request.version < Version::HTTP_11 || request.headers.get_all(HOST).iter().count() == 1;
    let response = if is_whole { respond(&site.root, request).await } else { text(StatusCode::BAD_REQUEST) };
    let (mut parts, body) = response.into_parts();
    if let Ok(value) = HeaderValue::try_from(format!("h3=\":{}\"; ma=86400", site.port)) {
        parts.headers.insert(ALT_SVC, value);
    }
    let (sender, channel) = Channel::new(1);
    let status = parts.status;
    tokio::spawn(async move {
        let (bytes, error) = send(sender, body).await;
        entry.done(&Outcome { status, bytes, error });
    });
    Response::from_parts(parts, channel)
}

/// Sends the body; says how many bytes went and what went wrong.
async fn send(mut sender: Sender<Bytes, std::io::Error>, body: Body) -> (u64, Option<String>) {
    let (mut pieces, mut bytes) = (Pieces::of(body), 0);
    loop {
        let piece = match pieces.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => return (bytes, None),
            Err(error) => {
                let said = error.to_string();
                sender.abort(error);
                return (bytes, Some(said));
            }
        };
        let len = piece.len() as u64;
        match timeout(STALL_TIMEOUT, sender.send_data(piece)).await {
            Ok(Ok(())) => bytes += len,
            Ok(Err(_)) => return (bytes, Some("the client went away".to_owned())),
            Err(_) => {
                sender.abort(std::io::ErrorKind::TimedOut.into());
                return (bytes, Some("the client takes nothing".to_owned()));
            }
        }
    }
}
