//! How an endpoint is set up.

use crate::endpoint::Endpoint;
use crate::engine::{Engine, EngineConfig, ScalingPolicy, StartError};
#[cfg(feature = "fiber")]
use crate::fiber;
use crate::limits::ACCEPT_CONNECTIONS;
use crate::local::{self, Worker};
use crate::remote::Connection;
use crate::{FleetKeys, IoConfig, QuicLb, ServerConfig, Version};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use warpline_ring::Lock;
use warpline_ring::fan_in::{Inlet, fan_in};

/// Sets an [`Endpoint`] up. Made by [`Endpoint::builder`].
///
/// Without further calls: one worker on any port of all addresses, for connecting only.
#[derive(Clone, Debug, Default)]
pub struct EndpointBuilder {
    bind: Option<SocketAddr>,
    workers: Option<usize>,
    readers: Option<usize>,
    workers_max: Option<usize>,
    scaling: Option<ScalingPolicy>,
    restart: Option<PathBuf>,
    cores: Option<Vec<usize>>,
    server: Option<Arc<ServerConfig>>,
    versions: Option<Vec<Version>>,
    keys: Option<FleetKeys>,
    quic_lb: Option<QuicLb>,
    qlog: Option<PathBuf>,
    io: Option<IoConfig>,
    accept_backlog: Option<usize>,
    shed_delay: Option<Duration>,
    spin: Option<Duration>,
    shutdown_timeout: Option<Duration>,
    thread_name: Option<String>,
}

impl EndpointBuilder {
    /// The address to bind to. Port 0 takes a free one, see [`Endpoint::local_addr`].
    #[must_use]
    pub fn bind(mut self, address: impl Into<SocketAddr>) -> Self {
        self.bind = Some(address.into());
        self
    }

