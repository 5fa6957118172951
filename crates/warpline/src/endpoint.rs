//! An endpoint, usable on any thread.

use crate::builder::EndpointBuilder;
use crate::engine::{ConnectError, Engine, EngineError, RebindError, ScaleError, WorkerHandle, WorkerStats};
use crate::local::Worker;
use crate::remote::{Connection, call_local};
use crate::{Choice, ClientConfig, EndpointStats, IoStats};
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use warpline_ring::fan_in::FanIn;

/// A group of workers that serve one UDP address, and the handle to it for any thread and runtime.
///
/// Clones name the same endpoint. When the last one is dropped, all connections are closed with code 0 and the workers
/// end; the drop waits for that, a fraction of a second at most ([`EndpointBuilder::shutdown_timeout`]). Under an
/// asynchronous runtime, await [`shutdown`](Self::shutdown) before.
#[derive(Clone)]
pub struct Endpoint(Arc<Inner>);

struct Inner {
    engine: Engine,
    /// `None` if the workers' own program accepts.
    incoming: Option<FanIn<Connection>>,
    /// Number of connections started, to spread them over the workers.
    started: AtomicUsize,
}

impl Endpoint {
    /// Begins to set an endpoint up.
    #[must_use]
    pub fn builder() -> EndpointBuilder {
        EndpointBuilder::default()
    }

    pub(crate) fn new(engine: Engine, incoming: Option<FanIn<Connection>>) -> Self {
        Self(Arc::new(Inner { engine, incoming, started: AtomicUsize::new(0) }))
    }

    /// Connects to a server and waits for the handshake. `server_name` is what the server's certificate is checked for;
    /// finding addresses for names is the caller's. Connections are spread over the workers in turn.
    ///
    /// # Errors
    /// [`ConnectError`]. Dropping the future gives the attempt up.
    pub async fn connect(
        &self,
        remote: SocketAddr,
        server_name: &str,
        config: impl Into<Arc<ClientConfig>>,
    ) -> Result<Connection, ConnectError> {
        let (config, name) = (config.into(), Arc::<str>::from(server_name));
        self.on_some_worker(move |worker| {
            let (config, name) = (Arc::clone(&config), Arc::clone(&name));
            async move { worker.connect(config, remote, &name).await }
        })
        .await
    }

    /// Begins to connect without waiting for the handshake. With [`ClientConfig::early_data`] and a session that
    /// [`ClientConfig::memory`] has of the server, streams can be opened and written at once: what they carry leaves with
    /// the first packet (0-RTT, RFC 9001 section 4.6). Whoever records it can play it to the server again, so it should
    /// be nothing that does harm when it is done twice. Without a session, opening a stream waits for the handshake.
    /// [`Connection::handshake`] waits for it, [`Connection::early_data`] says what became of the early data.
    ///
    /// # Errors
    /// [`ConnectError`], if no attempt can be made; a failure of the attempt shows at the connection.
    pub async fn connect_early(
        &self,
        remote: SocketAddr,
        server_name: &str,
        config: impl Into<Arc<ClientConfig>>,
    ) -> Result<Connection, ConnectError> {
        let (config, name) = (config.into(), Arc::<str>::from(server_name));
        self.on_some_worker(move |worker| {
            let connection = worker.connect_early(&config, remote, &name);
            async move { connection }
        })
        .await
    }

    /// Has a worker make a connection, the next in turn.
    async fn on_some_worker<P, F>(&self, connect: P) -> Result<Connection, ConnectError>
    where
        P: FnOnce(Worker) -> F + Clone + Send + 'static,
        F: Future<Output = Result<crate::local::Connection, ConnectError>> + 'static,
    {
        loop {
            let (connect, worker) = (connect.clone(), self.next_worker()?);
            let attempt =
                call_local(&worker, move || async move { Ok(Connection::export(connect(Worker::current()?).await?)?) });
            match attempt.await {
                // The worker was removed before it had begun: another one will do.
                Err(EngineError::Stopped) if !self.0.engine.is_stopping() => {}
                result => return result?,
            }
        }
    }

    /// Waits for the next connection of a client whose handshake is done, or whose early data is taken
    /// ([`ServerConfig::early_data`](crate::ServerConfig::early_data)). `None` when the endpoint shuts down, and at
    /// once if its workers run a program that accepts.
    pub async fn accept(&self) -> Option<Connection> {
        let incoming = self.0.incoming.as_ref()?;
        poll_fn(|cx| incoming.poll_recv(cx)).await
    }

