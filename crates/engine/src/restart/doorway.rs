//! The thread at the restart socket.

use super::gate::{Gate, Stage};
use super::heir::{self, BEQUEST_MAX, Heir};
use super::line::{DESCRIPTORS_MAX, Line, Listener, wait};
use super::message::{Message, Offer};
use crate::error::StartError;
use crate::limits::{BEQUESTS_PER_LOOK, RESTART_ANSWER};
use crate::scaling::{Coordinator, Crew, Signal};
use crate::stop::Stop;
use crate::worker::{Order, Packet};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use warpline_pktio::udp::{Export, Neighbour};
use warpline_ring::Lock;

/// How often the thread looks while another process is involved.
const LOOK: Duration = Duration::from_millis(10);

/// How often it looks otherwise; it is woken for everything that is urgent.
const SLOW_LOOK: Duration = Duration::from_secs(1);

/// How long a visitor that comes at a bad time may take to say what it wants.
const BUSY_PATIENCE: Duration = Duration::from_millis(100);

/// The process that serves so far, while this one starts.
pub(crate) struct Predecessor {
    line: Line,
    /// What it passes on.
    bequests: OwnedFd,
    neighbour: Neighbour,
}

/// What a visit at the restart socket has brought.
pub(crate) struct Visit {
    pub(crate) predecessor: Predecessor,
    pub(crate) secret: [u8; 32],
    /// The mark for this process's IDs.
    pub(crate) mark: bool,
    pub(crate) sockets: Vec<OwnedFd>,
}

impl Visit {
    /// Who else has sockets in the group.
    pub(crate) fn neighbour(&self) -> Neighbour {
        self.predecessor.neighbour.clone()
    }
}

/// Asks the process at the restart socket for everything; `None` if there is no process.
pub(crate) fn visit(path: &Path) -> Result<Option<Visit>, StartError> {
    let failed = |error| StartError::io("taking over at the restart socket", error);
    let Some(line) = Line::call(path).map_err(failed)? else { return Ok(None) };
    line.send(&Message::Hello, &[]).map_err(failed)?;
    let answer = line.receive(RESTART_ANSWER).map_err(failed)?;
    let answer = answer.ok_or_else(|| failed(io::ErrorKind::TimedOut.into()))?;
    let mut sockets = answer.descriptors;
    match (answer.message, sockets.pop()) {
        (Message::Offer(offer), Some(bequests)) => {
            let Offer { mark, secret, table, used } = *offer;
            let neighbour = Neighbour { mark, table, used, takes_long: true };
            Ok(Some(Visit { predecessor: Predecessor { line, bequests, neighbour }, secret, mark: !mark, sockets }))
        }
        (Message::Busy, _) => {
            let why = "the process there is still taking over, or has handed over already: try again when it is done";
            Err(StartError::config("restart", why))
        }
        _ => Err(failed(io::ErrorKind::InvalidData.into())),
    }
}

/// What the thread works with.
pub(crate) struct Surroundings {
    pub(crate) coordinator: Coordinator,
    pub(crate) crew: Arc<Crew>,
    pub(crate) stop: Arc<Stop>,
    pub(crate) path: PathBuf,
    pub(crate) secret: [u8; 32],
    pub(crate) mark: bool,
    pub(crate) thread_name: String,
}

/// The engine's handle to the thread.
#[derive(Debug)]
pub(crate) struct Doorway {
    bell: Arc<OwnedFd>,
    gate: Arc<Gate>,
    thread: Lock<Option<JoinHandle<()>>>,
}

impl Doorway {
    /// Takes over from the predecessor, if there is one, and listens for a successor.
    pub(crate) fn open(around: Surroundings, predecessor: Option<Predecessor>) -> Result<Self, StartError> {
        let failed = |error| StartError::io("taking over at the restart socket", error);
        if let Some(predecessor) = &predecessor {
            predecessor.line.send(&Message::Take, &[]).map_err(failed)?;
            match predecessor.line.receive(RESTART_ANSWER).map_err(failed)? {
                Some(answer) if answer.message == Message::Given => {}
                _ => return Err(failed(io::ErrorKind::TimedOut.into())),
            }
        }
        let listening = |error| StartError::io("listening at the restart socket", error);
        let listener = Listener::bind(&around.path).map_err(listening)?;
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let bell = Arc::new(eventfd(0, flags).map_err(|error| listening(error.into()))?);
        let gate = Arc::new(Gate::default());
        let name = format!("{}-door", around.thread_name);
        let role = predecessor.map_or(Role::Alone, Role::Heir);
        let keeper = Keeper { around, bell: Arc::clone(&bell), gate: Arc::clone(&gate), listener: Some(listener) };
        keeper.around.stop.worker_starts();
        let stop = Arc::clone(&keeper.around.stop);
        let thread = thread::Builder::new().name(name).spawn(move || keeper.keep(role)).map_err(|error| {
            stop.worker_ended();
            StartError::io("starting the thread at the restart socket", error)
        })?;
        Ok(Self { bell, gate, thread: Lock::new(Some(thread)) })
    }

