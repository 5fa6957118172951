//! A connection, usable on any thread.

use crate::engine::{ConnectError, EngineError, OperationError};
use crate::local::{self, Hold, Roaming};
use crate::remote::keeper::{self, Ask, Kind, Outlets, Shared};
use crate::remote::{RecvStream, SendStream};
use crate::{CertificateDer, Chunk, ConnectionError, ConnectionStats, ExportError, Side};
use std::fmt;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use warpline_ring::mailbox::SendError;
use warpline_ring::oneshot::{Reply, oneshot};

pub use crate::local::SendDatagramError;

/// A QUIC connection, usable on any thread and under any runtime.
///
/// Clones name the same connection. When the last clone and the last of its streams are dropped, the connection is
/// closed with code 0, as soon as all finished streams have been delivered. It ends with its
/// [`Endpoint`](crate::Endpoint), which has to be kept for as long.
///
/// Every `async fn` may be cancelled without losing anything.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    facts: Facts,
    /// Those of a handshake that was not complete when the connection was made.
    settled: OnceLock<Facts>,
    shared: Arc<Shared>,
    outlets: Outlets,
}

/// What the handshake settled, or has settled so far.
pub(super) struct Facts {
    side: Side,
    remote: SocketAddr,
    local: Option<IpAddr>,
    alpn: Option<Vec<u8>>,
    server_name: Option<String>,
    peer_certificates: Option<Vec<CertificateDer<'static>>>,
}

impl Connection {
    /// Makes a connection of this worker usable elsewhere. On the worker.
    pub(crate) fn export(conn: local::Connection) -> Result<Self, OperationError> {
        let facts = Facts::of(&conn)?;
        let shared = Arc::new(Shared::default());
        let outlets = keeper::start(conn, Arc::clone(&shared))?;
        Ok(Self(Arc::new(Inner { facts, settled: OnceLock::new(), shared, outlets })))
    }

