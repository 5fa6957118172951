//! The thread that carries out changes, one at a time.

use crate::engine::WorkerHandle;
use crate::error::{EngineError, ScaleError, StartError};
use crate::limits::{ROOM_WAIT, SLOTS_PER_CHANGE, WORKER_NUMBERS};
use crate::scaling::Role;
use crate::scaling::judge::{Judge, Verdict};
use crate::scaling::ports::Ports;
#[cfg(target_os = "linux")]
use crate::scaling::starter::insist;
use crate::scaling::starter::{Starter, change_links};
use crate::worker::LinkChange;
#[cfg(target_os = "linux")]
use crate::{restart::Heir, worker::Order};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
#[cfg(target_os = "linux")]
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use warpline_pktio::Io;
#[cfg(target_os = "linux")]
use warpline_pktio::udp::{Export, Neighbour};
use warpline_ring::oneshot::Reply;
use warpline_ring::partition::{Plan, Point};

/// How often the coordinator looks while a change is under way.
const LOOK: Duration = Duration::from_micros(200);

/// How often it looks otherwise.
const SLOW_LOOK: Duration = Duration::from_secs(1);

/// Why there can be no more workers now.
const STILL_FINISHING: &str = "too many workers are still finishing their work";

/// What the coordinator is told.
pub(crate) enum Signal {
    /// Have so many workers.
    Scale(usize, Reply<Result<(), ScaleError>>),
    /// A worker is pressed and asks for another one.
    Grow(usize),
    /// A worker that was to go has finished everything.
    Finished(usize),
    /// A worker's thread has ended; whether it could not go on.
    Ended { worker: usize, failed: bool },
    /// What does another process need to take over?
    #[cfg(target_os = "linux")]
    Export(Sender<std::io::Result<Export>>),
    /// Another process accepts connections from now on, or does no more.
    #[cfg(target_os = "linux")]
    Bequeath(Option<Arc<Heir>>, Sender<()>),
    /// Another process has a part of the port.
    #[cfg(target_os = "linux")]
    Share(Option<Neighbour>, Sender<std::io::Result<()>>),
    /// The engine ends.
    Stop,
}

/// The way to the coordinator. An engine of fixed size has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coordinator(Option<Sender<Signal>>);

impl Coordinator {
    pub(crate) fn new(sender: Sender<Signal>) -> Self {
        Self(Some(sender))
    }

    /// `false` if there is none.
    pub(crate) fn tell(&self, signal: Signal) -> bool {
        self.0.as_ref().is_some_and(|sender| sender.send(signal).is_ok())
    }

    /// Asks and waits for the answer; `None` if there is no coordinator any more.
    #[cfg(target_os = "linux")]
    pub(crate) fn ask<T>(&self, question: impl FnOnce(Sender<T>) -> Signal) -> Option<T> {
        let (answer, wait) = std::sync::mpsc::channel();
        if self.tell(question(answer)) { wait.recv().ok() } else { None }
    }

    pub(crate) fn grow(&self, worker: usize) {
        // Without a coordinator there is no policy by which to ask.
        let _ = self.tell(Signal::Grow(worker));
    }

    pub(crate) fn finished(&self, worker: usize) {
        // Without a coordinator nobody is ever to go, and at the end of the engine all do.
        let _ = self.tell(Signal::Finished(worker));
    }

    pub(crate) fn ended(&self, worker: usize, failed: bool) {
        // As above.
        let _ = self.tell(Signal::Ended { worker, failed });
    }
}

/// The coordinator's state.
struct Chief {
    starter: Starter,
    ports: Box<dyn Ports>,
    signals: Receiver<Signal>,
    plan: Plan,
    /// Numbers of all workers whose threads run, readers included.
    present: BTreeSet<u16>,
    readers: Vec<u16>,
    /// Numbers whose back ends are not to be used again.
    broken: BTreeSet<u16>,
    judge: Option<Judge>,
    /// Workers that asked for growth since the last judgement.
    asked: BTreeSet<usize>,
    began: Instant,
    /// When the workers' time asleep was looked at last, and what it was.
    seen: (Duration, u64),
    stopping: bool,
    /// Another process has taken over: the number of workers stays.
    retired: bool,
}

/// Carries out changes until the engine ends.
pub(crate) fn coordinate(starter: Starter, ports: Box<dyn Ports>, signals: Receiver<Signal>, plan: Plan) {
    let readers = crate::bind::readers(&starter.config);
    let present: BTreeSet<u16> = plan.active.iter().chain(&readers).copied().collect();
    let judge = starter.config.scaling.clone().map(Judge::new);
    let mut chief = Chief {
        starter,
        ports,
        signals,
        plan,
        present,
        readers,
        broken: BTreeSet::new(),
        judge,
        asked: BTreeSet::new(),
        began: Instant::now(),
        seen: (Duration::ZERO, 0),
        stopping: false,
        retired: false,
    };
    while !chief.stopping {
        chief.listen(SLOW_LOOK);
        chief.judge();
    }
}