    /// Number of workers: threads that each serve a share of the connections.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Number of threads that receive for the workers and do nothing else; 0, the default, has each worker receive for itself.
    /// For machines whose network card has fewer queues than there are cores. Linux only, on UDP sockets or an io_uring.
    #[must_use]
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = Some(readers);
        self
    }

    /// Makes the number of workers changeable while traffic flows, up to this many ([`Endpoint::scale_to`]). Linux only. On AF_XDP
    /// the first [`workers`](Self::workers) keep the queues, and others receive and send by way of them.
    #[must_use]
    pub fn max_workers(mut self, workers: usize) -> Self {
        self.workers_max = Some(workers);
        self
    }

    /// Has the number of workers change by itself, between 1 (on AF_XDP as many as own queues) and
    /// [`max_workers`](Self::max_workers).
    #[must_use]
    pub fn scaling(mut self, policy: ScalingPolicy) -> Self {
        self.scaling = Some(policy);
        self
    }

    /// A Unix socket by which the next process takes over the port without a dropped connection. Start it with the same path
    /// while this one runs: it accepts all connections from then on, while this process finishes its own
    /// ([`Endpoint::handed_over`], [`Endpoint::finished`]). Both run as one user. Linux only, on UDP sockets or an io_uring.
    #[must_use]
    pub fn restart_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.restart = Some(path.into());
        self
    }

    /// Pins one worker to each of these cores. With [`readers`](Self::readers) or [`max_workers`](Self::max_workers) the list has one core for
    /// each worker that there may be, then one for each reader, and [`workers`](Self::workers) is to be set.
    #[must_use]
    pub fn cores(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        let cores: Vec<usize> = cores.into_iter().collect();
        self.workers = self.workers.or(Some(cores.len()));
        self.cores = Some(cores);
        self
    }

    /// Accepts connections.
    #[must_use]
    pub fn server(mut self, config: impl Into<Arc<ServerConfig>>) -> Self {
        self.server = Some(config.into());
        self
    }

    /// The versions of QUIC that are spoken, most wanted first; 1 and 2 unless set. A client begins with the first unless its
    /// configuration names another one, and a server goes on with the one that the client wants most (RFC 9368).
    #[must_use]
    pub fn versions(mut self, versions: impl IntoIterator<Item = Version>) -> Self {
        self.versions = Some(versions.into_iter().collect());
        self
    }

    /// What the keys for stateless resets and address tokens are derived from; random unless set. Processes that serve
    /// one address share it. Short for [`fleet`](Self::fleet) with one secret.
    #[must_use]
    pub fn secret(self, secret: [u8; 32]) -> Self {
        self.fleet(FleetKeys::new(&secret))
    }

    /// What the keys for stateless resets and address tokens are derived from, for processes that serve one address together:
    /// any of them accepts the tokens of another, and resets connections that another one has lost. [`FleetKeys`] says how
    /// secrets are changed without breaking either. Sessions are shared by giving the same keys to
    /// [`ServerConfig::fleet_tickets`].
    #[must_use]
    pub fn fleet(mut self, keys: FleetKeys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Connection IDs by which the load balancers of a fleet find this server, in the clear or encrypted (QUIC-LB,
    /// draft-ietf-quic-load-balancers); each server has a server ID of its own, all share the rest. Goes with any number of workers, not
    /// with [`restart_socket`](Self::restart_socket). See `docs/load-balancing.md`.
    #[must_use]
    pub fn quic_lb(mut self, config: QuicLb) -> Self {
        self.quic_lb = Some(config);
        self
    }

    /// A folder, which must be there, for logs of connections: one file each as qlog (`.sqlog`, draft-ietf-quic-qlog-main-schema in
    /// the form 0.3), which qvis and its like show. For finding faults: writing them takes time of the workers. A file grows by
    /// 16 KiB at a time and is complete when its connection has gone.
    #[must_use]
    pub fn qlog(mut self, folder: impl Into<PathBuf>) -> Self {
        self.qlog = Some(folder.into());
        self
    }

    /// Pools, socket buffers, busy polling, GSO.
    #[must_use]
    pub fn io(mut self, config: IoConfig) -> Self {
        self.io = Some(config);
        self
    }

    /// Connections per worker that may wait to be accepted; more are closed at once.
    #[must_use]
    pub fn accept_backlog(mut self, connections: usize) -> Self {
        self.accept_backlog = Some(connections);
        self
    }

    /// A worker accepts no further connections while the running average of the time from a datagram's arrival until it is
    /// handled is above this; above half of it clients must prove their addresses first. Zero for never. Default:
    /// [`engine::limits::SHED_DELAY`](crate::engine::limits::SHED_DELAY).
    #[must_use]
    pub fn shed_delay(mut self, delay: Duration) -> Self {
        self.shed_delay = Some(delay);
        self
    }

    /// How long a worker looks again before it sleeps, where that has paid; zero for never. Default:
    /// [`engine::limits::SPIN`](crate::engine::limits::SPIN). For cores of one's own, [`IoConfig::busy_poll`] spins
    /// always.
    #[must_use]
    pub fn spin(mut self, limit: Duration) -> Self {
        self.spin = Some(limit);
        self
    }

    /// How long shutting down waits for peers that do not answer the close.
    #[must_use]
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = Some(timeout);
        self
    }

    /// Workers' threads are named so, followed by their number.
    #[must_use]
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = Some(name.into());
        self
    }

    fn config(self) -> Result<EngineConfig, StartError> {
        let mut config = EngineConfig::new()?;
        config.bind = self.bind.unwrap_or(config.bind);
        config.workers = self.workers.unwrap_or(config.workers);
        config.readers = self.readers.unwrap_or(config.readers);
        config.workers_max = self.workers_max.unwrap_or(config.workers_max);
        config.scaling = self.scaling;
        config.restart = self.restart;
        config.cores = self.cores;
        config.server = self.server;
        config.versions = self.versions.unwrap_or(config.versions);
        config.keys = self.keys.unwrap_or(config.keys);
        config.quic_lb = self.quic_lb;
        config.qlog = self.qlog;
        config.io = self.io.unwrap_or(config.io);
        config.accept_backlog = self.accept_backlog.unwrap_or(config.accept_backlog);
        config.shed_delay = self.shed_delay.unwrap_or(config.shed_delay);
        config.spin = self.spin.unwrap_or(config.spin);
        config.shutdown_timeout = self.shutdown_timeout.unwrap_or(config.shutdown_timeout);
        config.thread_name = self.thread_name.unwrap_or(config.thread_name);
        Ok(config)
    }

    /// Starts the endpoint for use from other threads: connections come by [`Endpoint::accept`] and
    /// [`Endpoint::connect`].
    ///
    /// # Errors
    /// [`StartError`]: a setting that cannot be honoured, or what the machine refused.
    pub fn start(self) -> Result<Endpoint, StartError> {
        let config = self.config()?;
        let (inlets, incoming) = fan_in::<Connection>(ACCEPT_CONNECTIONS);
        let engine = Engine::start(config, move |worker| forward(worker, inlets.add()))?;
        Ok(Endpoint::new(engine, Some(incoming)))
    }

    /// Starts the endpoint with a program that runs on every worker: it gets the worker, and its future need not be
    /// `Send`. The program accepts what the worker's clients open, by [`Worker::accept`].
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with<P, F>(self, program: P) -> Result<Endpoint, StartError>
    where
        P: Fn(Worker) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + 'static,
    {
        Ok(Endpoint::new(Engine::start(self.config()?, program)?, None))
    }

    /// Starts the endpoint and has every connection of a client served by `handler`, as a task of the worker that the
    /// connection belongs to: no byte is copied, and the handler's future need not be `Send`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn serve_local<H, F>(self, handler: H) -> Result<Endpoint, StartError>
    where
        H: Fn(local::Connection) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + 'static,
    {
        let handler = Arc::new(handler);
        self.start_with(move |worker| {
            let handler = Arc::clone(&handler);
            async move {
                while let Some(connection) = worker.accept().await {
                    // Off the worker nothing is accepted.
                    let _ = local::spawn_detached(handler(connection));
                }
            }
        })
    }

    /// Starts the endpoint, runs `program` on its first worker, shuts down, and returns what the program did. Blocks
    /// the calling thread meanwhile. For programs that are nothing but this: no other runtime is needed.
    ///
    /// # Errors
    /// As [`start`](Self::start). [`RunError::Panicked`] if the program panicked.
    pub fn run_local<P, F>(self, program: P) -> Result<F::Output, RunError>
    where
        P: FnOnce(Worker) -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let (done, result) = mpsc::channel();
        let main = Lock::new(Some((program, done)));
        let endpoint = self.start_with(move |worker| {
            let main = (worker.index() == 0).then(|| main.lock().take());
            async move {
                let Some(Some((program, done))) = main else { return };
                let Ok(task) = worker.spawn(program(worker.clone())) else { return };
                // Nobody can have gone who waits for this.
                let _ = done.send(task.await);
            }
        })?;
        let result = result.recv().unwrap_or(Err(local::JoinError::Cancelled));
        drop(endpoint);
        result.map_err(RunError::from)
    }
}