    /// Opens a bidirectional stream, waiting while the peer allows no more. The peer learns of it with the first
    /// bytes sent.
    ///
    /// # Errors
    /// If the connection ends.
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), OperationError> {
        self.ask(Ask::OpenBi).await?.map_err(|error| self.explain(error))
    }

    /// Opens a unidirectional stream, waiting while the peer allows no more.
    ///
    /// # Errors
    /// If the connection ends.
    pub async fn open_uni(&self) -> Result<SendStream, OperationError> {
        self.ask(Ask::OpenUni).await?.map_err(|error| self.explain(error))
    }

    /// Waits for the peer to open a bidirectional stream.
    ///
    /// # Errors
    /// If the connection ends; streams that the peer had opened before are handed out first.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), OperationError> {
        poll_fn(|cx| self.poll_accept_bi(cx)).await
    }

    /// Waits for the peer to open a unidirectional stream.
    ///
    /// # Errors
    /// As [`accept_bi`](Self::accept_bi).
    pub async fn accept_uni(&self) -> Result<RecvStream, OperationError> {
        poll_fn(|cx| self.poll_accept_uni(cx)).await
    }

    /// See [`accept_bi`](Self::accept_bi).
    ///
    /// # Errors
    /// As there.
    pub fn poll_accept_bi(&self, cx: &Context<'_>) -> Poll<Result<(SendStream, RecvStream), OperationError>> {
        self.0.shared.want(Kind::Bi);
        self.0.outlets.bi.poll_recv(cx).map(|pair| pair.ok_or_else(|| self.end()))
    }

    /// See [`accept_uni`](Self::accept_uni).
    ///
    /// # Errors
    /// As [`accept_bi`](Self::accept_bi).
    pub fn poll_accept_uni(&self, cx: &Context<'_>) -> Poll<Result<RecvStream, OperationError>> {
        self.0.shared.want(Kind::Uni);
        self.0.outlets.uni.poll_recv(cx).map(|stream| stream.ok_or_else(|| self.end()))
    }

    /// The next datagram from the peer.
    ///
    /// # Errors
    /// If the connection ends; datagrams that arrived before are handed out first.
    pub async fn recv_datagram(&self) -> Result<Chunk, OperationError> {
        self.0.shared.want(Kind::Datagram);
        poll_fn(|cx| self.0.outlets.datagrams.poll_recv(cx)).await.ok_or_else(|| self.end())
    }

    /// Sends a datagram (RFC 9221), unreliably and in no order; waits while the queue to the worker is full.
    ///
    /// # Errors
    /// [`SendDatagramError`]. A datagram that becomes too long for the path on its way to the worker is lost.
    pub async fn send_datagram(&self, datagram: Chunk) -> Result<(), SendDatagramError> {
        match self.max_datagram_size() {
            None => return Err(SendDatagramError::Unsupported),
            Some(max) if datagram.len() > max => return Err(SendDatagramError::TooLarge),
            Some(_) => {}
        }
        let mut datagram = Some(datagram);
        let attempt = || {
            if let Some(error) = self.0.shared.ended() {
                return Some(Err(OperationError::Closed(error.clone())));
            }
            match self.0.outlets.outbox.send(datagram.take()?) {
                Ok(true) => self.0.shared.wake_keeper(),
                Ok(false) => {}
                Err(SendError::Full(back)) => {
                    datagram = Some(back);
                    return None;
                }
                Err(SendError::Closed(_)) => return Some(Err(EngineError::Stopped.into())),
            }
            Some(Ok(()))
        };
        let mut attempt = attempt;
        Ok(poll_fn(|cx| self.0.shared.poll_room(cx, &mut attempt)).await?)
    }

    /// The longest datagram that can be sent, in bytes, as of the last one; `None` if the peer takes none.
    #[must_use]
    pub fn max_datagram_size(&self) -> Option<usize> {
        self.0.shared.datagram_max()
    }

    /// Closes the connection at once: what was not delivered is lost, and the peer is told `code` (below 2^62) and
    /// `reason` (cut to what fits a packet). The first call counts.
    pub fn close(&self, code: u64, reason: &[u8]) {
        self.0.shared.close(code, reason);
    }

    /// Waits for the connection's end and says how it came.
    pub async fn closed(&self) -> ConnectionError {
        poll_fn(|cx| self.0.shared.poll_ended(cx)).await
    }

    /// How the connection ended; `None` while it lives.
    #[must_use]
    pub fn close_reason(&self) -> Option<ConnectionError> {
        self.0.shared.ended().cloned()
    }

    /// Which side this is.
    #[must_use]
    pub fn side(&self) -> Side {
        self.facts().side
    }

    /// The peer's address when the handshake was complete. It may move; [`stats`](Self::stats) and the like go on.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.facts().remote
    }

    /// The address that the peer sent to, if the socket tells.
    #[must_use]
    pub fn local(&self) -> Option<IpAddr> {
        self.facts().local
    }

    /// The application protocol agreed on.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.facts().alpn.as_deref()
    }

    /// The name that the client asked for (server only).
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.facts().server_name.as_deref()
    }

    /// The peer's certificate chain, its own first.
    #[must_use]
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.facts().peer_certificates.as_deref()
    }

    /// `len` bytes of a secret that both sides can derive and nobody else (RFC 8446 section 7.5).
    ///
    /// # Errors
    /// If the connection has ended; the inner error is TLS's refusal.
    pub async fn export_keying_material(
        &self,
        len: usize,
        label: &[u8],
        context: &[u8],
    ) -> Result<Result<Vec<u8>, ExportError>, OperationError> {
        let (label, context) = (label.to_vec(), context.to_vec());
        self.question(move |conn| {
            let mut out = vec![0; len];
            let exported = conn.export_keying_material(&mut out, &label, &context)?;
            Ok(exported.map(|()| out))
        })
        .await
    }

    /// Counters and estimates.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn stats(&self) -> Result<ConnectionStats, OperationError> {
        self.question(|conn| conn.stats()).await
    }

    /// Updates the keys that protect packets with the next packet that may (RFC 9001 section 6). Connections do so by themselves
    /// long before keys wear out; [`ConnectionStats::key_updates`] counts them.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn update_keys(&self) -> Result<(), OperationError> {
        self.question(|conn| conn.update_keys()).await
    }

    /// The address that the peer sees this side at, if it was asked ([`AddressDiscovery`](crate::AddressDiscovery)) and has
    /// said so. Only the peer's word.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn observed_address(&self) -> Result<Option<SocketAddr>, OperationError> {
        self.question(|conn| conn.observed_address()).await
    }

    /// Waits until the handshake is complete: what came early until then may be a replay (RFC 8446 section 8), and what
    /// was sent early may still be refused. Only a connection of
    /// [`Endpoint::connect_early`](crate::Endpoint::connect_early), or one whose client sends early data, is ever
    /// not there yet; what its handshake settles, such as [`alpn`](Self::alpn) and
    /// [`peer_certificates`](Self::peer_certificates), is only certain after this.
    ///
    /// # Errors
    /// If the handshake fails.
    pub async fn handshake(&self) -> Result<(), ConnectError> {
        if self.0.settled.get().is_none() {
            let settled = self.ask(Ask::Handshake).await.and_then(|done| done.map_err(|error| self.explain(error)))?;
            // Whoever comes second has the same.
            let _ = self.0.settled.set(settled);
        }
        Ok(())
    }

    fn facts(&self) -> &Facts {
        self.0.settled.get().unwrap_or(&self.0.facts)
    }

    pub(super) async fn question<T: Send + 'static>(
        &self,
        question: impl FnOnce(&local::Connection<Roaming>) -> Result<T, OperationError> + Send + 'static,
    ) -> Result<T, OperationError> {
        let ask = |reply: Reply<_>| Ask::Question(Box::new(move |conn| reply.send(question(conn))));
        self.ask(ask).await?.map_err(|error| self.explain(error))
    }

    /// Asks the keeper, wherever it is. Cancelled, what was asked for is done or not.
    async fn ask<T: Send>(&self, make: impl FnOnce(Reply<T>) -> Ask) -> Result<T, OperationError> {
        let (reply, answer) = oneshot();
        let mut ask = Some(make(reply));
        let mut attempt = || match self.0.outlets.asks.send(ask.take()?) {
            Ok(first) => {
                if first {
                    self.0.shared.wake_keeper();
                }
                Some(true)
            }
            Err(SendError::Full(back)) => {
                ask = Some(back);
                None
            }
            Err(SendError::Closed(_)) => Some(false),
        };
        let asked = poll_fn(|cx| self.0.shared.poll_room(cx, &mut attempt)).await;
        let answer = if asked { answer.await } else { None };
        answer.ok_or_else(|| self.end())
    }

    /// Where the worker says only that the connection is gone, the handle may know why.
    fn explain(&self, error: OperationError) -> OperationError {
        self.close_reason().map_or(error, OperationError::Closed)
    }

    fn end(&self) -> OperationError {
        self.explain(EngineError::Stopped.into())
    }
}

impl Facts {
    pub(super) fn of<H: Hold>(conn: &local::Connection<H>) -> Result<Self, OperationError> {
        Ok(Self {
            side: conn.side()?,
            remote: conn.remote()?,
            local: conn.local()?,
            alpn: conn.alpn()?,
            server_name: conn.server_name()?,
            peer_certificates: conn.peer_certificates()?,
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.release();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("side", &self.side()).field("remote", &self.remote()).finish_non_exhaustive()
    }
}