impl Chief {
    /// Waits for one signal, at most so long, and acts on it.
    fn listen(&mut self, limit: Duration) {
        match self.signals.recv_timeout(limit) {
            Ok(Signal::Scale(workers, reply)) => {
                let result = self.scale(workers);
                reply.send(result);
            }
            Ok(signal) => self.note(signal),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.stopping = true,
        }
    }

    /// Takes in what needs no change.
    fn note(&mut self, signal: Signal) {
        match signal {
            Signal::Stop => self.stopping = true,
            Signal::Grow(worker) => drop(self.asked.insert(worker)),
            Signal::Scale(_, reply) => reply.send(Err(EngineError::Overloaded.into())),
            // No change is under way, or it will wait for this worker's steps: an end would count as all of them.
            Signal::Finished(worker) => {
                if let Some(handle) = self.handle_of(worker) {
                    handle.set_may_leave(true);
                    handle.home().mailbox().ring();
                }
            }
            Signal::Ended { worker, failed } => self.bury(worker, failed),
            #[cfg(target_os = "linux")]
            Signal::Export(answer) => drop(answer.send(self.ports.export())),
            #[cfg(target_os = "linux")]
            Signal::Bequeath(heir, done) => self.bequeath(heir, &done),
            #[cfg(target_os = "linux")]
            Signal::Share(neighbour, done) => drop(done.send(self.ports.share(neighbour))),
        }
    }

    /// Tells all workers, and answers when all know.
    #[cfg(target_os = "linux")]
    fn bequeath(&mut self, heir: Option<Arc<Heir>>, done: &Sender<()>) {
        self.retired = heir.is_some();
        let (known, wait) = std::sync::mpsc::channel::<()>();
        for worker in self.starter.crew.all() {
            let (heir, known) = (heir.clone(), known.clone());
            insist(
                &worker,
                Box::new(move || {
                    Order::Heir(heir).give();
                    drop(known);
                }),
            );
        }
        drop(known);
        // Nothing is ever sent: it ends when the last worker knows.
        let _ = wait.recv();
        if !self.retired
            && let Err(error) = self.steer()
        {
            tracing::error!(%error, "the kernel does not steer to this process again");
        }
        // The thread at the restart socket waits.
        let _ = done.send(());
    }

    /// Decides, with a policy, whether there should be more workers or fewer, at most once per second unless one asks.
    fn judge(&mut self) {
        let now = self.began.elapsed();
        let since = now - self.seen.0;
        if self.judge.is_none() || self.stopping || self.retired || (self.asked.is_empty() && since < SLOW_LOOK) {
            return;
        }
        let crew = self.starter.crew.active();
        let stats: Vec<_> = crew.iter().map(WorkerHandle::stats).collect();
        let asleep: u64 = self.starter.crew.stats().asleep_ns;
        let slept = Duration::from_nanos(asleep.saturating_sub(self.seen.1));
        let workers = crew.len();
        let share = slept.as_nanos() * 100 / since.as_nanos().max(1);
        let busy = (workers as u64 * 100).saturating_sub(u64::try_from(share).unwrap_or(u64::MAX));
        self.seen = (now, asleep);
        let asked = std::mem::take(&mut self.asked);
        let range = self.range();
        let Some(judge) = &mut self.judge else { return };
        let target = match judge.judge(now, !asked.is_empty(), workers, range, busy) {
            Verdict::Stay => return,
            Verdict::Grow => workers + 1,
            Verdict::Shrink => workers - 1,
        };
        judge.changed(now);
        let delays: Vec<_> = stats.iter().map(|stats| Duration::from_nanos(stats.delay_ns)).collect();
        let queues: Vec<_> = stats.iter().map(|stats| stats.queue).collect();
        let connections: Vec<_> = stats.iter().map(|stats| stats.connections).collect();
        tracing::info!(
            from = workers, to = target, ?asked, busy_percent = busy, ?delays, ?queues, ?connections,
            policy = ?judge.policy(), "the number of workers is changed"
        );
        if let Err(error) = self.scale(target) {
            tracing::warn!(%error, "the number of workers could not be changed");
        }
    }

    fn handle_of(&self, worker: usize) -> Option<WorkerHandle> {
        self.starter.crew.all().into_iter().find(|handle| handle.index() == worker)
    }

    fn bury(&mut self, worker: usize, failed: bool) {
        let Ok(number) = u16::try_from(worker) else { return };
        self.present.remove(&number);
        self.starter.crew.remove(worker);
        for other in self.starter.crew.all() {
            change_links(&other, LinkChange::Close { worker });
        }
        if !failed || self.stopping {
            return;
        }
        tracing::error!(worker, "a worker is lost, and with it its connections; its slots go to the others");
        self.broken.insert(number);
        if let Some(at) = self.readers.iter().position(|reader| *reader == number) {
            self.readers.remove(at);
            if let Err(error) = self.steer() {
                tracing::error!(%error, "what a lost reader received does not go to others");
            }
            return;
        }
        self.plan.active.retain(|active| *active != number);
        if self.plan.active.is_empty() {
            return;
        }
        if let Err(error) = self.move_slots() {
            tracing::error!(%error, "the slots of a lost worker could not be moved");
        }
    }

