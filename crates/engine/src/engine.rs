//! Starting workers, reaching them from other threads, and ending them.

use crate::clock::Clock;
use crate::config::EngineConfig;
use crate::counters::{Board, WorkerStats};
use crate::error::{EngineError, StartError};
use crate::exec::Home;
use crate::local::Worker as LocalWorker;
use crate::mailbox::{Command, Inbox, Mailbox, Rejected};
use crate::stop::Stop;
use crate::worker::{Handover, Links, Loop, Setup};
use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use warpline_pktio::xdp::XdpStatus;
use warpline_pktio::{Choice, Io, IoStats, StatsHandle};
use warpline_ring::spsc;

/// A group of workers that serve one address.
///
/// Dropping it closes all connections with code 0, and waits until they have drained and the threads have ended, at
/// most [`EngineConfig::shutdown_timeout`]; [`shutdown`](Self::shutdown) does the same with a code and reason of the
/// caller's.
#[derive(Debug)]
pub struct Engine {
    workers: Vec<WorkerHandle>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    stop: Arc<Stop>,
}

/// The way to one worker from any thread. Clones name the same worker.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    index: usize,
    home: Arc<Home>,
    board: Arc<Board>,
    io_stats: StatsHandle,
    local_addr: Arc<Mutex<SocketAddr>>,
}

impl WorkerHandle {
    /// Which worker it is, counted from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The address of the worker's socket.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        *self.local_addr.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_local_addr(&self, address: SocketAddr) {
        *self.local_addr.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    pub(crate) fn home(&self) -> &Arc<Home> {
        &self.home
    }

    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// Has the worker carry out `command` on its thread, where local handles work. Commands of one thread are carried
    /// out in their order; a panic in one is caught and counted.
    ///
    /// # Errors
    /// The command comes back if the mailbox is full ([`EngineError::Overloaded`]: try again later) or the worker has
    /// ended ([`EngineError::Stopped`]).
    pub fn post(&self, command: Command) -> Result<(), Rejected> {
        self.home.mailbox().command(command)
    }

    /// Whether the calling thread is this worker's.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.home.is_current()
    }

    /// The worker's counters, at most one turn old.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        self.board.snapshot()
    }

    /// The counters of the worker's packet back end.
    #[must_use]
    pub fn io_stats(&self) -> IoStats {
        self.io_stats.snapshot()
    }

    /// How AF_XDP uses its interface now; `None` for other back ends.
    #[must_use]
    pub fn xdp_status(&self) -> Option<XdpStatus> {
        self.io_stats.xdp_status()
    }

    /// Which packet back end the worker has, and why no faster one.
    #[must_use]
    pub fn io_choice(&self) -> Choice {
        self.io_stats.choice()
    }
}

/// What each worker starts with, in the order of the workers.
struct Parts {
    handles: Vec<WorkerHandle>,
    inboxes: Vec<Inbox>,
    links: Vec<Links>,
}

impl Engine {
    /// Binds the address and starts the workers. Each runs `program`, which is called once on every worker's thread;
    /// its future need not be `Send`. A worker goes on when its program has ended.
    ///
    /// # Errors
    /// [`StartError`]: a field that cannot be honoured, or what the machine refused.
    pub fn start<P, F>(config: EngineConfig, program: P) -> Result<Self, StartError>
    where
        P: Fn(LocalWorker) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + 'static,
    {
        config.validate()?;
        let ios = bind(&config)?;
        Self::start_on(ios, config, program)
    }

    /// The same on packet back ends of the caller's, one per worker, that share one address: in-memory networks for
    /// tests.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_on<P, F>(ios: Vec<Io>, config: EngineConfig, program: P) -> Result<Self, StartError>
    where
        P: Fn(LocalWorker) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + 'static,
    {
        config.validate()?;
        if ios.len() != config.workers {
            return Err(StartError::config("workers", "must be as many as packet back ends"));
        }
        let stop = Arc::new(Stop::new(config.workers));
        let clock = Clock::start();
        let Parts { handles, inboxes, links } = connect(&ios, config.handover_len);
        let (config, program) = (Arc::new(config), Arc::new(program));
        let engine = Self { workers: handles, threads: Mutex::default(), stop };
        let (ready, started) = mpsc::channel();
        for ((handle, io), (inbox, links)) in engine.workers.iter().zip(ios).zip(inboxes.into_iter().zip(links)) {
            let setup =
                Setup { handle: handle.clone(), config: Arc::clone(&config), clock, stop: Arc::clone(&engine.stop) };
            let (program, ready) = (Arc::clone(&program), ready.clone());
            let thread = thread::Builder::new()
                .name(format!("{}-{}", config.thread_name, handle.index))
                .spawn(move || work(setup, io, inbox, links, program, ready));
            match thread {
                Ok(thread) => engine.lock_threads().push(thread),
                Err(error) => {
                    // Those that never started have ended already.
                    (handle.index..config.workers).for_each(|_| engine.stop.worker_ended());
                    return Err(StartError::io("starting a worker's thread", error));
                }
            }
        }
        for _ in 0..config.workers {
            started.recv().unwrap_or_else(|_| Err(panicked()))?;
        }
        Ok(engine)
    }

    /// The workers.
    #[must_use]
    pub fn workers(&self) -> &[WorkerHandle] {
        &self.workers
    }

