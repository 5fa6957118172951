//! The worker that a program runs on.

use crate::cx;
use crate::engine::WorkerHandle;
use crate::error::{ConnectError, EngineError, RebindError};
use crate::exec::JoinHandle;
use crate::local::Connection;
use crate::worker::Rebind;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use warpline_proto::config::ClientConfig;
use warpline_proto::{EndpointStats, PacketDrops};

/// The worker of the thread it is used on. What a program gets when it starts; clones are free.
#[derive(Clone, Debug)]
pub struct Worker {
    handle: WorkerHandle,
    not_send: PhantomData<Rc<()>>,
}

impl Worker {
    /// The worker of the calling thread.
    ///
    /// # Errors
    /// [`EngineError::OffWorker`] on a thread that is no worker.
    pub fn current() -> Result<Self, EngineError> {
        cx::with(|cx| Self { handle: cx.handle.clone(), not_send: PhantomData })
    }

    /// Which worker this is, counted from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.handle.index()
    }

    /// The way to this worker from other threads.
    #[must_use]
    pub fn handle(&self) -> &WorkerHandle {
        &self.handle
    }

    /// How many workers the engine has now, not counting those that only finish their work.
    #[must_use]
    pub fn workers(&self) -> usize {
        cx::with(|cx| cx.workers.get()).unwrap_or_default()
    }

    /// The address that the worker is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    /// Goes over to a new socket at `address` (port 0 takes a free one) and moves every connection of this worker there: the
    /// network has changed, or is about to. Streams go on where they are; congestion control starts over, each connection
    /// gets another ID, and its server checks the new path (RFC 9000 section 9). A connection that cannot be moved, since its
    /// server forbids that or has given no spare ID, goes on from the new address as if a NAT had changed it. Returns the new
    /// address.
    ///
    /// # Errors
    /// [`RebindError`]; the old socket stays in use then.
    pub async fn rebind(&self, address: SocketAddr) -> Result<SocketAddr, RebindError> {
        let rebind = Rebind::new(address);
        cx::with_core(|core| core.rebinds.push(Rc::clone(&rebind)))?;
        poll_fn(|cx| rebind.poll(cx)).await
    }

    /// What became of the datagrams that arrived at this worker, by reason.
    ///
    /// # Errors
    /// [`EngineError::OffWorker`] on a thread that is no worker.
    pub fn endpoint_stats(&self) -> Result<EndpointStats, EngineError> {
        cx::with_core(|core| *core.endpoint.stats())
    }

    /// Packets that the connections of this worker have dropped so far, by reason.
    ///
    /// # Errors
    /// [`EngineError::OffWorker`] on a thread that is no worker.
    pub fn packet_drops(&self) -> Result<PacketDrops, EngineError> {
        cx::with_core(|core| core.endpoint.packet_drops())
    }

    /// Starts a task on this worker.
    ///
    /// # Errors
    /// [`EngineError::OffWorker`] on a thread that is no worker.
    pub fn spawn<F>(&self, future: F) -> Result<JoinHandle<F::Output>, EngineError>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        crate::local::spawn(future)
    }

    /// Waits for the next connection of a client whose handshake is done, or whose early data is taken. `None` when the engine shuts down, and when
    /// this worker is removed: it finishes what it has, its tasks included, and then ends.
    pub async fn accept(&self) -> Option<Connection> {
        poll_fn(|cx| {
            let polled = cx::with_core(|core| match core.accept() {
                Some(key) => Poll::Ready(Some(Connection::counted(key))),
                None if core.incoming.closed => Poll::Ready(None),
                None => {
                    core.incoming.waiters.register(cx, &mut core.wakes);
                    Poll::Pending
                }
            });
            polled.unwrap_or(Poll::Ready(None))
        })
        .await
    }

    /// Connects to a server from this worker, and waits for the handshake. `server_name` is what the server's
    /// certificate is checked for; finding addresses for names is the caller's.
    ///
    /// # Errors
    /// [`ConnectError`]. Dropping the future gives the attempt up.
    pub async fn connect(
        &self,
        config: Arc<ClientConfig>,
        remote: SocketAddr,
        server_name: &str,
    ) -> Result<Connection, ConnectError> {
        Connection::connect(config, remote, server_name).await
    }

    /// Begins to connect without waiting for the handshake. With [`ClientConfig::early_data`] and a remembered session, streams
    /// can be opened and written at once: what they carry leaves with the first packet. Otherwise opening a stream
    /// waits for the handshake. See [`Connection::early_data`] and [`Connection::handshake`].
    ///
    /// # Errors
    /// [`ConnectError`], if the arguments do not allow an attempt; a failure of the attempt shows at the connection.
    pub fn connect_early(
        &self,
        config: &ClientConfig,
        remote: SocketAddr,
        server_name: &str,
    ) -> Result<Connection, ConnectError> {
        Connection::connect_early(config, remote, server_name)
    }
}
