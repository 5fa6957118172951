//! TLS over the reactor's sockets: `rustls` knows only [`Read`] and [`Write`], and so does a fiber.

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::ServerName;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use warpline::Identity;
use warpline_fiber::reactor::TcpStream;

/// The exchange's name in its certificate.
pub const NAME: &str = "localhost";

/// Bytes of a request's or an answer's head at most.
const HEAD_MAX: usize = 4096;

/// What the exchange serves with and what its clients trust.
pub struct Configs {
    pub server: Arc<ServerConfig>,
    pub client: Arc<ClientConfig>,
}

impl Configs {
    /// With a certificate made for this run, which the clients' verifier accepts and no other.
    pub fn generate() -> Result<Configs, String> {
        let text = |error: rustls::Error| error.to_string();
        let identity = Identity::generate([NAME]).map_err(|error| error.to_string())?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(text)?
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate.clone()], identity.key())
            .map_err(text)?;
        let mut roots = RootCertStore::empty();
        roots.add(identity.certificate.clone()).map_err(text)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = verifier.build().map_err(|error| error.to_string())?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(text)?
            .with_webpki_verifier(verifier)
            .with_no_client_auth();
        Ok(Configs { server: Arc::new(server), client: Arc::new(client) })
    }
}

/// The exchange's end of a connection.
pub type Served = StreamOwned<ServerConnection, TcpStream>;

/// A client's end.
pub type Connected = StreamOwned<ClientConnection, TcpStream>;

/// Connects and verifies that the peer is the exchange. Fails if it is not.
pub fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Connected> {
    let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
    let mut tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(tls, stream))
}

/// Serves a connection.
pub fn accept(stream: TcpStream, config: &Arc<ServerConfig>) -> io::Result<Served> {
    stream.set_nodelay(true)?;
    Ok(StreamOwned::new(ServerConnection::new(config.clone()).map_err(io::Error::other)?, stream))
}

/// Reads up to the empty line that ends a head of HTTP, and what came with it. Fails on the stream's end, and on a head of
/// more than [`HEAD_MAX`] bytes.
pub fn read_head(stream: &mut impl Read) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8(bytes).map_err(io::Error::other)?, rest));
        }
        let mut buffer = [0; 1024];
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if bytes.len() > HEAD_MAX => return Err(io::Error::other("the head of a message is too long")),
            len => bytes.extend_from_slice(&buffer[..len]),
        }
    }
}

/// A stream of which something was read already.
pub struct Replayed<S> {
    pub read: io::Cursor<Vec<u8>>,
    pub stream: S,
}

impl<S: Read> Read for Replayed<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.read.read(buffer)? {
            0 => self.stream.read(buffer),
            len => Ok(len),
        }
    }
}

impl<S: Write> Write for Replayed<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_end_at_the_empty_line_and_in_time() {
        let (head, rest) = read_head(&mut &b"GET / HTTP/1.1\r\n\r\nrest"[..]).expect("it is whole");
        assert_eq!((&*head, &*rest), ("GET / HTTP/1.1\r\n\r\n", &b"rest"[..]));
        assert!(read_head(&mut &b"GET / HTTP/1.1\r\n"[..]).is_err());
        assert!(read_head(&mut io::repeat(b'x')).is_err());
    }
}
