//! The loop of a worker.
//!
//! A turn runs to completion: take a batch of datagrams, handle each where it lies, take what other threads want, fire
//! timers, run the tasks that became ready, send what came of it. Only then comes the next batch. The clock is read
//! once per turn. What a turn needs is allocated before the first one.

use crate::clock::Clock;
use crate::config::EngineConfig;
use crate::counters::WorkerStats;
use crate::cx::{self, WorkerCx};
use crate::engine::WorkerHandle;
use crate::error::{RebindError, StartError};
use crate::exec::Executor;
use crate::limits::{BYTES_PER_TURN, SLEEP_MAX, TRAIN_COST_MIN};
use crate::local::Worker as LocalWorker;
use crate::mailbox::{Inbox, Mailbox};
use crate::partition::Partition;
use crate::stop::Stop;
use crate::worker::Core;
use crate::worker::spin::Spin;
use std::cell::RefCell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use warpline_frame::Frame;
use warpline_pktio::{Io, Received, TxMeta};
use warpline_proto::{DatagramMeta, Endpoint, Instant};
use warpline_ring::spsc::{Consumer, Producer};

/// A datagram on its way to the worker that owns its connection.
pub(crate) struct Handover {
    meta: DatagramMeta,
    frame: Frame,
}

/// The rings between one worker and the others.
#[derive(Default)]
pub(crate) struct Links {
    /// By number of the other worker; `None` for this one.
    pub(crate) outbound: Vec<Option<(Producer<Handover>, Mailbox)>>,
    pub(crate) inbound: Vec<Consumer<Handover>>,
}

/// What a worker is made from.
pub(crate) struct Setup {
    pub(crate) handle: WorkerHandle,
    pub(crate) config: Arc<EngineConfig>,
    pub(crate) clock: Clock,
    pub(crate) stop: Arc<Stop>,
}

/// How a turn ended.
struct Turn {
    /// There was something to do.
    worked: bool,
    /// There is more, known already.
    unfinished: bool,
}

/// One worker.
pub(crate) struct Loop {
    cx: Rc<WorkerCx>,
    io: Io,
    inbox: Inbox,
    links: Links,
    /// Workers that were handed something in this turn and have not been told.
    to_ring: Vec<bool>,
    partition: Partition,
    batch: Vec<Received>,
    tally: WorkerStats,
    published: WorkerStats,
    command_panics: u64,
    setup: Setup,
    /// When the worker ends although connections still drain; set once the end was asked for.
    deadline: Option<Instant>,
    spin: Spin,
    /// The socket is unusable.
    failed: bool,
}

impl Loop {
    /// Sets a worker up on the calling thread, which becomes its own.
    pub(crate) fn new(setup: Setup, io: Io, inbox: Inbox, links: Links) -> Result<Self, StartError> {
        let config = &setup.config;
        let index = setup.handle.index();
        if let Some(cores) = &config.cores {
            crate::pin::pin(cores[index])?;
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| StartError::io("reading random bytes", error.into()))?;
        let endpoint = Endpoint::new(Arc::new(config.endpoint(index)), config.server.clone(), seed);
        let now = setup.clock.now();
        let cx = Rc::new(WorkerCx {
            handle: setup.handle.clone(),
            workers: config.workers,
            exec: Executor::enter(Arc::clone(setup.handle.home())),
            core: RefCell::new(Core::new(endpoint, now, config.accept_backlog)),
        });
        Ok(Self {
            cx,
            io,
            inbox,
            to_ring: vec![false; links.outbound.len()],
            links,
            partition: Partition::new(index, config.workers),
            batch: Vec::with_capacity(warpline_pktio::limits::RECV_BATCH * 4),
            tally: WorkerStats::default(),
            published: WorkerStats::default(),
            command_panics: 0,
            spin: Spin::new(config.spin),
            setup,
            deadline: None,
            failed: false,
        })
    }

    /// Works until the engine stops.
    pub(crate) fn run<F>(mut self, program: impl FnOnce(LocalWorker) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        let entered = cx::enter(Rc::clone(&self.cx));
        match std::panic::catch_unwind(AssertUnwindSafe(|| LocalWorker::current().map(program))) {
            Ok(Ok(main)) => self.cx.exec.spawn_detached(main),
            Ok(Err(_)) | Err(_) => tracing::error!(worker = self.setup.handle.index(), "the program did not start"),
        }
        loop {
            let handled = self.tally.datagrams;
            let turn = self.turn();
            if self.failed || self.may_end() {
                break;
            }
            if turn.worked {
                self.spin.worked(self.tally.datagrams - handled);
            }
            // Where the back end knows that nothing more has arrived, the wait is the better look: it takes what is to be
            // sent along.
            let again = turn.unfinished || turn.worked && !self.io.is_drained();
            if !again && !self.spin.look_again(self.cx.core.borrow().now) {
                self.rest();
            }
        }
        self.cx.exec.abort_all();
        drop(entered);
    }