    /// How many workers there may be.
    fn range(&self) -> RangeInclusive<usize> {
        self.ports.least()..=self.starter.config.workers_max()
    }

    fn scale(&mut self, workers: usize) -> Result<(), ScaleError> {
        if !self.starter.config.is_scalable() {
            let why = "the number of workers is fixed; set workers_max to change it";
            return Err(StartError::config("workers", why).into());
        }
        if self.retired {
            return Err(StartError::config("workers", "another process has taken over the port").into());
        }
        let range = self.range();
        if !range.contains(&workers) {
            let (least, most) = range.into_inner();
            let why = if least > 1 { ": those that own queues of the interface stay" } else { "" };
            return Err(StartError::config("workers", format!("takes {least} to {most}{why}")).into());
        }
        let before = self.plan.active.len();
        let began = Instant::now();
        while self.plan.active.len() < workers {
            let number = self.add()?;
            self.plan.active.push(number);
            self.plan.active.sort_unstable();
        }
        for number in self.plan.active.split_off(workers) {
            self.starter.crew.dismiss(number.into());
        }
        self.move_slots()?;
        let took = began.elapsed();
        tracing::info!(from = before, to = workers, changes = self.plan.change, ?took, "the number of workers changed");
        Ok(())
    }

    /// Starts a worker, which owns nothing yet, and returns its number: the lowest that is free.
    fn add(&mut self) -> Result<u16, ScaleError> {
        let taken = |number: &u16| self.present.contains(number) || self.broken.contains(number);
        let number = (0..).find(|number| !taken(number)).filter(|number| usize::from(*number) < WORKER_NUMBERS);
        let number = number.ok_or_else(|| StartError::config("workers", STILL_FINISHING))?;
        let io = self.open(number)?;
        self.starter.progress.reset(number.into());
        self.starter.start(number.into(), io, Role::Worker)?;
        self.present.insert(number);
        Ok(number)
    }

    /// Opens the back end of a new worker. One that is about to end may have to make room first.
    fn open(&mut self, number: u16) -> Result<Io, ScaleError> {
        let began = Instant::now();
        loop {
            match self.ports.open(number) {
                Ok(io) => return Ok(io),
                Err(error) if error.kind() != std::io::ErrorKind::ResourceBusy => {
                    return Err(StartError::io("opening a worker's socket", error).into());
                }
                Err(_) if self.stopping => return Err(EngineError::Stopped.into()),
                Err(_) if began.elapsed() > ROOM_WAIT => {
                    return Err(StartError::config("workers", STILL_FINISHING).into());
                }
                Err(_) => {
                    if let Ok(signal) = self.signals.recv_timeout(LOOK) {
                        self.note(signal);
                    }
                }
            }
        }
    }

    /// Spreads the slots over the active workers, some at a time.
    fn move_slots(&mut self) -> Result<(), ScaleError> {
        let goal = self.plan.new.spread(&self.plan.active);
        loop {
            // A last change without slots tells workers that they are to go on or not.
            let table = self.plan.new.step_towards(&goal, SLOTS_PER_CHANGE);
            let last = table == goal;
            self.change(table)?;
            if last || self.stopping {
                return Ok(());
            }
        }
    }

    /// One change from beginning to end.
    fn change(&mut self, table: warpline_ring::partition::Table) -> Result<(), ScaleError> {
        let workers: Vec<u16> = self.present.iter().copied().collect();
        let next = self.plan.next(table, workers, self.plan.active.clone());
        self.publish(next.clone());
        self.wait_for(Point::Prepared)?;
        if let Err(error) = self.steer() {
            // The workers' own passing on does what the kernel will not.
            tracing::warn!(%error, "the kernel does not steer by the new table");
        }
        self.publish(next.committed());
        self.wait_for(Point::Settled)
    }

    /// Has the kernel steer by the table that is to hold.
    fn steer(&mut self) -> std::io::Result<()> {
        self.ports.steer(&crate::bind::arrivals(&self.plan.new, &self.readers))
    }

    fn publish(&mut self, plan: Plan) {
        self.starter.plans.publish(std::sync::Arc::new(plan.clone()));
        self.plan = plan;
        self.starter.crew.all().iter().for_each(|worker| worker.home().mailbox().ring());
    }

    /// Waits until all members of the change have come so far.
    fn wait_for(&mut self, point: Point) -> Result<(), ScaleError> {
        let target = self.plan.point(point);
        while !self.starter.progress.all_reached(self.plan.members(), target) {
            if self.starter.stop.farewell().is_some() {
                self.stopping = true;
                return Err(EngineError::Stopped.into());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}
