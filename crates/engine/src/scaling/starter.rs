//! Starting a worker's thread.

use crate::clock::Clock;
use crate::config::EngineConfig;
use crate::engine::WorkerHandle;
use crate::error::StartError;
use crate::exec::Home;
use crate::local::Worker as LocalWorker;
use crate::mailbox::{Command, Inbox, Mailbox};
use crate::scaling::coordinator::Coordinator;
use crate::scaling::crew::Crew;
use crate::stop::Stop;
use crate::worker::{LinkChange, Links, Loop, Order, Outbound, Setup};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use warpline_pktio::Io;
use warpline_ring::partition::{Member, Plan};
use warpline_ring::{EpochCell, Progress, spsc};

/// What runs on every worker.
pub(crate) type Program = Arc<dyn Fn(LocalWorker) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync>;

/// What a worker is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It owns slots and runs the program.
    Worker,
    /// It receives and passes on. It never owns a slot, and stays as long as the engine.
    Reader,
}

/// How long to wait before another attempt at a mailbox that is full.
const RETRY: Duration = Duration::from_micros(200);

/// Everything that workers are started with.
pub(crate) struct Starter {
    pub(crate) config: Arc<EngineConfig>,
    pub(crate) program: Program,
    pub(crate) clock: Clock,
    pub(crate) stop: Arc<Stop>,
    pub(crate) plans: Arc<EpochCell<Plan>>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) crew: Arc<Crew>,
    pub(crate) coordinator: Coordinator,
    /// The mark in connection IDs, if the port may go to another process.
    pub(crate) mark: Option<bool>,
}

impl Starter {
    /// Starts the worker with this number, joined by rings to all others that there are, and waits until it works.
    pub(crate) fn start(&self, index: usize, io: Io, role: Role) -> Result<WorkerHandle, StartError> {
        let bell = io.doorbell();
        let (mailbox, inbox) = Mailbox::new(Box::new(move || bell.ring()));
        let handle = WorkerHandle::new(index, Home::new(mailbox), &io);
        let mut links = Links::default();
        let mut far_ends = Vec::new();
        for other in self.crew.all() {
            let (here, there) = (spsc::channel(self.config.handover_len), spsc::channel(self.config.handover_len));
            let outbound = Outbound::new(here.0, other.home().mailbox().clone());
            links.apply(LinkChange::Open { worker: other.index(), outbound, inbound: there.1 });
            far_ends.push((other, there.0, here.1));
        }
        let setup = Setup {
            handle: handle.clone(),
            config: Arc::clone(&self.config),
            clock: self.clock,
            stop: Arc::clone(&self.stop),
            member: Member::new(handle.number(), &self.plans, Arc::clone(&self.progress)),
            coordinator: self.coordinator.clone(),
            mark: self.mark,
            is_reader: role == Role::Reader,
        };
        let guard = Ended {
            index,
            stop: Arc::clone(&self.stop),
            progress: Arc::clone(&self.progress),
            coordinator: self.coordinator.clone(),
            // Until it says otherwise.
            failed: true,
        };
        self.stop.worker_starts();
        let (ready, started) = mpsc::channel();
        let program = Arc::clone(&self.program);
        let thread = thread::Builder::new()
            .name(format!("{}-{index}", self.config.thread_name))
            .spawn(move || work(setup, (io, inbox, links), program, ready, guard))
            .map_err(|error| StartError::io("starting a worker's thread", error))?;
        let begun = started.recv().unwrap_or_else(|_| Err(panicked()));
        if begun.is_err() {
            // It has said why it could not; its thread is ending.
            drop(thread.join());
        } else {
            self.crew.join(handle.clone(), thread, role);
        }
        begun?;
        for (other, outbound, inbound) in far_ends {
            let outbound = Outbound::new(outbound, handle.home().mailbox().clone());
            change_links(&other, LinkChange::Open { worker: index, outbound, inbound });
        }
        Ok(handle)
    }
}

/// Has a worker change its links before it takes its next step in a change. One that has ended needs none.
pub(crate) fn change_links(worker: &WorkerHandle, change: LinkChange) {
    insist(worker, Box::new(move || Order::Links(change).give()));
}

/// Has a worker carry out a command, as soon as its mailbox takes it. One that has ended does not.
pub(crate) fn insist(worker: &WorkerHandle, mut command: Command) {
    while let Err(rejected) = worker.post(command) {
        if rejected.error == crate::error::EngineError::Stopped {
            return;
        }
        command = rejected.command;
        thread::sleep(RETRY);
    }
}

/// Counts the worker out however its thread ends.
struct Ended {
    index: usize,
    stop: Arc<Stop>,
    progress: Arc<Progress>,
    coordinator: Coordinator,
    failed: bool,
}

impl Drop for Ended {
    fn drop(&mut self) {
        // Nobody waits in vain for one that is gone.
        self.progress.raise(self.index, u64::MAX);
        // The socket is closed by now.
        self.coordinator.ended(self.index, self.failed);
        self.stop.worker_ended();
    }
}

/// The life of a worker's thread.
fn work(
    setup: Setup,
    (io, inbox, links): (Io, Inbox, Links),
    program: Program,
    ready: mpsc::Sender<Result<(), StartError>>,
    mut ended: Ended,
) {
    let is_reader = setup.is_reader;
    match Loop::new(setup, io, inbox, links) {
        Ok(worker) => {
            // The starter waits for this message.
            let _ = ready.send(Ok(()));
            drop(ready);
            ended.failed = if is_reader { !worker.run(|_| async {}) } else { !worker.run(|local| program(local)) };
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

#[cfg(test)]
mod tests {
    #[test]
    fn what_moves_between_workers_may_go_to_another_thread() {
        fn sendable<T: Send>() {}
        sendable::<crate::worker::Message>();
    }
}
