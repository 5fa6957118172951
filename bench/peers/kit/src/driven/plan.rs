//! What the sessions of a client have in common: the scenario, the counters, the time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::{ClientArgs, Counters, Measurement, Report, Scenario, Snapshot};

/// Connections that `idle` opens at a time.
const OPENING: usize = 32;

/// Where a run stands.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Opening,
    Warm(Instant),
    Asking,
    Measuring(Instant),
    AskingAgain(Instant),
    Over,
}

/// What the time asks of the loop.
#[derive(Debug)]
pub enum Tick {
    /// Let the first session ask the server for its count.
    Ask,
    /// Print this. The run is over, but `idle` connections have to be held.
    Over(Box<Report>),
}

/// The common part of a client's sessions.
#[derive(Debug)]
pub struct Plan {
    /// What to do.
    pub args: ClientArgs,
    /// What was done.
    pub counters: Counters,
    began: Instant,
    established: Cell<usize>,
    phase: Cell<Phase>,
    before: Cell<Snapshot>,
    answers: RefCell<Vec<(u64, Instant)>>,
}

impl Plan {
    /// A plan that begins now.
    #[must_use]
    pub fn new(args: ClientArgs) -> Rc<Self> {
        Rc::new(Self {
            args,
            counters: Counters::default(),
            began: Instant::now(),
            established: Cell::new(0),
            phase: Cell::new(Phase::Opening),
            before: Cell::default(),
            answers: RefCell::default(),
        })
    }

    /// Whether connections are opened one after another all the time.
    #[must_use]
    pub fn redials(&self) -> bool {
        matches!(self.args.scenario, Scenario::Connect | Scenario::Resume | Scenario::ZeroRtt)
    }

    /// How many connections to open now, with `open` of them opened already.
    #[must_use]
    pub fn to_open(&self, open: usize) -> usize {
        let wanted = match self.args.scenario {
            _ if self.redials() => self.args.in_flight.max(1),
            Scenario::Idle => self.args.connections.min(self.established.get() + OPENING),
            _ => self.args.connections.max(1),
        };
        wanted.saturating_sub(open)
    }

    /// A connection is there.
    pub(super) fn count_established(&self) {
        self.established.set(self.established.get() + 1);
    }

    /// The server has answered how many datagrams have come.
    pub(super) fn answer(&self, count: u64) {
        self.answers.borrow_mut().push((count, Instant::now()));
    }

    /// How long the loop may sleep at most.
    #[must_use]
    pub fn patience(&self) -> Duration {
        let (since, span) = match self.phase.get() {
            Phase::Warm(since) => (since, self.args.warmup()),
            Phase::Measuring(since) => (since, self.args.duration()),
            _ => return Duration::from_millis(20),
        };
        span.saturating_sub(since.elapsed()).min(Duration::from_millis(20))
    }

    /// Moves on if the time has come.
    pub fn tick(&self, now: Instant) -> Option<Tick> {
        match self.phase.get() {
            Phase::Opening => {
                let all = self.redials() || self.established.get() >= self.args.connections.max(1);
                if all && self.args.scenario == Scenario::Idle {
                    self.phase.set(Phase::Over);
                    let report = Report::idle(self.established.get() as u64, now - self.began);
                    return Some(Tick::Over(Box::new(report)));
                }
                if all {
                    self.phase.set(Phase::Warm(now));
                }
            }
            Phase::Warm(since) if now - since >= self.args.warmup() => {
                if self.args.scenario == Scenario::Datagram {
                    self.phase.set(Phase::Asking);
                    return Some(Tick::Ask);
                }
                self.counters.latency.reset();
                self.before.set(self.counters.snapshot());
                self.phase.set(Phase::Measuring(now));
            }
            Phase::Asking => {
                if let Some(&(_, answered)) = self.answers.borrow().first() {
                    self.phase.set(Phase::Measuring(answered));
                }
            }
            Phase::Measuring(since) if now - since >= self.args.duration() => {
                if self.args.scenario == Scenario::Datagram {
                    self.phase.set(Phase::AskingAgain(since));
                    return Some(Tick::Ask);
                }
                return Some(self.over(now - since, self.counters.snapshot() - self.before.get()));
            }
            Phase::AskingAgain(since) => {
                if let [(before, _), (after, answered)] = *self.answers.borrow().as_slice() {
                    let ops = after.saturating_sub(before);
                    let counted = Snapshot { bytes: ops * self.args.bytes, ops, fallbacks: 0 };
                    return Some(self.over(answered - since, counted));
                }
            }
            Phase::Warm(_) | Phase::Measuring(_) | Phase::Over => {}
        }
        None
    }

    fn over(&self, elapsed: Duration, counted: Snapshot) -> Tick {
        self.phase.set(Phase::Over);
        let measured = Measurement { elapsed, counted };
        Tick::Over(Box::new(Report::new(self.args.scenario, &measured, &self.counters.latency)))
    }
}
