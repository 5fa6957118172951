//! What an engine is started with.

use crate::error::StartError;
use crate::limits::{ACCEPT_BACKLOG, HANDOVER_LEN, SHED_DELAY, SHUTDOWN_TIMEOUT, SPIN, TASK_BUDGET, WORKERS_MAX};
use crate::scaling::ScalingPolicy;
use crate::worker::LogFolder;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use warpline_pktio::IoConfig;
use warpline_proto::FleetKeys;
use warpline_proto::config::{EndpointConfig, QuicLb, ServerConfig};
use warpline_wire::Version;
use warpline_wire::cid::Layout;

/// What an engine is started with. Every field is honoured, or the start is refused.
#[derive(Clone)]
pub struct EngineConfig {
    /// The address to bind to. Port 0 takes a free one; `[::]` takes IPv4 as well, and only that without IPv6.
    pub bind: SocketAddr,
    /// Number of workers, 1 to [`WORKERS_MAX`]. Each is a thread with a socket of its own on the same port.
    pub workers: usize,
    /// Number of threads that receive for the workers and do nothing else, 0 for none: each worker receives for itself. For
    /// machines whose network card has fewer queues than there are cores; what it costs is in `docs/scaling.md`. All packets
    /// arrive at readers then and go to their workers by ring. Linux only, on UDP sockets or an io_uring.
    pub readers: usize,
    /// Number of workers that there may be at a time, at least `workers`, if their number is to be changed while traffic
    /// flows ([`Engine::scale_to`](crate::Engine::scale_to)); 0 if it is not. On AF_XDP packet memory has room for so many
    /// from the start, 1 MiB for each that has no queue (2 MiB above an MTU of 1,770).
    pub workers_max: usize,
    /// When the number of workers changes by itself, within 1 (on AF_XDP as many as own queues) and `workers_max`. `None`: only when asked to.
    pub scaling: Option<ScalingPolicy>,
    /// A Unix socket by which the next process takes over the port without a dropped connection: it is started with the same
    /// path while this one runs. Linux only, on UDP sockets or an io_uring.
    pub restart: Option<PathBuf>,
    /// Cores to pin the workers to, the first worker to the first; as many as there may be workers, and after them one for
    /// each reader. `None`: the system schedules
    /// them.
    pub cores: Option<Vec<usize>>,
    /// How to serve; `None`: this endpoint only connects.
    pub server: Option<Arc<ServerConfig>>,
    /// Versions of QUIC that are spoken, most wanted first. A server goes on with the one that the client wants most (RFC 9368).
    pub versions: Vec<Version>,
    /// What the keys for stateless resets and address tokens are derived from. Processes that serve one address share
    /// them; by default they are random.
    pub keys: FleetKeys,
    /// Connection IDs by which load balancers find this server (QUIC-LB); `None`: IDs without a balancer's part. Not with `restart`: such IDs
    /// have no room for the mark that tells two processes apart.
    pub quic_lb: Option<QuicLb>,
    /// A folder for logs of connections, one file each as qlog; `None`: no logs. They are for finding faults: writing them
    /// costs time on the worker.
    pub qlog: Option<PathBuf>,
    /// Pools, socket buffers, busy polling, GSO.
    pub io: IoConfig,
    /// Connections per worker that may wait to be accepted; more are closed at once.
    pub accept_backlog: usize,
    /// A worker accepts no further connections while the running average of the time from a datagram's arrival until it is
    /// handled is above this; above half of it clients must prove their addresses first. Zero for never. Default:
    /// [`limits::SHED_DELAY`](crate::limits::SHED_DELAY).
    pub shed_delay: Duration,
    /// Task polls per turn.
    pub task_budget: usize,
    /// How long a worker looks again before it sleeps, where that has paid; zero for never. For cores of one's own,
    /// [`IoConfig::busy_poll`] spins always.
    pub spin: Duration,
    /// Datagrams that may wait in the ring between two workers.
    pub handover_len: usize,
    /// How long shutting down waits for peers that do not answer the close.
    pub shutdown_timeout: Duration,
    /// Workers' threads are named so, followed by their number.
    pub thread_name: String,
}

