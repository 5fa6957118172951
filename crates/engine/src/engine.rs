//! Starting workers, reaching them from other threads, and ending them.

use crate::bind::{Bound, bind, first_plan, open};
use crate::clock::Clock;
use crate::config::EngineConfig;
use crate::counters::{Board, WorkerStats};
use crate::error::{EngineError, ScaleError, StartError};
use crate::exec::Home;
use crate::limits::WORKER_NUMBERS;
use crate::local::Worker as LocalWorker;
use crate::mailbox::{Command, Rejected};
#[cfg(target_os = "linux")]
use crate::restart::{Doorway, Stage, Surroundings};
use crate::scaling::{Coordinator, Crew, Ports, Program, Role, Signal, Starter, coordinate};
use crate::stop::Stop;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use warpline_pktio::xdp::{XdpCounters, XdpFrames, XdpStatus};
use warpline_pktio::{Choice, Io, IoStats, StatsHandle};
use warpline_ring::partition::Plan;
use warpline_ring::{EpochCell, Lock, Progress, oneshot};

/// A group of workers that serve one address.
///
/// Dropping it closes all connections with code 0, and waits until the peers have answered and the threads have ended, at
/// most [`EngineConfig::shutdown_timeout`]; [`shutdown`](Self::shutdown) does the same with a code and reason of the
/// caller's.
#[derive(Debug)]
pub struct Engine {
    crew: Arc<Crew>,
    stop: Arc<Stop>,
    local_addr: SocketAddr,
    coordinator: Coordinator,
    coordinator_thread: Lock<Option<thread::JoinHandle<()>>>,
    #[cfg(target_os = "linux")]
    doorway: Option<Doorway>,
}

/// The way to one worker from any thread. Clones name the same worker.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    index: usize,
    home: Arc<Home>,
    board: Arc<Board>,
    io_stats: StatsHandle,
    local_addr: Arc<Lock<SocketAddr>>,
    /// The coordinator agrees to the worker's end.
    may_leave: Arc<AtomicBool>,
}

impl WorkerHandle {
    pub(crate) fn new(index: usize, home: Arc<Home>, io: &Io) -> Self {
        Self {
            index,
            home,
            board: Arc::default(),
            io_stats: io.stats(),
            local_addr: Arc::new(Lock::new(io.local_addr())),
            may_leave: Arc::default(),
        }
    }

    /// The worker's number in tables.
    pub(crate) fn number(&self) -> u16 {
        u16::try_from(self.index).expect("there are at most WORKER_NUMBERS workers")
    }

    pub(crate) fn may_leave(&self) -> bool {
        self.may_leave.load(Ordering::Acquire)
    }

    pub(crate) fn set_may_leave(&self, may: bool) {
        self.may_leave.store(may, Ordering::Release);
    }

    /// Which worker it is, counted from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The address of the worker's socket.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        *self.local_addr.lock()
    }

    pub(crate) fn set_local_addr(&self, address: SocketAddr) {
        *self.local_addr.lock() = address;
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

    /// Where the frames of AF_XDP were when the worker last looked; `None` for other back ends.
    #[must_use]
    pub fn xdp_frames(&self) -> Option<XdpFrames> {
        self.io_stats.xdp_frames()
    }

    /// What the kernel counted on the worker's AF_XDP queues when it last looked; zeros for other back ends.
    #[must_use]
    pub fn xdp_counters(&self) -> XdpCounters {
        self.io_stats.xdp_counters()
    }

    /// Which packet back end the worker has, and why no faster one.
    #[must_use]
    pub fn io_choice(&self) -> Choice {
        self.io_stats.choice()
    }
}

impl Engine {
    /// Binds the address and starts the workers. Each runs `program`, which is called once on every worker's thread;
    /// its future need not be `Send`. A worker goes on when its program has ended.
    ///
    /// # Errors
    /// [`StartError`]: a field that cannot be honoured, or what the machine refused.
    pub fn start<P, F>(mut config: EngineConfig, program: P) -> Result<Self, StartError>
    where
        P: Fn(LocalWorker) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + 'static,
    {
        config.validate()?;
        let bound = bind(&mut config)?;
        Self::launch(bound, config, program)
    }