    /// The address that the workers are bound to, with the port that was taken. After a
    /// [`rebind`](crate::local::Worker::rebind) workers have addresses of their own: then that of the first.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.workers[0].local_addr()
    }

    /// The counters of all workers together.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        let mut sum = WorkerStats::default();
        self.workers.iter().for_each(|worker| sum += worker.stats());
        sum
    }

    /// Asks all workers to close their connections with `code` (below 2^62) and `reason`, to drain and to end. Returns
    /// at once; the first request counts.
    pub fn request_stop(&self, code: u64, reason: &[u8]) {
        self.stop.request(code, reason);
        self.workers.iter().for_each(|worker| worker.home.mailbox().ring());
    }

    /// Waits until all workers have ended, on any runtime.
    pub async fn stopped(&self) {
        poll_fn(|cx| self.stop.poll_ended(cx)).await;
    }

    /// Closes all connections with `code` and `reason`, and blocks until the workers have ended.
    ///
    /// # Errors
    /// [`EngineError::OffWorker`] when called by one of the workers, which cannot wait for itself; the end is under way
    /// nevertheless.
    pub fn shutdown(&self, code: u64, reason: &[u8]) -> Result<(), EngineError> {
        self.request_stop(code, reason);
        if self.workers.iter().any(WorkerHandle::is_current) {
            return Err(EngineError::OffWorker);
        }
        let threads = std::mem::take(&mut *self.lock_threads());
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
        Ok(())
    }

    fn lock_threads(&self) -> std::sync::MutexGuard<'_, Vec<thread::JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Dropped by one of its own workers it cannot wait; the threads end by themselves.
        let _ = self.shutdown(0, b"");
    }
}

/// One socket per worker; with several, the kernel steers by connection ID with the arithmetic of
/// [`Partition`](crate::partition::Partition).
fn bind(config: &EngineConfig) -> Result<Vec<Io>, StartError> {
    let bound = bind_to(config.bind, config);
    match bound {
        // `[::]` means every address; without IPv6 those are the IPv4 ones.
        Err(StartError::Io { ref source, .. }) if config.bind.ip() == Ipv6Addr::UNSPECIFIED && no_ipv6(source) => {
            bind_to((Ipv4Addr::UNSPECIFIED, config.bind.port()).into(), config)
        }
        bound => bound,
    }
}

fn no_ipv6(error: &std::io::Error) -> bool {
    #[cfg(target_os = "linux")]
    let unsupported = error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    #[cfg(not(target_os = "linux"))]
    let unsupported = error.kind() == std::io::ErrorKind::Unsupported;
    unsupported || error.kind() == std::io::ErrorKind::AddrNotAvailable
}

fn bind_to(address: SocketAddr, config: &EngineConfig) -> Result<Vec<Io>, StartError> {
    if config.workers == 1 {
        let io = Io::bind(address, &config.io).map_err(|error| StartError::io("binding the socket", error))?;
        return Ok(vec![io]);
    }
    bind_group(address, config)
}

#[cfg(target_os = "linux")]
fn bind_group(address: SocketAddr, config: &EngineConfig) -> Result<Vec<Io>, StartError> {
    use warpline_wire::cid::{PARTITION_KEY_OFFSET, PARTITION_SLOTS};
    let key_offset = u8::try_from(PARTITION_KEY_OFFSET).expect("the key lies within a connection ID of 20 bytes");
    let steering = warpline_pktio::udp::Steering { key_offset, slots: PARTITION_SLOTS };
    let workers = u16::try_from(config.workers).expect("there are at most WORKERS_MAX workers");
    Io::bind_group(address, workers, &config.io, &steering)
        .map_err(|error| StartError::io("binding the sockets of the workers", error))
}

#[cfg(not(target_os = "linux"))]
fn bind_group(_address: SocketAddr, _config: &EngineConfig) -> Result<Vec<Io>, StartError> {
    Err(StartError::config("workers", "only Linux steers one port to several workers"))
}

/// Makes the mailboxes and the rings between the workers: one ring per ordered pair.
fn connect(ios: &[Io], handover_len: usize) -> Parts {
    let (mut handles, mut inboxes) = (Vec::new(), Vec::new());
    for (index, io) in ios.iter().enumerate() {
        let bell = io.doorbell();
        let (mailbox, inbox) = Mailbox::new(Box::new(move || bell.ring()));
        let home = Home::new(mailbox);
        handles.push(WorkerHandle {
            index,
            home,
            board: Arc::default(),
            io_stats: io.stats(),
            local_addr: Arc::new(Mutex::new(io.local_addr())),
        });
        inboxes.push(inbox);
    }
    let mut links: Vec<Links> = ios.iter().map(|_| Links::default()).collect();
    for from in 0..ios.len() {
        for to in 0..ios.len() {
            if from == to {
                links[from].outbound.push(None);
                continue;
            }
            let (producer, consumer) = spsc::channel::<Handover>(handover_len);
            links[from].outbound.push(Some((producer, handles[to].home.mailbox().clone())));
            links[to].inbound.push(consumer);
        }
    }
    Parts { handles, inboxes, links }
}

/// The life of a worker's thread.
fn work<P, F>(
    setup: Setup,
    io: Io,
    inbox: Inbox,
    links: Links,
    program: Arc<P>,
    ready: mpsc::Sender<Result<(), StartError>>,
) where
    P: Fn(LocalWorker) -> F,
    F: Future<Output = ()> + 'static,
{
    /// Counts the worker out however its thread ends.
    struct Ended(Arc<Stop>);
    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.worker_ended();
        }
    }
    let _ended = Ended(Arc::clone(&setup.stop));
    match Loop::new(setup, io, inbox, links) {
        Ok(worker) => {
            // The engine waits for this message.
            let _ = ready.send(Ok(()));
            drop(ready);
            worker.run(|local| program(local));
        }
        Err(error) => {
            // As above.
            let _ = ready.send(Err(error));
        }
    }
}

fn panicked() -> StartError {
    StartError::io("starting a worker", std::io::Error::other("the worker's thread panicked"))
}
