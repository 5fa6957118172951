//! A connection, seen from inside its worker.

use crate::cx;
use crate::error::{ConnectError, EngineError, OperationError};
use crate::local::{Hold, Pinned, RecvStream, Roaming, SendStream};
use crate::worker::{Both, ConnectionKey, Core, Phase};
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use warpline_frame::Chunk;
use warpline_proto::config::ClientConfig;
use warpline_proto::{
    Connection as ProtoConnection, ConnectionError, ConnectionStats, ExportError,
    SendDatagramError as ProtoSendDatagramError,
};
use warpline_wire::{Dir, Side, StreamId};

/// A QUIC connection.
///
/// Clones name the same connection. When the last clone and the last of its streams are dropped, the connection is
/// closed with code 0, as soon as all finished streams have been delivered.
pub struct Connection<H: Hold = Pinned> {
    key: ConnectionKey,
    hold: PhantomData<H>,
}

/// Both parts of a bidirectional stream.
type Pair<H> = (SendStream<H>, RecvStream<H>);

/// Why a datagram was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendDatagramError {
    /// The peer takes no datagrams (RFC 9221 section 3).
    #[error("the peer takes no datagrams")]
    Unsupported,
    /// The datagram is longer than [`Connection::max_datagram_size`] says.
    #[error("the datagram is longer than the peer or the path takes")]
    TooLarge,
    /// The connection or the worker has ended.
    #[error(transparent)]
    Operation(#[from] OperationError),
}

impl Connection {
    /// Connects; see [`Worker::connect`](crate::local::Worker::connect).
    pub(crate) async fn connect(
        config: Arc<ClientConfig>,
        remote: SocketAddr,
        server_name: &str,
    ) -> Result<Self, ConnectError> {
        let connection = Self::connect_early(&config, remote, server_name)?;
        connection.handshake().await?;
        Ok(connection)
    }

    /// Begins to connect; see [`Worker::connect_early`](crate::local::Worker::connect_early).
    pub(crate) fn connect_early(
        config: &ClientConfig,
        remote: SocketAddr,
        server_name: &str,
    ) -> Result<Self, ConnectError> {
        let connect = |core: &mut Core| {
            let now = core.now;
            let handle = core.endpoint.connect(now, config, remote, server_name)?;
            let key = core.conns.insert(handle, Phase::Handshaking);
            if let Some(side) = core.conns.get_mut(key) {
                side.refs = 1;
                side.pinned = 1;
                side.accepted = true;
            }
            Ok::<_, ConnectError>(key)
        };
        let key = cx::with(|cx| {
            cx.in_hurry.set(true);
            cx.with_core(connect)
        })??;
        Ok(Self::counted(key))
    }

    /// Waits until the handshake is complete: what was early until then is no replay, and its fate is known.
    ///
    /// # Errors
    /// If the handshake fails.
    pub async fn handshake(&self) -> Result<(), ConnectError> {
        poll_fn(|cx| self.poll_handshake(cx)).await.map_err(ConnectError::from)
    }

    /// Makes the handle one that can go where the connection goes; see [`spawn_roaming`](crate::local::spawn_roaming).
    /// The connection is free to leave its worker once this was done to all its handles.
    #[must_use]
    pub fn into_roaming(self) -> Connection<Roaming> {
        let key = self.key;
        std::mem::forget(self);
        // Off the worker there is nothing to count.
        let _ = cx::with_core(|core| {
            if let Some(side) = core.conns.get_mut(key) {
                side.pinned -= 1;
                core.unpinned |= side.pinned == 0;
            }
        });
        Connection::counted(key)
    }
}

impl<H: Hold> Connection<H> {
    /// A handle that the caller has counted.
    pub(crate) fn counted(key: ConnectionKey) -> Self {
        Self { key, hold: PhantomData }
    }

    fn poll_phase(&self, cx: &Context<'_>, done: impl FnOnce(&Phase) -> bool) -> Poll<Result<(), EngineError>> {
        flatten(cx::with_core(|core| {
            let Some(side) = core.conns.get_mut(self.key) else { return Poll::Ready(()) };
            if done(&side.phase) {
                return Poll::Ready(());
            }
            side.waiters.phase.register(cx, &mut core.wakes);
            Poll::Pending
        }))
    }