    /// Has the thread look at whether the engine ends.
    pub(crate) fn ring(&self) {
        // It fails only if the counter is about to overflow, and then the descriptor is readable, which is the point.
        let _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
    }

    /// Ready when the stage is reached (`true`) or the engine has ended.
    pub(crate) fn poll(&self, stage: Stage, cx: &Context<'_>) -> Poll<bool> {
        self.gate.poll(stage, cx)
    }

    /// Waits for the end of the thread, which the engine's end brings about.
    pub(crate) fn join(&self) {
        self.ring();
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread at the restart socket panicked");
        }
    }
}

/// What goes on at the restart socket.
enum Role {
    Alone,
    /// This process has taken over; the other one finishes its connections.
    Heir(Predecessor),
    /// This process hands over.
    Testator(Successor),
}

/// The process that has asked to take over.
struct Successor {
    line: Line,
    /// The way for packets, until the workers get it.
    heir: Option<Heir>,
    settled: bool,
    finished: bool,
}

struct Keeper {
    around: Surroundings,
    bell: Arc<OwnedFd>,
    gate: Arc<Gate>,
    /// `None` once a successor listens.
    listener: Option<Listener>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.gate.set(Stage::Ended);
        self.around.stop.worker_ended();
    }
}

impl Keeper {
    fn keep(mut self, mut role: Role) {
        let mut buffer = vec![0; BEQUEST_MAX];
        while self.around.stop.farewell().is_none() {
            let result = match role {
                Role::Alone => self.await_visitor(),
                Role::Heir(predecessor) => self.inherit(predecessor, &mut buffer),
                Role::Testator(successor) => self.hand_over(successor),
            };
            role = result.unwrap_or_else(|error| {
                tracing::error!(%error, "the restart socket is out of order");
                thread::sleep(SLOW_LOOK);
                Role::Alone
            });
        }
    }

    fn rested(&self) {
        // Nothing there is the usual case.
        let _ = rustix::io::read(&*self.bell, &mut [0u8; 8][..]);
    }

    /// Whoever calls while something is under way is told so.
    fn turn_away(&self) -> io::Result<()> {
        if let Some(line) = self.listener.as_ref().map(Listener::accept).transpose()?.flatten() {
            // What it says is heard first: what is left unread when the line is closed would be an error to it.
            if let Ok(Some(_)) = line.receive(BUSY_PATIENCE) {
                // It may have gone.
                let _ = line.send(&Message::Busy, &[]);
            }
        }
        Ok(())
    }

    fn await_visitor(&mut self) -> io::Result<Role> {
        let Some(listener) = &self.listener else {
            self.listener = Some(Listener::bind(&self.around.path)?);
            return Ok(Role::Alone);
        };
        wait([Some(listener.as_fd()), Some(self.bell.as_fd())], SLOW_LOOK)?;
        self.rested();
        let Some(line) = listener.accept()? else { return Ok(Role::Alone) };
        match line.receive(RESTART_ANSWER) {
            Ok(Some(received)) if received.message == Message::Hello => self.offer(line),
            _ => Ok(Role::Alone),
        }
    }

    /// Gives a visitor everything that it needs.
    fn offer(&self, line: Line) -> io::Result<Role> {
        let Some(export) = self.around.coordinator.ask(Signal::Export) else { return Ok(Role::Alone) };
        let Export { sockets, table, used } = export?;
        if sockets.len() >= DESCRIPTORS_MAX {
            line.send(&Message::Busy, &[])?;
            return Err(io::Error::other("too many sockets to hand over"));
        }
        let (theirs, ours) = Line::pair()?;
        let descriptors: Vec<_> = sockets.iter().chain([&theirs]).map(AsFd::as_fd).collect();
        let Surroundings { mark, secret, .. } = self.around;
        let offer = Offer { mark, secret, table, used };
        line.send(&Message::Offer(Box::new(offer)), &descriptors)?;
        let heir = Some(Heir::new(ours, !mark));
        tracing::info!("another process prepares to take over");
        Ok(Role::Testator(Successor { line, heir, settled: false, finished: false }))
    }

