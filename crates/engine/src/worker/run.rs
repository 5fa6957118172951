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
use crate::limits::{BYTES_PER_TURN, PANICS_MAX, SLEEP_MAX, TRAIN_COST_MIN};
use crate::local::Worker as LocalWorker;
use crate::mailbox::Inbox;
use crate::scaling::Coordinator;
use crate::stop::Stop;
use crate::worker::Core;
use crate::worker::LogFolder;
use crate::worker::ingress::Share;
use crate::worker::links::{LinkChange, Links, Message};
use crate::worker::order::Order;
use crate::worker::signals::Signals;
use crate::worker::spin::Spin;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use warpline_frame::Frame;
use warpline_pktio::{Io, Received, TxMeta};
use warpline_proto::BATCH_MAX;
use warpline_proto::{Endpoint, Instant};
use warpline_ring::partition::Member;

/// What a worker is made from.
pub(crate) struct Setup {
    pub(crate) handle: WorkerHandle,
    pub(crate) config: Arc<EngineConfig>,
    pub(crate) clock: Clock,
    pub(crate) stop: Arc<Stop>,
    pub(crate) member: Member,
    pub(crate) coordinator: Coordinator,
    pub(crate) mark: Option<bool>,
    /// It only receives and passes on.
    pub(crate) is_reader: bool,
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
    pub(super) cx: Rc<WorkerCx>,
    pub(super) io: Io,
    inbox: Inbox,
    pub(super) links: Links,
    pub(super) share: Share,
    pub(super) batch: Vec<Received>,
    /// What came by ring in a turn; kept for its memory.
    pub(super) messages: Vec<Message>,
    /// Datagrams that came together, on their way to the endpoint; kept for its memory.
    pub(super) together: Vec<Frame>,
    /// The last look at the socket was in vain.
    pub(super) found_nothing: bool,
    /// In a change: how far [`Io::taken_bytes`] is to come before the worker has handled what arrived before it.
    pub(super) drain: Option<u64>,
    pub(super) tally: WorkerStats,
    published: WorkerStats,
    command_panics: u64,
    pub(super) setup: Facts,
    pub(super) signals: Signals,
    /// When the worker ends although not all peers have answered its farewell; set once the end was asked for.
    deadline: Option<Instant>,
    spin: Spin,
    departure: Departure,
    /// Why the worker cannot go on.
    failure: Option<String>,
}

/// What stays as it is.
pub(super) struct Facts {
    handle: WorkerHandle,
    config: Arc<EngineConfig>,
    pub(super) clock: Clock,
    stop: Arc<Stop>,
    coordinator: Coordinator,
    pub(super) is_reader: bool,
    /// Where the logs of connections go.
    logs: Option<LogFolder>,
}

/// How far a worker is that is not to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Departure {
    No,
    /// Everything is finished; the coordinator was told.
    Announced,
    /// The coordinator agreed.
    Granted,
}

