//! quinn as server and as client, speaking `hq-interop` and `echo` like the aioquic scripts.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use rustls::crypto::CryptoProvider;

use crate::hq::{self, Answer};
use crate::identity::Identity;

/// Bytes that an echoed stream moves at a time.
const ECHO_CHUNK: usize = 64 << 10;

/// A server on a free port that serves the files in `root`; it stops when the endpoint is closed. Needs a tokio runtime.
///
/// # Errors
///
/// When the certificate is not accepted or the socket cannot be had.
pub fn server(identity: &Identity, root: &Path) -> io::Result<Endpoint> {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate()], identity.key())
        .map_err(io::Error::other)?;
    tls.alpn_protocols = vec![hq::ALPN.to_vec(), hq::ECHO_ALPN.to_vec()];
    // RFC 9001, section 4.6.1: the only value that QUIC allows besides 0.
    tls.max_early_data_size = u32::MAX;
    let quic = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let config = quinn::ServerConfig::with_crypto(Arc::new(quic));
    let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into())?;
    tokio::spawn(accept(endpoint.clone(), root.to_owned()));
    Ok(endpoint)
}

/// A client endpoint that trusts `identity` and offers `alpn`. Needs a tokio runtime.
///
/// # Errors
///
/// When the certificate is not accepted or the socket cannot be had.
pub fn client(identity: &Identity, alpn: &[u8]) -> io::Result<Endpoint> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.certificate()).map_err(io::Error::other)?;
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls.enable_early_data = true;
    let quic = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
    let mut endpoint = Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into())?;
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(quic)));
    Ok(endpoint)
}

/// Connects to `server`, whose certificate must be for `localhost`.
///
/// # Errors
///
/// When the handshake fails.
pub async fn connect(client: &Endpoint, server: SocketAddr) -> io::Result<Connection> {
    Ok(client.connect(server, "localhost").map_err(io::Error::other)?.await?)
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
    let (mut send, mut recv) = connection.open_bi().await?;
    let send = async {
        send.write_all(data).await?;
        send.finish().map_err(io::Error::other)
    };
    let receive = async { recv.read_to_end(len_max).await.map_err(io::Error::other) };
    let ((), answer) = tokio::try_join!(send, receive)?;
    Ok(answer)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

async fn accept(endpoint: Endpoint, root: PathBuf) {
    while let Some(incoming) = endpoint.accept().await {
        let root = root.clone();
        tokio::spawn(async move {
            if let Ok(connection) = incoming.await {
                serve(connection, root).await;
            }
        });
    }
}

async fn serve(connection: Connection, root: PathBuf) {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let is_echo = data.and_then(|data| data.protocol).is_some_and(|alpn| alpn == hq::ECHO_ALPN);
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
    while let Some(chunk) = recv.read_chunk(ECHO_CHUNK, true).await? {
        send.write_all(&chunk.bytes).await?;
    }
    send.finish().map_err(io::Error::other)
}

async fn echo_datagrams(connection: Connection) {
    while let Ok(datagram) = connection.read_datagram().await {
        if connection.send_datagram(datagram).is_err() {
            break;
        }
    }
}

async fn answer(connection: &Connection, mut send: SendStream, mut recv: RecvStream, root: &Path) -> io::Result<()> {
    let request = recv.read_to_end(hq::REQUEST_LEN_MAX).await.map_err(io::Error::other)?;
    match hq::answer(&request, root) {
        Answer::File(content) => {
            send.write_all(&content).await?;
            send.finish().map_err(io::Error::other)
        }
        Answer::Close(code) => {
            connection.close(VarInt::from_u32(code), b"as asked");
            Ok(())
        }
        Answer::Reset => send.reset(VarInt::from_u32(hq::BAD_REQUEST)).map_err(io::Error::other),
    }
}
