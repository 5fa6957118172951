//! HTTP/3 (RFC 9114) over Warpline, by the transport traits of the [`h3`] crate.
//!
//! [`Connection`] wraps a connection of Warpline whose handshake agreed on [`ALPN`]; `h3::server` and `h3::client` do the
//! rest. It takes both kinds of handles: [`warpline::Connection`], for any thread and runtime, and
//! [`warpline::local::Connection`], for programs inside a worker whose futures need not be `Send`.
//!
//! What it is not: a server of files or a client of URLs. Those are `warpline h3 serve` and `warpline h3 get`.
//!
//! Three things to read first: [`Connection`], [`SendStream`] (what finishing and dropping mean), [`limits`].
//!
//! # What is checked here
//!
//! `h3` leaves some of the protocol's rules to nobody. This crate closes the connection as RFC 9114 and RFC 9204 ask:
//!
//! | the peer | the connection is closed with |
//! |---|---|
//! | sends a frame other than DATA that is longer than [`limits::FRAME_MAX`] | H3_EXCESSIVE_LOAD |
//! | uses a dynamic table of QPACK, which is not offered | QPACK_ENCODER_STREAM_ERROR |
//! | acknowledges dynamic entries that were never sent | QPACK_DECODER_STREAM_ERROR |
//! | ends or resets a stream of QPACK | H3_CLOSED_CRITICAL_STREAM |
//! | opens a second stream of QPACK of one kind, or, as a client, a push stream | H3_STREAM_CREATION_ERROR |
//! | opens, as a server, a push stream that was not allowed | H3_ID_ERROR |
//!
//! Messages with pseudo-header fields that come twice, behind other fields, in trailers or in the wrong direction, and requests
//! without those that they must have or with content of another length than they say, are reset with H3_MESSAGE_ERROR
//! ([`Malformed`]).
//!
//! # A request
//!
//! ```
//! use warpline::{ClientConfig, Endpoint, Identity, ServerConfig};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let id = Identity::generate(["localhost"])?;
//! let server = ServerConfig::with_single_cert(vec![id.certificate.clone()], id.key(), &[warpline_h3::ALPN])?
//!     .transport(warpline_h3::transport_config())?;
//! let server = Endpoint::builder().bind(([127, 0, 0, 1], 0)).server(server).start()?;
//! let address = server.local_addr();
//! tokio::spawn(async move {
//!     let transport = warpline_h3::Connection::new(server.accept().await?).ok()?;
//!     let mut connection = h3::server::builder().build::<_, bytes::Bytes>(transport).await.ok()?;
//!     while let Ok(Some(request)) = connection.accept().await {
//!         let (request, mut stream) = request.resolve_request().await.ok()?;
//!         stream.send_response(http::Response::new(())).await.ok()?;
//!         stream.send_data(request.uri().path().to_owned().into()).await.ok()?;
//!         stream.finish().await.ok()?;
//!     }
//!     Some(())
//! });
//!
//! let trusted = ClientConfig::with_pinned_fingerprint(&id.fingerprint().0, &[warpline_h3::ALPN])?;
//! let client = Endpoint::builder().bind(([127, 0, 0, 1], 0)).start()?;
//! let transport = warpline_h3::Connection::new(client.connect(address, "localhost", trusted).await?)?;
//! let (mut driver, mut requests) = h3::client::new(transport).await?;
//! tokio::spawn(async move { driver.wait_idle().await });
//! let mut stream = requests.send_request(http::Request::get("https://localhost/hello").body(())?).await?;
//! stream.finish().await?;
//! assert_eq!(stream.recv_response().await?.status(), 200);
//! let body = stream.recv_data().await?.map(|mut data| bytes::Buf::copy_to_bytes(&mut data, 6));
//! assert_eq!(body.as_deref(), Some(&b"/hello"[..]));
//! # Ok(()) }
//! ```

#![forbid(unsafe_code)]

mod connection;
mod content;
mod error;
mod fields;
mod frames;
pub mod limits;
mod peer_streams;
mod stream;
mod transport;

pub use connection::{Connection, OpenStreams};
pub use error::{Malformed, Violation, close_code};
pub use stream::{BidiStream, RecvStream, SendStream};
pub use transport::{Pair, RecvHalf, SendHalf, Transport};

use warpline::{Side, TransportConfig};

/// The name of HTTP/3 in the handshake (RFC 9114 section 3.1).
pub const ALPN: &[u8] = b"h3";

/// Settings of the transport for HTTP/3: Warpline's defaults with the numbers of streams from [`limits`].
#[must_use]
pub fn transport_config() -> TransportConfig {
    TransportConfig {
        max_concurrent_bidi: limits::REQUESTS_MAX,
        max_concurrent_uni: limits::UNI_STREAMS_MAX,
        ..TransportConfig::default()
    }
}

/// What the checks of this crate say of a message to `side`, whose stream comes in pieces of `piece` bytes: for the fuzz target, which
/// cuts it in several ways.
///
/// # Errors
/// What a peer would be told of it.
#[doc(hidden)]
pub fn check_stream(side: Side, stream: &[u8], piece: usize) -> Result<(), String> {
    let mut guard = frames::FrameGuard::message(side);
    stream.chunks(piece.max(1)).try_for_each(|piece| guard.follow(piece)).map_err(|fault| format!("{fault:?}"))?;
    guard.end().map_err(|malformed| malformed.to_string())
}
