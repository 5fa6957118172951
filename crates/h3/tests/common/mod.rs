//! What the tests share: a server of a few resources, and clients of it.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use h3::error::{Code, StreamError};
use http::{Request, Response, StatusCode};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use warpline::{ClientConfig, Endpoint, EndpointBuilder, Identity, IoConfig, ServerConfig};
use warpline_h3::limits::FIELD_SECTION_MAX;

pub type Requests = h3::client::SendRequest<warpline_h3::OpenStreams, Bytes>;
pub type ServerStream = h3::server::RequestStream<warpline_h3::BidiStream<warpline::Connection, Bytes>, Bytes>;

/// Bytes of `/large`.
pub const LARGE: usize = 10_000_000;

/// A builder for loopback with small pools.
pub fn loopback() -> EndpointBuilder {
    let io = IoConfig { large_frames: 64, medium_frames: 128, small_frames: 512, ..IoConfig::default() };
    Endpoint::builder().bind(([127, 0, 0, 1], 0)).io(io)
}

/// A server's and a client's configuration that fit each other.
pub fn configs() -> (ServerConfig, ClientConfig) {
    let id = Identity::generate(["localhost"]).expect("the name is fine");
    let server = ServerConfig::with_single_cert(vec![id.certificate.clone()], id.key(), &[warpline_h3::ALPN])
        .and_then(|config| config.transport(warpline_h3::transport_config()))
        .expect("the configuration is fine");
    let client = ClientConfig::with_pinned_fingerprint(&id.fingerprint().0, &[warpline_h3::ALPN])
        .and_then(|config| config.transport(warpline_h3::transport_config()))
        .expect("the configuration is fine");
    (server, client)
}

/// Bytes that are different everywhere.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31 + i / 251) % 256) as u8).collect()
}

/// A server, and what a client needs to reach it.
pub struct Stage {
    pub server: Endpoint,
    pub client: Endpoint,
    pub config: Arc<ClientConfig>,
    /// Set to have every connection shut down gracefully.
    pub shutdown: watch::Sender<bool>,
}

impl Stage {
    pub fn new() -> Self {
        let (server_config, client_config) = configs();
        let server = loopback().server(server_config).start().expect("loopback is there");
        let client = loopback().start().expect("loopback is there");
        let (shutdown, stopping) = watch::channel(false);
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Some(connection) = accepting.accept().await {
                tokio::spawn(serve(connection, stopping.clone()));
            }
        });
        Self { server, client, config: Arc::new(client_config), shutdown }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// A connection without any HTTP/3.
    pub async fn raw(&self) -> warpline::Connection {
        let config = Arc::clone(&self.config);
        self.client.connect(self.address(), "localhost", config).await.expect("the server answers")
    }

    /// A client, and the task that ends with its connection.
    pub async fn h3(&self) -> (Requests, JoinHandle<h3::error::ConnectionError>) {
        client(self.raw().await).await
    }
}

/// HTTP/3 on a connection, and the task that ends with it.
pub async fn client(connection: warpline::Connection) -> (Requests, JoinHandle<h3::error::ConnectionError>) {
    let transport = warpline_h3::Connection::new(connection).expect("it lives");
    let (mut driver, requests) = h3::client::new(transport).await.expect("the server speaks HTTP/3");
    (requests, tokio::spawn(async move { driver.wait_idle().await }))
}

async fn serve(connection: warpline::Connection, mut stopping: watch::Receiver<bool>) {
    let Ok(transport) = warpline_h3::Connection::new(connection) else { return };
    let mut builder = h3::server::builder();
    builder.max_field_section_size(FIELD_SECTION_MAX);
    let Ok(mut connection) = builder.build::<_, Bytes>(transport).await else { return };
    let mut is_open = true;
    let mut answers = JoinSet::new();
    while is_open || !answers.is_empty() {
        tokio::select! {
            Some(answered) = answers.join_next() => answered.expect("no panic"),
            request = connection.accept() => match request {
                Ok(Some(request)) => {
                    answers.spawn(async move {
                        // Whoever sent a broken request learns of it by the code.
                        let Ok((request, stream)) = request.resolve_request().await else { return };
                        let _ = answer(request, stream).await;
                    });
                }
                Ok(None) | Err(_) => return,
            },
            _ = stopping.changed(), if is_open => {
                is_open = false;
                if connection.shutdown(0).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The resources of the server.
async fn answer(request: Request<()>, mut stream: ServerStream) -> Result<(), StreamError> {
    let path = request.uri().path().to_owned();
    let respond = |status| Response::builder().status(status).body(()).expect("the response is fine");
    match path.as_str() {
        "/large" => {
            stream.send_response(respond(StatusCode::OK)).await?;
            let body = Bytes::from(pattern(LARGE));
            for start in (0..LARGE).step_by(300_000) {
                stream.send_data(body.slice(start..LARGE.min(start + 300_000))).await?;
            }
        }
        "/echo" => {
            stream.send_response(respond(StatusCode::OK)).await?;
            let mut body = Vec::new();
            while let Some(mut data) = stream.recv_data().await? {
                body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
            }
            stream.send_data(body.into()).await?;
        }
        // Ends in the middle of the body, as if something had failed.
        "/broken" => {
            stream.send_response(respond(StatusCode::OK)).await?;
            stream.send_data(Bytes::from_static(b"half of it")).await?;
            return Ok(());
        }
        "/refused" => {
            stream.stop_sending(Code::H3_REQUEST_REJECTED);
            stream.stop_stream(Code::H3_REQUEST_REJECTED);
            return Ok(());
        }
        // Goes on until the client has enough, and then says with which code it was stopped.
        "/endless" => {
            stream.send_response(respond(StatusCode::OK)).await?;
            loop {
                stream.send_data(Bytes::from(vec![7; 50_000])).await?;
            }
        }
        _ => {
            stream.send_response(respond(StatusCode::OK)).await?;
            stream.send_data(path.into()).await?;
        }
    }
    stream.finish().await
}

/// A request for a path of the server.
pub fn get(path: &str) -> Request<()> {
    Request::get(format!("https://localhost{path}")).body(()).expect("the path is fine")
}

/// Fetches a path whole.
pub async fn fetch(requests: &mut Requests, path: &str) -> Result<(StatusCode, Vec<u8>), StreamError> {
    let mut stream = requests.send_request(get(path)).await?;
    stream.finish().await?;
    let status = stream.recv_response().await?.status();
    let mut body = Vec::new();
    while let Some(mut data) = stream.recv_data().await? {
        body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    Ok((status, body))
}