    /// Goes on handing over.
    fn hand_over(&mut self, mut successor: Successor) -> io::Result<Role> {
        wait([Some(successor.line.as_fd()), Some(self.bell.as_fd())], LOOK)?;
        self.rested();
        self.turn_away()?;
        match successor.line.receive(Duration::ZERO) {
            Ok(Some(received)) => match received.message {
                Message::Take => {
                    let heir = successor.heir.take().map(Arc::new);
                    self.around.coordinator.ask(|done| Signal::Bequeath(heir, done));
                    // The successor listens at the same path from here on.
                    self.listener = None;
                    self.gate.set(Stage::HandedOver);
                    successor.line.send(&Message::Given, &[])?;
                    tracing::info!("another process has taken over; this one finishes its connections");
                }
                Message::Released if successor.finished => self.gate.set(Stage::Finished),
                other => tracing::warn!(?other, "an unexpected message of the process that takes over"),
            },
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "the process that was to take over is gone; this one goes on");
                self.around.coordinator.ask(|done| Signal::Bequeath(None, done));
                self.gate.set(Stage::Serving);
                return Ok(Role::Alone);
            }
        }
        if successor.heir.is_none() {
            self.report(&mut successor)?;
        }
        Ok(Role::Testator(successor))
    }

    /// Tells the successor how far this process is.
    fn report(&self, successor: &mut Successor) -> io::Result<()> {
        let stats = self.around.crew.stats();
        let tell = |message| match successor.line.send(&message, &[]) {
            // It is gone, which the next look finds.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        };
        if !successor.settled && stats.handshakes == 0 {
            tell(Message::Settled)?;
            successor.settled = true;
        }
        if successor.settled && !successor.finished && stats.connections == 0 && stats.accept_queue == 0 {
            tell(Message::Finished)?;
            successor.finished = true;
        }
        Ok(())
    }

    /// Goes on taking over.
    fn inherit(&mut self, mut predecessor: Predecessor, buffer: &mut [u8]) -> io::Result<Role> {
        let Predecessor { line, bequests, neighbour } = &mut predecessor;
        let listener = self.listener.as_ref().map(Listener::as_fd);
        wait([listener, Some(self.bell.as_fd()), Some(line.as_fd()), Some(bequests.as_fd())], SLOW_LOOK)?;
        self.rested();
        self.turn_away()?;
        let gone = match line.receive(Duration::ZERO) {
            Ok(Some(received)) => {
                match received.message {
                    Message::Settled => {
                        neighbour.takes_long = false;
                        self.share(Some(neighbour.clone()));
                    }
                    Message::Finished => {
                        self.share(None);
                        // It may have gone.
                        let _ = line.send(&Message::Released, &[]);
                    }
                    other => tracing::warn!(?other, "an unexpected message of the process that hands over"),
                }
                false
            }
            Ok(None) => false,
            Err(_) => true,
        };
        for _ in 0..BEQUESTS_PER_LOOK {
            let Some((meta, frame)) = heir::take(bequests, buffer) else { break };
            self.bring_in(Packet { meta, frame, hops: 0 });
        }
        if gone {
            tracing::info!("the process before this one has ended");
            self.share(None);
            return Ok(Role::Alone);
        }
        Ok(Role::Heir(predecessor))
    }

    fn share(&self, neighbour: Option<Neighbour>) {
        if let Some(Err(error)) = self.around.coordinator.ask(|done| Signal::Share(neighbour, done)) {
            tracing::error!(%error, "the kernel does not steer as it should between two processes");
        }
    }

    /// Gives a packet to a worker, which passes it on to the one that it belongs to.
    fn bring_in(&self, packet: Packet) {
        let Some(worker) = self.around.crew.active().into_iter().next() else { return };
        // A worker with so many commands waiting has no time for new connections; to the peer the packet is lost.
        let _ = worker.post(Box::new(move || Order::Bequest(packet).give()));
    }
}