impl Loop {
    /// Sets a worker up on the calling thread, which becomes its own.
    pub(crate) fn new(setup: Setup, io: Io, inbox: Inbox, links: Links) -> Result<Self, StartError> {
        let Setup { handle, config, clock, stop, member, coordinator, mark, is_reader } = setup;
        let index = handle.index();
        if let Some(cores) = &config.cores {
            crate::pin::pin(cores[index % cores.len()])?;
        }
        if let Some(used) = crate::pages::instead_of_huge(config.io.huge_pages, io.pages()) {
            tracing::warn!(worker = index, used, "no huge pages are free (vm.nr_hugepages) for packet memory");
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| StartError::io("reading random bytes", error.into()))?;
        let now = clock.now();
        let mut endpoint = config.endpoint(mark);
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        endpoint.unix_at_zero = unix.saturating_sub(Duration::from_nanos(now.as_nanos()));
        let mut endpoint = Endpoint::new(Arc::new(endpoint), config.server.clone(), seed);
        endpoint.set_slots(member.lasting());
        let cx = Rc::new(WorkerCx {
            handle: handle.clone(),
            workers: Cell::new(member.active()),
            exec: Executor::enter(Arc::clone(handle.home())),
            core: RefCell::new(Core::new(endpoint, now, config.accept_backlog)),
            orders: RefCell::default(),
            in_hurry: Cell::new(false),
        });
        Ok(Self {
            cx,
            io,
            inbox,
            links,
            share: Share::new(member, config.layout()),
            batch: Vec::with_capacity(warpline_pktio::limits::RECV_BATCH * 4),
            messages: Vec::new(),
            together: Vec::with_capacity(BATCH_MAX),
            found_nothing: false,
            drain: None,
            tally: WorkerStats::default(),
            published: WorkerStats::default(),
            command_panics: 0,
            spin: Spin::new(config.spin),
            signals: Signals::default(),
            setup: Facts {
                handle,
                logs: config.qlog.clone().map(LogFolder::new),
                config,
                clock,
                stop,
                coordinator,
                is_reader,
            },
            deadline: None,
            departure: Departure::No,
            failure: None,
        })
    }

    /// The worker's number in tables.
    pub(super) fn number(&self) -> u16 {
        self.setup.handle.number()
    }