    /// See [`handshake`](Connection::handshake).
    ///
    /// # Errors
    /// As there.
    pub fn poll_handshake(&self, cx: &Context<'_>) -> Poll<Result<(), OperationError>> {
        match self.poll_phase(cx, |phase| !matches!(phase, Phase::Handshaking)) {
            Poll::Ready(Ok(())) => Poll::Ready(self.look(|_| ())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// What names this connection on its worker.
    #[must_use]
    pub fn key(&self) -> ConnectionKey {
        self.key
    }

    #[inline]
    fn op<R>(&self, f: impl FnOnce(Both<'_>) -> R) -> Result<R, OperationError> {
        match cx::with_core(|core| core.both(self.key).map(f))? {
            Ok(value) => Ok(value),
            Err(error) => Err(*error),
        }
    }

    pub(super) fn look<R>(&self, f: impl FnOnce(&ProtoConnection) -> R) -> Result<R, OperationError> {
        cx::with_core(|core| core.look(self.key).map(f))?
    }

    /// Opens a bidirectional stream, waiting while the peer allows no more. The peer learns of it with the first
    /// bytes sent.
    ///
    /// # Errors
    /// If the connection ends.
    pub async fn open_bi(&self) -> Result<Pair<H>, OperationError> {
        poll_fn(|cx| self.poll_open_bi(cx)).await
    }

    /// Opens a unidirectional stream, waiting while the peer allows no more.
    ///
    /// # Errors
    /// If the connection ends.
    pub async fn open_uni(&self) -> Result<SendStream<H>, OperationError> {
        poll_fn(|cx| self.poll_open_uni(cx)).await
    }

    /// See [`open_bi`](Self::open_bi).
    ///
    /// # Errors
    /// As there.
    pub fn poll_open_bi(&self, cx: &Context<'_>) -> Poll<Result<Pair<H>, OperationError>> {
        let id = ready!(self.poll_open(cx, Dir::Bi))?;
        Poll::Ready(Ok((SendStream::new(self.key, id), RecvStream::new(self.key, id))))
    }

    /// See [`open_uni`](Self::open_uni).
    ///
    /// # Errors
    /// As there.
    pub fn poll_open_uni(&self, cx: &Context<'_>) -> Poll<Result<SendStream<H>, OperationError>> {
        let id = ready!(self.poll_open(cx, Dir::Uni))?;
        Poll::Ready(Ok(SendStream::new(self.key, id)))
    }

    fn poll_open(&self, cx: &Context<'_>, dir: Dir) -> Poll<Result<StreamId, OperationError>> {
        flatten(self.op(|Both { conn, side, wakes, .. }| match conn.open(dir) {
            Some(id) => {
                side.add_stream(id, if dir == Dir::Bi { 2 } else { 1 }, true, H::PINNED);
                Poll::Ready(id)
            }
            None => {
                side.waiters.open[dir as usize].register(cx, wakes);
                Poll::Pending
            }
        }))
    }

    /// Waits for the peer to open a bidirectional stream.
    ///
    /// # Errors
    /// If the connection ends; streams that the peer had opened before are handed out first.
    pub async fn accept_bi(&self) -> Result<Pair<H>, OperationError> {
        poll_fn(|cx| self.poll_accept_bi(cx)).await
    }

    /// Waits for the peer to open a unidirectional stream.
    ///
    /// # Errors
    /// As [`accept_bi`](Self::accept_bi).
    pub async fn accept_uni(&self) -> Result<RecvStream<H>, OperationError> {
        poll_fn(|cx| self.poll_accept_uni(cx)).await
    }

    /// See [`accept_bi`](Self::accept_bi).
    ///
    /// # Errors
    /// As there.
    pub fn poll_accept_bi(&self, cx: &Context<'_>) -> Poll<Result<Pair<H>, OperationError>> {
        let id = ready!(self.poll_accept(cx, Dir::Bi))?;
        Poll::Ready(Ok((SendStream::new(self.key, id), RecvStream::new(self.key, id))))
    }

    /// See [`accept_uni`](Self::accept_uni).
    ///
    /// # Errors
    /// As [`accept_bi`](Self::accept_bi).
    pub fn poll_accept_uni(&self, cx: &Context<'_>) -> Poll<Result<RecvStream<H>, OperationError>> {
        let id = ready!(self.poll_accept(cx, Dir::Uni))?;
        Poll::Ready(Ok(RecvStream::new(self.key, id)))
    }

    fn poll_accept(&self, cx: &Context<'_>, dir: Dir) -> Poll<Result<StreamId, OperationError>> {
        let result = cx::with_core(|core| {
            let error = match core.both(self.key) {
                Ok(Both { conn, side, wakes, .. }) => {
                    return Ok(match conn.accept(dir) {
                        Some(id) => {
                            side.add_stream(id, if dir == Dir::Bi { 2 } else { 1 }, dir == Dir::Bi, H::PINNED);
                            Poll::Ready(id)
                        }
                        None => {
                            side.waiters.accept[dir as usize].register(cx, wakes);
                            Poll::Pending
                        }
                    });
                }
                Err(error) => error,
            };
            match accept_leftover(core, self.key, dir, H::PINNED) {
                Some(id) => Ok(Poll::Ready(id)),
                None => Err(error),
            }
        });
        settle(result)
    }

    /// Sends a datagram (RFC 9221), unreliably and in no order; waits while the queue of datagrams is full.
    ///
    /// # Errors
    /// [`SendDatagramError`].
    pub async fn send_datagram(&self, datagram: Chunk) -> Result<(), SendDatagramError> {
        poll_fn(|cx| self.poll_send_datagram(cx, &datagram)).await
    }

    /// See [`send_datagram`](Self::send_datagram).
    ///
    /// # Errors
    /// As there.
    pub fn poll_send_datagram(&self, cx: &Context<'_>, datagram: &Chunk) -> Poll<Result<(), SendDatagramError>> {
        let sent = cx::with_core(|core| {
            core.both(self.key).map(|Both { conn, side, wakes, .. }| match conn.send_datagram(datagram.clone()) {
                Err(ProtoSendDatagramError::Blocked) => {
                    side.waiters.datagram_out.register(cx, wakes);
                    Poll::Pending
                }
                done => Poll::Ready(done),
            })
        });
        match settle(sent) {
            Poll::Ready(Ok(Ok(()))) => Poll::Ready(Ok(())),
            Poll::Ready(Ok(Err(ProtoSendDatagramError::Unsupported))) => {
                Poll::Ready(Err(SendDatagramError::Unsupported))
            }
            Poll::Ready(Ok(Err(_))) => Poll::Ready(Err(SendDatagramError::TooLarge)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// The next datagram from the peer.
    ///
    /// # Errors
    /// If the connection ends; datagrams that arrived before are handed out first.
    pub async fn recv_datagram(&self) -> Result<Chunk, OperationError> {
        poll_fn(|cx| self.poll_recv_datagram(cx)).await
    }

    /// See [`recv_datagram`](Self::recv_datagram).
    ///
    /// # Errors
    /// As there.
    pub fn poll_recv_datagram(&self, cx: &Context<'_>) -> Poll<Result<Chunk, OperationError>> {
        let result = cx::with_core(|core| {
            let error = match core.both(self.key) {
                Ok(Both { conn, side, wakes, .. }) => {
                    return Ok(match conn.recv_datagram() {
                        Some(datagram) => Poll::Ready(datagram),
                        None => {
                            side.waiters.datagram_in.register(cx, wakes);
                            Poll::Pending
                        }
                    });
                }
                Err(error) => error,
            };
            let rest = core.conns.get_mut(self.key).and_then(|side| side.leftovers.as_mut()?.datagram());
            rest.map(Poll::Ready).ok_or(error)
        });
        settle(result)
    }

    /// The longest datagram that can be sent now, in bytes; `None` if the peer takes none. It grows and shrinks with
    /// the path's MTU.
    #[must_use]
    pub fn max_datagram_size(&self) -> Option<usize> {
        self.look(|conn| conn.max_datagram_size()).ok().flatten()
    }

    /// Updates the keys that protect packets with the next packet that may (RFC 9001 section 6). Connections do so by themselves
    /// long before keys wear out.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn update_keys(&self) -> Result<(), OperationError> {
        self.op(|Both { conn, .. }| conn.update_keys())
    }

    /// Closes the connection at once: what was not delivered is lost, and the peer is told `code` (below 2^62) and
    /// `reason` (cut to what fits a packet).
    pub fn close(&self, code: u64, reason: &[u8]) {
        // Off the worker, or after its end, nothing is left to close.
        let _ = cx::with_core(|core| core.close(self.key, code, reason));
    }

    /// Waits for the connection's end and says how it came.
    pub async fn closed(&self) -> ConnectionError {
        poll_fn(|cx| self.poll_closed(cx)).await
    }

    /// See [`closed`](Self::closed).
    pub fn poll_closed(&self, cx: &Context<'_>) -> Poll<ConnectionError> {
        // Off the worker there is no connection.
        let _ = ready!(self.poll_phase(cx, |phase| matches!(phase, Phase::Closed(_))));
        Poll::Ready(self.close_reason().unwrap_or(ConnectionError::LocallyClosed))
    }

    /// How the connection ended; `None` while it lives.
    #[must_use]
    pub fn close_reason(&self) -> Option<ConnectionError> {
        match cx::with_core(|core| core.look(self.key).map(drop)) {
            Ok(Ok(())) => None,
            Ok(Err(OperationError::Closed(error))) => Some(error),
            Ok(Err(OperationError::Engine(_))) | Err(_) => Some(ConnectionError::LocallyClosed),
        }
    }

    /// Which side this is.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn side(&self) -> Result<Side, OperationError> {
        self.look(|conn| conn.side())
    }

    /// The peer's address now; it may move.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn remote(&self) -> Result<SocketAddr, OperationError> {
        self.look(|conn| conn.remote())
    }

    /// The address that the peer sends to, if the socket tells.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn local(&self) -> Result<Option<IpAddr>, OperationError> {
        self.look(|conn| conn.local())
    }

    /// The application protocol agreed on.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn alpn(&self) -> Result<Option<Vec<u8>>, OperationError> {
        self.look(|conn| conn.alpn().map(<[u8]>::to_vec))
    }

    /// The name that the client asked for (server only).
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn server_name(&self) -> Result<Option<String>, OperationError> {
        self.look(|conn| conn.server_name().map(str::to_owned))
    }

    /// The peer's certificate chain, its own first.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn peer_certificates(&self) -> Result<Option<Vec<rustls_pki_types::CertificateDer<'static>>>, OperationError> {
        self.look(|conn| conn.peer_certificates().map(<[_]>::to_vec))
    }

    /// Fills `out` with a secret that both sides can derive and nobody else (RFC 8446 section 7.5).
    ///
    /// # Errors
    /// If the connection has ended; the inner error is TLS's refusal.
    pub fn export_keying_material(
        &self,
        out: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<Result<(), ExportError>, OperationError> {
        self.look(|conn| conn.export_keying_material(out, label, context))
    }

    /// Counters and estimates.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn stats(&self) -> Result<ConnectionStats, OperationError> {
        self.look(|conn| conn.stats())
    }

    /// The address that the peer sees this side at, if it was asked
    /// ([`AddressDiscovery`](warpline_proto::config::AddressDiscovery)) and has said so. Only the peer's word.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn observed_address(&self) -> Result<Option<SocketAddr>, OperationError> {
        self.look(|conn| conn.observed_address())
    }
}