/// Programs of fibers: the same, in straight lines.
#[cfg(feature = "fiber")]
impl EndpointBuilder {
    /// As [`start_with`](Self::start_with), with a program that runs in a fiber of every worker and may start more.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_fibers<P>(self, program: P) -> Result<Endpoint, StartError>
    where
        P: Fn(fiber::Worker) + Send + Sync + 'static,
    {
        let program = Arc::new(program);
        self.start_with(move |worker| {
            let program = Arc::clone(&program);
            fiber::run_all(worker, move |worker| program(worker))
        })
    }

    /// As [`serve_local`](Self::serve_local): every connection of a client is served by `handler`, in a fiber of its own
    /// on the worker that the connection belongs to.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn serve_fibers<H>(self, handler: H) -> Result<Endpoint, StartError>
    where
        H: Fn(fiber::Connection) + Send + Sync + 'static,
    {
        let handler = Arc::new(handler);
        self.start_fibers(move |worker| fiber::serve(&worker, &handler))
    }

    /// As [`run_local`](Self::run_local): runs `program` in a fiber of the first worker, shuts down, and returns what the
    /// program did. Other fibers end with it.
    ///
    /// # Errors
    /// As [`start`](Self::start). [`RunError::Panicked`] if the program panicked.
    pub fn run_fiber<P, T>(self, program: P) -> Result<T, RunError>
    where
        P: FnOnce(fiber::Worker) -> T + Send + 'static,
        T: Send + 'static,
    {
        self.run_local(move |worker| fiber::run_first(worker, program))
    }
}

/// Brings the connections of a worker's clients to [`Endpoint::accept`].
async fn forward(worker: Worker, mut inlet: Inlet<Connection>) {
    while let Some(connection) = worker.accept().await {
        // It may have ended since.
        let Ok(connection) = Connection::export(connection) else { continue };
        let mut connection = Some(connection);
        poll_fn(|cx| inlet.poll_send(cx, &mut connection)).await;
    }
}

/// [`EndpointBuilder::run_local`] gave no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The endpoint did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The program panicked, or ended before it had begun.
    #[error("the program on the worker: {0}")]
    Panicked(#[from] local::JoinError),
}