    /// Works until the engine stops or the worker has become superfluous; `false` if it could not go on.
    pub(crate) fn run<F>(mut self, program: impl FnOnce(LocalWorker) -> F) -> bool
    where
        F: Future<Output = ()> + 'static,
    {
        let entered = cx::enter(Rc::clone(&self.cx));
        match std::panic::catch_unwind(AssertUnwindSafe(|| LocalWorker::current().map(program))) {
            Ok(Ok(main)) => self.cx.exec.spawn_detached(main),
            Ok(Err(_)) | Err(_) => tracing::error!(worker = self.setup.handle.index(), "the program did not start"),
        }
        loop {
            let (handled, sent) = (self.tally.datagrams, self.tally.sent_bytes);
            // A panic of the protocol's code ends the connection it was about, and not the worker.
            let turn = match std::panic::catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(turn) => turn,
                Err(_) => self.recover(),
            };
            if self.failure.is_some() || self.may_end() || self.departure == Departure::Granted {
                break;
            }
            if turn.worked {
                self.spin.worked(self.tally.datagrams - handled, self.tally.sent_bytes - sent);
            }
            // Where the back end knows that nothing more has arrived, the wait is the better look: it takes what is to be
            // sent along.
            let again = turn.unfinished || turn.worked && !self.io.is_drained();
            if !again && !self.spin.look_again(self.cx.core.borrow().now) {
                self.rest();
            }
        }
        self.end();
        drop(entered);
        self.failure.is_none()
    }

    /// One turn.
    fn turn(&mut self) -> Turn {
        self.tally.turns += 1;
        let now = self.setup.clock.now();
        // It comes while the system is asked for datagrams.
        self.cx.core.borrow().endpoint.prefetch_timeouts(now);
        let duty = self.share.member.poll();
        self.look_at_inbox();
        let worked = self.receive(now);
        // Handshakes take time.
        let now = self.cx.core.borrow().now.max(now);
        self.prepare();
        let stepped = self.perform(duty, now);
        self.cx.with_core(|core| {
            core.now = now;
            if core.endpoint.next_timeout().is_some_and(|due| due <= now) {
                core.endpoint.handle_timeout(now);
            }
            core.dispatch_events();
            core.fire_timers();
        });
        let polled = self.cx.exec.run(self.setup.config.task_budget, &self.cx.in_hurry);
        if polled > 0 {
            self.tally.task_polls += polled as u64;
            // What the tasks did may have ended connections or made other tasks ready.
            self.cx.with_core(Core::dispatch_events);
        }
        let pressure = self.signals.pressure(self.setup.config.shed_delay);
        self.cx.core.borrow_mut().endpoint.set_pressure(pressure);
        self.tell_of_resets();
        self.rebind(now);
        self.tend_strays();
        if !self.setup.is_reader && self.signals.asks(self.setup.config.scaling.as_ref(), now) {
            self.tally.growth_asked += 1;
            self.setup.coordinator.grow(self.setup.handle.index());
        }
        let mut unfinished = !self.links.flush() || stepped;
        self.links.ring();
        unfinished |= self.transmit(now) || self.cx.exec.has_ready();
        self.write_logs();
        self.publish();
        unfinished |= self.depart();
        Turn { worked: worked || unfinished, unfinished }
    }

    /// The kernel gives a stateless reset to any worker.
    #[inline]
    fn tell_of_resets(&mut self) {
        let mut core = self.cx.core.borrow_mut();
        while let Some(token) = core.endpoint.poll_unclaimed_reset() {
            self.links.tell_of_reset(token);
        }
    }

    #[inline]
    fn write_logs(&mut self) {
        if let Some(logs) = &mut self.setup.logs {
            logs.take(&mut self.cx.core.borrow_mut().endpoint);
        }
    }

    /// After a panic: the connection whose code it was is given up, the rest goes on.
    fn recover(&mut self) -> Turn {
        self.tally.panics += 1;
        self.batch.clear();
        let now = self.setup.clock.now();
        let lost = self.cx.core.borrow_mut().endpoint.abandon_active(now);
        let worker = self.setup.handle.index();
        match lost {
            Some(handle) => self.cx.with_core(|core| core.lost(handle, "a panic in the protocol's code")),
            None if self.tally.panics > PANICS_MAX => {
                let error = std::io::Error::other("the worker panicked again and again");
                self.fail("working", &error);
            }
            None => tracing::error!(worker, "a panic in a worker's turn"),
        }
        Turn { worked: true, unfinished: true }
    }

    /// For a worker that is not to go on: once everything is finished the coordinator is told, and once it agrees the
    /// worker ends. Returns whether it should look again at once.
    fn depart(&mut self) -> bool {
        if !self.is_leaving() || self.deadline.is_some() {
            return false;
        }
        let idle = self.is_finished();
        match self.departure {
            Departure::No if idle => {
                self.departure = Departure::Announced;
                self.setup.coordinator.finished(self.setup.handle.index());
            }
            Departure::Announced if self.setup.handle.may_leave() => {
                // Something may have come since it was announced: then not yet.
                self.setup.handle.set_may_leave(false);
                self.departure = if idle { Departure::Granted } else { Departure::No };
                return true;
            }
            Departure::No | Departure::Announced | Departure::Granted => {}
        }
        false
    }

    /// Whether nothing is left to do: no connection, no task, nothing under way.
    fn is_finished(&mut self) -> bool {
        let core = self.cx.core.borrow();
        let quiet = core.endpoint.is_idle() && core.conns.is_empty() && self.cx.exec.len() == 0;
        drop(core);
        quiet && !self.share.strays.holds_any() && self.share.held.is_empty() && self.links.flush()
    }

    /// The last things on the worker's thread.
    fn end(&mut self) {
        if self.departure == Departure::Granted {
            // What slipped in goes to its owners.
            let now = self.setup.clock.now();
            while self.receive(now) {}
            self.links.flush();
            self.links.ring();
            // Whoever has a full ring has more than it can handle: to the peers these were lost on the way.
            self.tally.handover_dropped += self.links.abandon();
        }
        if let Some(why) = self.failure.clone() {
            // Those who wait learn why, tasks on this thread and elsewhere.
            self.cx.with_core(|core| core.fail_all(&why));
            self.cx.exec.run(usize::MAX, &Cell::new(false));
        }
        let mut wakes = Vec::new();
        self.cx.core.borrow_mut().timers.fire_all(&mut wakes);
        wakes.into_iter().for_each(std::task::Waker::wake);
        self.cx.exec.abort_all();
        if self.setup.logs.is_some() {
            self.cx.core.borrow_mut().endpoint.flush_logs();
            self.write_logs();
        }
        self.publish();
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
        if !self.cx.orders.borrow().is_empty() {
            self.carry_out_orders();
        }
        if self.deadline.is_none()
            && let Some((code, reason)) = self.setup.stop.farewell()
        {
            self.cx.with_core(|core| {
                self.deadline = Some(core.now + self.setup.config.shutdown_timeout);
                core.close_all(code, reason);
            });
        }
    }

    #[cold]
    fn carry_out_orders(&mut self) {
        let orders = std::mem::take(&mut *self.cx.orders.borrow_mut());
        for order in orders {
            match order {
                Order::Links(change) => self.change_links(change),
                #[cfg(target_os = "linux")]
                Order::Heir(heir) => self.share.heir = heir,
                #[cfg(target_os = "linux")]
                Order::Bequest(packet) => self.take_bequest(packet),
            }
        }
    }

    /// Sends what there is to send, up to the turn's share, and perhaps only with the next look. Returns whether more is left.
    #[inline]
    fn transmit(&mut self, now: Instant) -> bool {
        let unfinished = self.build(now);
        if let Err(error) = self.io.flush_soon() {
            self.fail("sending", &error);
        }
        // Where the socket takes no more, the wait ends when it does.
        unfinished && !self.io.tx_blocked()
    }

    /// Queues what there is to send, up to the turn's share. Returns whether more is left.
    #[inline]
    pub(super) fn build(&mut self, now: Instant) -> bool {
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
            self.tally.sent_bytes += transmit.len as u64;
            left = left.saturating_sub(cost);
            if left == 0 {
                break;
            }
        }
        left == 0 || paused
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
                } else if config.has_ports() {
                    Err(RebindError::Scalable)
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
    pub(super) fn fail(&mut self, doing: &str, error: &std::io::Error) {
        tracing::error!(worker = self.setup.handle.index(), doing, %error, "the worker's socket failed");
        self.failure.get_or_insert_with(|| format!("{doing}: {error}"));
    }

    /// There is a new worker, or one is gone; what the one had sent is handled first.
    fn change_links(&mut self, change: LinkChange) {
        if let LinkChange::Close { worker } = &change {
            let now = self.cx.core.borrow().now;
            while self.take_over(now) > 0 {}
            if let Ok(worker) = u16::try_from(*worker) {
                self.share.strays.forget_holder(worker);
            }
        }
        self.links.apply(change);
    }

    fn publish(&mut self) {
        {
            let core = self.cx.core.borrow();
            self.tally.connections = core.endpoint.len() as u64;
            self.tally.handshakes = core.endpoint.half_open() as u64;
            self.tally.accept_queue = core.accept_queue_len() as u64;
            self.tally.accept_refused = core.refused;
            self.tally.strays = self.share.strays.held().len() as u64;
        }
        self.tally.task_panics = self.cx.exec.panics() + self.command_panics;
        self.tally.queue = self.signals.queue();
        self.tally.delay_ns = u64::try_from(self.signals.delay().as_nanos()).unwrap_or(u64::MAX);
        self.tally.tasks = self.cx.exec.len() as u64;
        self.cx.workers.set(self.share.member.active());
        self.setup.handle.board().publish(&self.published, &self.tally);
        self.published = self.tally;
    }

    /// Whether the end was asked for and nothing is left to be said, or the time for it is up.
    fn may_end(&self) -> bool {
        self.deadline.is_some_and(|deadline| {
            let core = self.cx.core.borrow();
            core.endpoint.is_silent() || core.now >= deadline
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
        let slept = self.setup.clock.now() - before;
        self.tally.asleep_ns += u64::try_from(slept.as_nanos()).unwrap_or_default();
        self.signals.slept();
        self.spin.slept(slept);
    }
}

pub(super) fn ecn_from_io(ecn: warpline_pktio::Ecn) -> warpline_proto::Ecn {
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