impl EngineConfig {
    /// One worker on any port of all addresses, for connecting only.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn new() -> Result<Self, StartError> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| StartError::io("reading random bytes", error.into()))?;
        Ok(Self {
            bind: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            workers: 1,
            readers: 0,
            workers_max: 0,
            scaling: None,
            restart: None,
            cores: None,
            server: None,
            versions: vec![Version::V1, Version::V2],
            keys: FleetKeys::new(&secret),
            quic_lb: None,
            qlog: None,
            io: IoConfig::default(),
            accept_backlog: ACCEPT_BACKLOG,
            shed_delay: SHED_DELAY,
            task_budget: TASK_BUDGET,
            spin: SPIN,
            handover_len: HANDOVER_LEN,
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            thread_name: "warpline".to_owned(),
        })
    }

    /// Refuses what cannot be honoured.
    pub(crate) fn validate(&self) -> Result<(), StartError> {
        let check = |ok: bool, field, why: &str| if ok { Ok(()) } else { Err(StartError::config(field, why)) };
        check((1..=WORKERS_MAX).contains(&self.workers), "workers", &format!("takes 1 to {WORKERS_MAX}"))?;
        let max = self.workers_max == 0 || (self.workers..=WORKERS_MAX).contains(&self.workers_max);
        check(max, "workers_max", &format!("takes {} to {WORKERS_MAX}, or 0", self.workers))?;
        check(self.readers <= WORKERS_MAX, "readers", &format!("takes 0 to {WORKERS_MAX}"))?;
        check(
            cfg!(target_os = "linux") || self.readers == 0,
            "readers",
            "only Linux steers one port to several threads",
        )?;
        self.qlog.as_deref().map_or(Ok(()), LogFolder::check)?;
        check(self.scaling.is_none() || self.is_scalable(), "scaling", "needs workers_max")?;
        let percent = self.scaling.as_ref().is_none_or(|policy| (1..=99).contains(&policy.shrink_percent));
        check(percent, "scaling", "shrink_percent takes 1 to 99")?;
        check(cfg!(target_os = "linux") || self.restart.is_none(), "restart", "only Linux hands a port over")?;
        let marked = self.quic_lb.is_none() || self.restart.is_none();
        check(marked, "quic_lb", "such connection IDs have no room for the mark that `restart` needs")?;
        let known = !self.versions.is_empty() && self.versions.iter().all(|version| version.is_supported());
        check(known, "versions", "takes versions 1 and 2, at least one of them")?;
        check(self.accept_backlog > 0, "accept_backlog", "must hold at least one connection")?;
        check(self.task_budget > 0, "task_budget", "must allow at least one poll")?;
        check((1..=1 << 20).contains(&self.handover_len), "handover_len", "takes 1 to 2^20 datagrams")?;
        check(!self.thread_name.contains('\0'), "thread_name", "must not contain a zero byte")?;
        let Some(cores) = &self.cores else { return Ok(()) };
        let threads = self.workers_max() + self.readers;
        check(
            cores.len() == threads,
            "cores",
            "must name one core for each worker that there may be, then each reader",
        )?;
        crate::pin::check(cores)
    }

    /// Number of workers that there may be at a time.
    pub(crate) fn workers_max(&self) -> usize {
        self.workers_max.max(self.workers)
    }

    /// Whether the number of workers can change.
    pub(crate) fn is_scalable(&self) -> bool {
        self.workers_max > 0
    }

    /// Whether sockets are opened one by one and steered by a table.
    pub(crate) fn has_ports(&self) -> bool {
        self.is_scalable() || self.restart.is_some() || self.readers > 0
    }

    /// Numbers of the readers: those after the first workers'.
    pub(crate) fn reader_numbers(&self) -> Range<usize> {
        self.workers..self.workers + self.readers
    }

    /// How connection IDs are laid out.
    pub(crate) fn layout(&self) -> Layout {
        self.quic_lb.as_ref().map_or(Layout::PLAIN, QuicLb::layout)
    }

    /// The protocol's configuration, for connection IDs with a mark or without.
    pub(crate) fn endpoint(&self, mark: Option<bool>) -> EndpointConfig {
        let (versions, qlog) = (self.versions.clone(), self.qlog.is_some());
        let quic_lb = self.quic_lb.clone();
        EndpointConfig { mark, versions, quic_lb, qlog, ..EndpointConfig::with_keys(&self.keys) }
    }
}

impl fmt::Debug for EngineConfig {
    /// Leaves out the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineConfig")
            .field("bind", &self.bind)
            .field("workers", &self.workers)
            .field("cores", &self.cores)
            .field("server", &self.server)
            .field("io", &self.io)
            .finish_non_exhaustive()
    }
}