    /// One turn.
    fn turn(&mut self) -> Turn {
        self.tally.turns += 1;
        let now = self.setup.clock.now();
        let mut worked = self.receive(now);
        worked |= self.take_over(now);
        self.look_at_inbox();
        self.cx.with_core(|core| {
            core.now = now;
            if core.endpoint.next_timeout().is_some_and(|due| due <= now) {
                core.endpoint.handle_timeout(now);
            }
            core.dispatch_events();
            core.fire_timers();
        });
        let polled = self.cx.exec.run(self.setup.config.task_budget);
        if polled > 0 {
            self.tally.task_polls += polled as u64;
            // What the tasks did may have ended connections or made other tasks ready.
            self.cx.with_core(Core::dispatch_events);
        }
        self.rebind(now);
        let unfinished = self.transmit(now) || self.cx.exec.has_ready();
        self.publish();
        Turn { worked: worked || unfinished, unfinished }
    }

    /// Takes a batch from the socket and handles what is this worker's.
    #[inline]
    fn receive(&mut self, now: Instant) -> bool {
        if let Err(error) = self.io.recv(&mut self.batch) {
            self.fail("receiving", &error);
        }
        if self.batch.is_empty() {
            return false;
        }
        let mut core = self.cx.core.borrow_mut();
        core.now = now;
        for received in self.batch.drain(..) {
            let meta =
                DatagramMeta { remote: received.remote, local: received.local, ecn: received.ecn.map(ecn_from_io) };
            for mut frame in received.datagrams() {
                match self.partition.foreign(&frame) {
                    None => {
                        self.tally.datagrams += 1;
                        core.endpoint.handle_datagram(now, &meta, &mut frame);
                    }
                    Some(owner) => {
                        let handover = Handover { meta, frame };
                        let ring = self.links.outbound[owner].as_mut().map(|(ring, _)| ring);
                        if ring.is_some_and(|ring| ring.push(handover).is_ok()) {
                            self.tally.handed_over += 1;
                            self.to_ring[owner] = true;
                        } else {
                            self.tally.handover_dropped += 1;
                        }
                    }
                }
            }
        }
        drop(core);
        for (owner, rung) in self.to_ring.iter_mut().enumerate() {
            if std::mem::take(rung)
                && let Some((_, mailbox)) = &self.links.outbound[owner]
            {
                mailbox.ring();
            }
        }
        true
    }

    /// Handles what other workers handed over, as it was when the turn began: at most what the rings hold.
    #[inline]
    fn take_over(&mut self, now: Instant) -> bool {
        let mut taken = 0;
        for ring in &mut self.links.inbound {
            if ring.is_empty() {
                continue;
            }
            let mut core = self.cx.core.borrow_mut();
            for _ in 0..self.setup.config.handover_len {
                let Some(Handover { meta, mut frame }) = ring.pop() else { break };
                core.endpoint.handle_datagram(now, &meta, &mut frame);
                taken += 1;
            }
        }
        self.tally.taken_over += taken;
        self.tally.datagrams += taken;
        taken > 0
    }

    /// Takes what other threads want: wake-ups, commands, the end.
    #[inline]
    fn look_at_inbox(&mut self) {
        let exec = &self.cx.exec;
        if self.inbox.take_wakes(|key| exec.woken(key)) {
            exec.wake_all();
        }
        let panics = &mut self.command_panics;
        let commands = self.inbox.run_commands(|command| {
            // As with tasks, a panic ends the command and not the worker.
            if std::panic::catch_unwind(AssertUnwindSafe(command)).is_err() {
                *panics += 1;
            }
        });
        self.tally.commands += commands as u64;
        if self.deadline.is_none()
            && let Some((code, reason)) = self.setup.stop.farewell()
        {
            self.cx.with_core(|core| {
                self.deadline = Some(core.now + self.setup.config.shutdown_timeout);
                core.close_all(code, reason);
            });
        }
    }