    /// The same on packet back ends of the caller's, one per worker, that share one address: in-memory networks for
    /// tests. The number of workers stays.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_on<P, F>(ios: Vec<Io>, config: EngineConfig, program: P) -> Result<Self, StartError>
    where
        P: Fn(LocalWorker) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + 'static,
    {
        config.validate()?;
        if config.has_ports() {
            let why = "takes 0 with packet back ends of one's own, and there are no readers and no restart";
            return Err(StartError::config("workers_max", why));
        }
        Self::launch(Bound { ios, ..Bound::default() }, config, program)
    }

    /// The same on packet back ends that `ports` opens, now and when workers are added.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with_ports<P, F>(
        mut ports: Box<dyn Ports>,
        config: EngineConfig,
        program: P,
    ) -> Result<Self, StartError>
    where
        P: Fn(LocalWorker) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + 'static,
    {
        config.validate()?;
        if !config.is_scalable() {
            return Err(StartError::config("workers_max", "says how many workers there may be"));
        }
        let ios = open(ports.as_mut(), &config)?;
        let mark = config.restart.is_some().then_some(false);
        Self::launch(Bound { ios, ports: Some(ports), mark, ..Bound::default() }, config, program)
    }

    fn launch<P, F>(bound: Bound, config: EngineConfig, program: P) -> Result<Self, StartError>
    where
        P: Fn(LocalWorker) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + 'static,
    {
        let Bound { ios, ports, mark, .. } = bound;
        if ios.len() != config.workers + config.readers {
            return Err(StartError::config("workers", "must be as many as packet back ends"));
        }
        let program: Program = Arc::new(move |worker| Box::pin(program(worker)));
        let plan = first_plan(&config);
        let (coordinator, signals) = if ports.is_some() {
            let (sender, signals) = mpsc::channel();
            (Coordinator::new(sender), Some(signals))
        } else {
            (Coordinator::default(), None)
        };
        let starter = Starter {
            config: Arc::new(config),
            program,
            clock: Clock::start(),
            stop: Arc::default(),
            plans: Arc::new(EpochCell::new(Arc::new(plan.clone()))),
            progress: Arc::new(Progress::new(WORKER_NUMBERS)),
            crew: Arc::default(),
            coordinator: coordinator.clone(),
            mark,
        };
        // From here on a failure ends those that were started: the engine's drop waits for them.
        let config = Arc::clone(&starter.config);
        let mut engine = Self {
            crew: Arc::clone(&starter.crew),
            stop: Arc::clone(&starter.stop),
            local_addr: ios[0].local_addr(),
            coordinator,
            coordinator_thread: Lock::default(),
            #[cfg(target_os = "linux")]
            doorway: None,
        };
        for (index, io) in ios.into_iter().enumerate() {
            starter.start(index, io, role_of(index, &starter.config))?;
        }
        if let Some((ports, signals)) = ports.zip(signals) {
            engine.start_coordinator(starter, ports, signals, plan)?;
        }
        #[cfg(target_os = "linux")]
        if let (Some(path), Some(mark)) = (&config.restart, mark) {
            let around = engine.surroundings(&config, path, mark);
            engine.doorway = Some(Doorway::open(around, bound.predecessor)?);
        }
        Ok(engine)
    }

    #[cfg(target_os = "linux")]
    fn surroundings(&self, config: &EngineConfig, path: &std::path::Path, mark: bool) -> Surroundings {
        Surroundings {
            coordinator: self.coordinator.clone(),
            crew: Arc::clone(&self.crew),
            stop: Arc::clone(&self.stop),
            path: path.to_owned(),
            secret: *config.keys.current(),
            mark,
            thread_name: config.thread_name.clone(),
        }
    }

    fn start_coordinator(
        &self,
        starter: Starter,
        ports: Box<dyn Ports>,
        signals: mpsc::Receiver<Signal>,
        plan: Plan,
    ) -> Result<(), StartError> {
        /// The port is free when the last one has ended, and the coordinator has a hold on it.
        struct Ended(Arc<Stop>);
        impl Drop for Ended {
            fn drop(&mut self) {
                self.0.worker_ended();
            }
        }
        self.stop.worker_starts();
        let ended = Ended(Arc::clone(&self.stop));
        let name = format!("{}-coord", starter.config.thread_name);
        let thread = thread::Builder::new().name(name).spawn(move || {
            let _ended = ended;
            coordinate(starter, ports, signals, plan);
        });
        let thread = thread.map_err(|error| StartError::io("starting the coordinator's thread", error))?;
        *self.coordinator_thread.lock() = Some(thread);
        Ok(())
    }

    /// Changes the number of workers while traffic flows, and waits until the slots of connections have moved. Workers
    /// that are removed finish what they have; connections that can move have moved when this returns.
    ///
    /// # Errors
    /// [`ScaleError`]: the number is out of range, the number of workers is fixed, or what the machine refused. On AF_XDP the
    /// range begins with the number of workers that own queues: as many of [`EngineConfig::workers`] as there are queues. There, removed
    /// workers that still finish what they have count until they end. After an error there may be more workers than before.
    pub async fn scale_to(&self, workers: usize) -> Result<(), ScaleError> {
        let (reply, answer) = oneshot::oneshot();
        if !self.coordinator.tell(Signal::Scale(workers, reply)) {
            if self.stop.farewell().is_some() {
                return Err(EngineError::Stopped.into());
            }
            let why = "the number of workers is fixed; set workers_max to change it";
            return Err(StartError::config("workers", why).into());
        }
        answer.await.unwrap_or(Err(EngineError::Stopped.into()))
    }

    /// The workers, as of now, in the order of their numbers; those that only finish their work are not among them.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerHandle> {
        self.crew.active()
    }

    /// All workers whose threads run, those that only finish their work included.
    #[must_use]
    pub fn running(&self) -> Vec<WorkerHandle> {
        self.crew.all()
    }

    /// The address that the workers are bound to, with the port that was taken. After a
    /// [`rebind`](crate::local::Worker::rebind) workers have addresses of their own: then that of the first.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.crew.active().first().map_or(self.local_addr, WorkerHandle::local_addr)
    }

    /// The counters of all workers together, those that are gone included.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        self.crew.stats()
    }

    /// Waits until another process has taken the port over by [`EngineConfig::restart`]; `false` if this engine ends first,
    /// or has no restart socket. From then on new connections go to that process; those that this one has stay here.
    pub async fn handed_over(&self) -> bool {
        #[cfg(target_os = "linux")]
        if let Some(doorway) = &self.doorway {
            return poll_fn(|cx| doorway.poll(Stage::HandedOver, cx)).await;
        }
        false
    }

    /// As [`handed_over`](Self::handed_over), and until the last connection here has ended and nothing comes any more: time
    /// to shut down.
    pub async fn finished(&self) -> bool {
        #[cfg(target_os = "linux")]
        if let Some(doorway) = &self.doorway {
            return poll_fn(|cx| doorway.poll(Stage::Finished, cx)).await;
        }
        false
    }

    /// Asks all workers to close their connections with `code` (below 2^62) and `reason`, and to end. Returns
    /// at once; the first request counts.
    pub fn request_stop(&self, code: u64, reason: &[u8]) {
        self.stop.request(code, reason);
        self.crew.all().iter().for_each(|worker| worker.home.mailbox().ring());
        self.coordinator.tell(Signal::Stop);
        #[cfg(target_os = "linux")]
        self.doorway.iter().for_each(Doorway::ring);
    }

    /// Whether the end was asked for.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.farewell().is_some()
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
        if self.crew.all().iter().any(WorkerHandle::is_current) {
            return Err(EngineError::OffWorker);
        }
        #[cfg(target_os = "linux")]
        self.doorway.iter().for_each(Doorway::join);
        let coordinator = self.coordinator_thread.lock().take();
        if coordinator.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the coordinator panicked");
        }
        for (worker, thread) in self.crew.take_threads() {
            if thread.join().is_err() {
                tracing::error!(worker, "a worker panicked");
            }
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Dropped by one of its own workers it cannot wait; the threads end by themselves.
        let _ = self.shutdown(0, b"");
    }
}

fn role_of(index: usize, config: &EngineConfig) -> Role {
    if config.reader_numbers().contains(&index) { Role::Reader } else { Role::Worker }
}
