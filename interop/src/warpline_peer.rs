//! Our own stack as server and as client, speaking `hq-interop` and `echo` like the other peers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use warpline::{
    Backend, ClientConfig, Connection, Endpoint, InterfaceName, IoConfig, RecvStream, SendStream, ServerConfig,
    TlsOptions, Trust, XdpConfig, XdpModes,
};

use crate::hq::{self, Answer};
use crate::identity::Identity;

/// Frames per size of a peer's pools: enough for a few connections, small enough for many tests side by side.
const POOL_FRAMES: usize = 512;

/// A server's configuration that shows `identity` and speaks both protocols.
///
/// # Errors
///
/// When the certificate is not accepted.
pub fn server_config(identity: &Identity) -> io::Result<ServerConfig> {
    ServerConfig::with_single_cert(vec![identity.certificate()], identity.key(), &[hq::ALPN, hq::ECHO_ALPN])
        .map_err(io::Error::other)
}

/// A server on a free port that serves the files in `root`. Needs a tokio runtime; it runs until the endpoint is shut
/// down or dropped.
///
/// # Errors
///
/// When the endpoint cannot start.
pub fn server(config: ServerConfig, root: &Path) -> io::Result<Endpoint> {
    let endpoint = builder(None).server(config).start().map_err(io::Error::other)?;
    tokio::spawn(accept(endpoint.clone(), root.to_owned()));
    Ok(endpoint)
}

/// A client and the configuration with which it trusts `identity` and offers `alpn`.
///
/// # Errors
///
/// When the certificate is not accepted or the endpoint cannot start.
pub fn client(identity: &Identity, alpn: &[u8]) -> io::Result<(Endpoint, Arc<ClientConfig>)> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.certificate()).map_err(io::Error::other)?;
    let config = ClientConfig::with_roots(roots, &[alpn]).map_err(io::Error::other)?;
    Ok((builder(None).start().map_err(io::Error::other)?, Arc::new(config)))
}

/// The same with a configuration whose sessions can outlive the process, and which sends early data.
///
/// # Errors
///
/// As [`client`].
pub fn lasting_client(identity: &Identity, alpn: &[u8]) -> io::Result<(Endpoint, Arc<ClientConfig>)> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.certificate()).map_err(io::Error::other)?;
    let options = TlsOptions { portable_sessions: true, ..TlsOptions::default() };
    let trust = Trust::Roots(Arc::new(roots));
    let mut config = ClientConfig::with_options(&trust, &[alpn], &options, None).map_err(io::Error::other)?;
    config.early_data = true;
    Ok((builder(None).start().map_err(io::Error::other)?, Arc::new(config)))
}

/// Connects to `server`, whose certificate must be for `localhost`.
///
/// # Errors
///
/// When the handshake fails.
pub async fn connect((endpoint, config): &(Endpoint, Arc<ClientConfig>), server: SocketAddr) -> io::Result<Connection> {
    endpoint.connect(server, "localhost", Arc::clone(config)).await.map_err(io::Error::other)
}

/// Fetches one file by `hq-interop`.
///
/// # Errors
///
/// When the stream or the connection ends otherwise than with FIN.
pub async fn get(connection: &Connection, path: &str, len_max: usize) -> io::Result<Vec<u8>> {
    exchange(connection, &hq::request(path), len_max).await
}

/// Sends `data` and FIN on a new stream, and returns what comes back. Sends and receives at the same time.
///
/// # Errors
///
/// When the stream or the connection ends otherwise than with FIN.
pub async fn exchange(connection: &Connection, data: &[u8], len_max: usize) -> io::Result<Vec<u8>> {
    let (mut send, mut recv) = connection.open_bi().await.map_err(io::Error::other)?;
    let send = async {
        send.write_all(data).await.map_err(io::Error::other)?;
        send.finish().map_err(io::Error::other)
    };
    let receive = async { recv.read_to_end(len_max).await.map_err(io::Error::other) };
    let ((), answer) = tokio::try_join!(send, receive)?;
    Ok(answer)
}

/// An endpoint on the kernel's sockets, or on AF_XDP with the program in the driver: the virtual links of the matrix have no
/// zero-copy, and generic mode would not be what was asked for.
pub(crate) fn builder(interface: Option<InterfaceName>) -> warpline::EndpointBuilder {
    let xdp = interface.map(|name| XdpConfig { modes: XdpModes::Copy, ..XdpConfig::new(name) });
    let io = IoConfig {
        backend: if xdp.is_some() { Backend::Xdp } else { Backend::default() },
        xdp,
        large_frames: POOL_FRAMES,
        medium_frames: POOL_FRAMES,
        small_frames: POOL_FRAMES,
        ..IoConfig::default()
    };
    Endpoint::builder().bind((Ipv4Addr::LOCALHOST, 0)).io(io)
}

pub(crate) async fn accept(endpoint: Endpoint, root: PathBuf) {
    while let Some(connection) = endpoint.accept().await {
        tokio::spawn(serve(connection, root.clone()));
    }
}

async fn serve(connection: Connection, root: PathBuf) {
    let is_echo = connection.alpn() == Some(hq::ECHO_ALPN);
    if is_echo {
        tokio::spawn(echo_datagrams(connection.clone()));
    }
    while let Ok((send, recv)) = connection.accept_bi().await {
        let (connection, root) = (connection.clone(), root.clone());
        // A stream that fails is the peer's to report: its test sees that the answer is missing.
        tokio::spawn(async move {
            if is_echo { echo(send, recv).await } else { answer(&connection, send, recv, &root).await }
        });
    }
}

async fn echo(mut send: SendStream, mut recv: RecvStream) -> io::Result<()> {
    while let Some(chunk) = recv.read_chunk(usize::MAX).await.map_err(io::Error::other)? {
        send.write_chunk(chunk).await.map_err(io::Error::other)?;
    }
    send.finish().map_err(io::Error::other)
}

async fn echo_datagrams(connection: Connection) {
    while let Ok(datagram) = connection.recv_datagram().await {
        if connection.send_datagram(datagram).await.is_err() {
            break;
        }
    }
}

async fn answer(connection: &Connection, mut send: SendStream, mut recv: RecvStream, root: &Path) -> io::Result<()> {
    let request = recv.read_to_end(hq::REQUEST_LEN_MAX).await.map_err(io::Error::other)?;
    match hq::answer(&request, root) {
        Answer::File(content) => {
            send.write_all(&content).await.map_err(io::Error::other)?;
            send.finish().map_err(io::Error::other)
        }
        Answer::Close(code) => {
            connection.close(u64::from(code), b"as asked");
            Ok(())
        }
        Answer::Reset => send.reset(u64::from(hq::BAD_REQUEST)).map_err(io::Error::other),
    }
}