    /// Runs `program` on a worker, the next in turn, and waits for its result. Its future need not be `Send`. Cancelled,
    /// the program goes on.
    ///
    /// # Errors
    /// [`EngineError::Stopped`] if the endpoint shuts down first, or the program panicked.
    pub async fn run_local<P, F>(&self, program: P) -> Result<F::Output, EngineError>
    where
        P: FnOnce(Worker) -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        call_local(&self.next_worker()?, move || async move { Ok(program(Worker::current()?).await) }).await?
    }

    /// The workers in turn.
    fn next_worker(&self) -> Result<WorkerHandle, EngineError> {
        let workers = self.0.engine.workers();
        let turn = self.0.started.fetch_add(1, Ordering::Relaxed);
        let next = turn.checked_rem(workers.len()).and_then(|at| workers.get(at)).cloned();
        next.ok_or(EngineError::Stopped)
    }

    /// Changes the number of workers while traffic flows, and waits until the connections have moved.
    ///
    /// Connections that are used by handles of this crate ([`Connection`] and its streams) move whole, and nothing of
    /// them is lost, repeated or reordered. Those that a program inside a worker holds ([`local`](crate::local)) stay
    /// with their worker, which goes on until they have ended, and so do its tasks.
    ///
    /// # Errors
    /// [`ScaleError`]: the number is not within 1 to [`EndpointBuilder::max_workers`], that was not set, or what the
    /// machine refused. On AF_XDP the workers of the beginning that own queues stay, so the least is their number; and removed
    /// workers that still have connections count until they end.
    pub async fn scale_to(&self, workers: usize) -> Result<(), ScaleError> {
        self.0.engine.scale_to(workers).await
    }

    /// The address that the endpoint is bound to, with the port that was taken; after [`rebind`](Self::rebind) that of the first
    /// worker.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.0.engine.local_addr()
    }

    /// Goes over to new sockets at `address`, with all connections: for clients whose network has changed. Each worker gets a
    /// socket of its own, so the port must be 0 when there are several. What happens to connections:
    /// [`Worker::rebind`](crate::local::Worker::rebind).
    ///
    /// # Errors
    /// [`RebindError`]: of the first worker that failed. Those before it have gone over already.
    pub async fn rebind(&self, address: SocketAddr) -> Result<(), RebindError> {
        for worker in self.workers() {
            call_local(&worker, move || async move { Worker::current()?.rebind(address).await }).await??;
        }
        Ok(())
    }

    /// The workers as of now, with their counters.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerHandle> {
        self.0.engine.workers()
    }

    /// How many workers' threads run, those included that only finish their work after they were removed.
    #[must_use]
    pub fn running_workers(&self) -> usize {
        self.0.engine.running().len()
    }

    /// Counters of all workers together.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        self.0.engine.stats()
    }

    /// Counters of the packet back end of each worker.
    #[must_use]
    pub fn io_stats(&self) -> Vec<IoStats> {
        self.workers().iter().map(WorkerHandle::io_stats).collect()
    }

    /// Which packet back end is at work, and why no faster one. All workers have the same.
    #[must_use]
    pub fn io_choice(&self) -> Choice {
        self.workers()[0].io_choice()
    }

    /// What became of the datagrams that arrived, by reason, for each worker.
    ///
    /// # Errors
    /// [`EngineError::Stopped`] if the endpoint has shut down.
    pub async fn datagram_stats(&self) -> Result<Vec<EndpointStats>, EngineError> {
        let mut all = Vec::new();
        for worker in self.workers() {
            all.push(call_local(&worker, || async { Worker::current()?.endpoint_stats() }).await??);
        }
        Ok(all)
    }

    /// Waits until another process has taken over the port ([`EndpointBuilder::restart_socket`]); `false` if this endpoint
    /// ends first, or has no restart socket. New connections go to that process from then on; those that this one has
    /// stay, and those that wait for [`accept`](Self::accept) are still to be accepted.
    pub async fn handed_over(&self) -> bool {
        self.0.engine.handed_over().await
    }

    /// As [`handed_over`](Self::handed_over), and until the last connection here has ended: time to drop the endpoint.
    pub async fn finished(&self) -> bool {
        self.0.engine.finished().await
    }

    /// Closes all connections with `code` (below 2^62) and `reason`, without waiting. The first call counts.
    pub fn close(&self, code: u64, reason: &[u8]) {
        self.0.engine.request_stop(code, reason);
    }

    /// Closes all connections with `code` (below 2^62) and `reason`, and waits until the peers have answered and the
    /// workers have ended, which without an answer takes three probe timeouts, at most the shutdown timeout.
    pub async fn shutdown(&self, code: u64, reason: &[u8]) {
        self.close(code, reason);
        self.0.engine.stopped().await;
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("local_addr", &self.local_addr())
            .field("workers", &self.workers().len())
            .finish_non_exhaustive()
    }
}