    /// Sends what there is to send, up to the turn's share. Returns whether more is left.
    #[inline]
    fn transmit(&mut self, now: Instant) -> bool {
        let mut core = self.cx.core.borrow_mut();
        let mut left = BYTES_PER_TURN;
        let mut paused = false;
        loop {
            if self.io.tx_should_pause() {
                paused = true;
                break;
            }
            let Some(buffer) = self.io.tx_buffer() else { break };
            let cost = buffer.len().max(TRAIN_COST_MIN);
            let Some(transmit) = core.endpoint.poll_transmit(now, buffer) else { break };
            self.tally.trains += 1;
            self.io.tx_commit(TxMeta {
                remote: transmit.remote,
                local: transmit.local,
                ecn: transmit.ecn.map(ecn_to_io),
                segment_size: transmit.segment_size,
                len: transmit.len,
            });
            left = left.saturating_sub(cost);
            if left == 0 {
                break;
            }
        }
        drop(core);
        if let Err(error) = self.io.flush_soon() {
            self.fail("sending", &error);
        }
        // Where the socket takes no more, the wait ends when it does.
        (left == 0 || paused) && !self.io.tx_blocked()
    }

    /// Goes over to another socket if a task wants that, and takes all connections along.
    #[inline]
    fn rebind(&mut self, now: Instant) {
        if !self.cx.core.borrow().rebinds.is_empty() {
            self.carry_out_rebinds(now);
        }
    }

    #[cold]
    fn carry_out_rebinds(&mut self, now: Instant) {
        let config = Arc::clone(&self.setup.config);
        self.cx.with_core(|core| {
            for rebind in std::mem::take(&mut core.rebinds) {
                let outcome = if config.server.is_some() {
                    Err(RebindError::Serving)
                } else {
                    self.io.rebind(rebind.address, &config.io).map_err(RebindError::from)
                };
                let outcome = outcome.map(|()| {
                    let moved = core.endpoint.migrate_all(now);
                    let address = self.io.local_addr();
                    tracing::debug!(worker = self.setup.handle.index(), %address, moved, "another socket");
                    self.setup.handle.set_local_addr(address);
                    address
                });
                core.wakes.extend(rebind.settle(outcome));
            }
        });
    }

    /// The socket is unusable: what goes wrong with single datagrams the back end counts. The worker ends, and whoever
    /// waits for it learns that; going on would be a busy loop that serves nobody.
    fn fail(&mut self, doing: &str, error: &std::io::Error) {
        tracing::error!(worker = self.setup.handle.index(), doing, %error, "the worker's socket failed");
        self.failed = true;
    }

    fn publish(&mut self) {
        {
            let core = self.cx.core.borrow();
            self.tally.connections = core.endpoint.len() as u64;
            self.tally.accept_queue = core.accept_queue_len() as u64;
            self.tally.accept_refused = core.refused;
        }
        self.tally.task_panics = self.cx.exec.panics() + self.command_panics;
        self.tally.tasks = self.cx.exec.len() as u64;
        self.setup.handle.board().publish(&self.published, &self.tally);
        self.published = self.tally;
    }

    /// Whether the end was asked for and everything is drained, or the time for it is up.
    fn may_end(&self) -> bool {
        self.deadline.is_some_and(|deadline| {
            let core = self.cx.core.borrow();
            core.endpoint.is_idle() || core.now >= deadline
        })
    }

    /// Sleeps until something happens or is due.
    fn rest(&mut self) {
        let (now, due) = {
            let mut core = self.cx.core.borrow_mut();
            (core.now, core.next_timeout())
        };
        let due = due.into_iter().chain(self.deadline).min();
        if due.is_some_and(|due| due <= now) {
            return;
        }
        // The turn itself took time; reading the clock again costs less than waking up late.
        let before = self.setup.clock.now();
        let timeout = due.map_or(SLEEP_MAX, |due| due - before).min(SLEEP_MAX);
        if timeout == Duration::ZERO {
            return;
        }
        self.tally.sleeps += 1;
        if let Err(error) = self.io.wait(Some(timeout)) {
            self.fail("waiting", &error);
        }
        self.spin.slept(self.setup.clock.now() - before);
    }
}

fn ecn_from_io(ecn: warpline_pktio::Ecn) -> warpline_proto::Ecn {
    match ecn {
        warpline_pktio::Ecn::Ect0 => warpline_proto::Ecn::Ect0,
        warpline_pktio::Ecn::Ect1 => warpline_proto::Ecn::Ect1,
        warpline_pktio::Ecn::Ce => warpline_proto::Ecn::Ce,
    }
}

fn ecn_to_io(ecn: warpline_proto::Ecn) -> warpline_pktio::Ecn {
    match ecn {
        warpline_proto::Ecn::Ect0 => warpline_pktio::Ecn::Ect0,
        warpline_proto::Ecn::Ect1 => warpline_pktio::Ecn::Ect1,
        warpline_proto::Ecn::Ce => warpline_pktio::Ecn::Ce,
    }
}