impl ConnectionKey {
    /// A handle to the connection, on its worker. The way back from a key that was sent elsewhere.
    ///
    /// # Errors
    /// [`ConnectionError::LocallyClosed`] if no handle of the connection is left; [`EngineError::OffWorker`].
    pub fn connection(self) -> Result<Connection, OperationError> {
        cx::with_core(|core| {
            let side = core.conns.get_mut(self).ok_or(ConnectionError::LocallyClosed)?;
            side.refs += 1;
            side.pinned += 1;
            Ok(Connection::counted(self))
        })?
    }
}

fn accept_leftover(core: &mut Core, key: ConnectionKey, dir: Dir, pinned: bool) -> Option<StreamId> {
    let side = core.conns.get_mut(key)?;
    let id = side.leftovers.as_mut()?.accept(dir)?;
    side.add_stream(id, if dir == Dir::Bi { 2 } else { 1 }, dir == Dir::Bi, pinned);
    Some(id)
}

/// The outcome of an operation as its caller gets it.
fn settle<T>(result: Result<Result<Poll<T>, Box<OperationError>>, EngineError>) -> Poll<Result<T, OperationError>> {
    match result {
        Ok(Ok(poll)) => poll.map(Ok),
        Ok(Err(error)) => Poll::Ready(Err(*error)),
        Err(error) => Poll::Ready(Err(error.into())),
    }
}

fn flatten<T, E>(result: Result<Poll<T>, E>) -> Poll<Result<T, E>> {
    match result {
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(error) => Poll::Ready(Err(error)),
    }
}

impl<H: Hold> Clone for Connection<H> {
    fn clone(&self) -> Self {
        // Off the worker there is nothing to count.
        let _ = cx::with_core(|core| {
            if let Some(side) = core.conns.get_mut(self.key) {
                side.refs += 1;
                side.pinned += u32::from(H::PINNED);
            }
        });
        Self::counted(self.key)
    }
}

impl<H: Hold> Drop for Connection<H> {
    fn drop(&mut self) {
        // Off the worker, or after its end, nothing is left to do.
        let _ = cx::with_core(|core| core.release(self.key, H::PINNED));
    }
}

impl<H: Hold> fmt::Debug for Connection<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.key).finish()
    }
}

impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Connection {}
