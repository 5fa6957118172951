//! The world: nodes, paths and the loop that moves virtual time.
//!
//! One server stands in the middle, every client is joined to it by a path of its own. The loop takes the next event,
//! lets it happen, lets the node concerned send what it now wants to send, and asks the monitors. It ends when every
//! client is done, when the deadline has passed, or when something is wrong.

use std::time::Duration;

use crate::check::Monitor;
use crate::clock::EventQueue;
use crate::hop::{Direction, Dropped};
use crate::log::{Log, What};
use crate::path::{Leg, Outcome, Path};
use crate::{Instant, Node, Packet, Tally, address};

/// A node never legitimately sends more datagrams than this without time passing; one that does is in a loop. The
/// largest congestion window of any scenario (10 Gbit/s × 100 ms) is about 100,000 datagrams.
const TRANSMITS_PER_STEP_MAX: usize = 400_000;

/// Calls of `handle_timeout` in a row that neither move the timer nor send: the sign of a timer that never goes away.
const IDLE_TIMEOUTS_MAX: u32 = 1_000;

/// Names a node of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

impl NodeId {
    /// The server.
    pub const SERVER: Self = Self(0);

    /// The client with this index; its path has the same one.
    pub fn client(index: usize) -> Self {
        Self(index + 1)
    }
}

/// How far a run may go.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Virtual time from start to end.
    pub deadline: Duration,
    /// Events in all: a bound on real time, whatever happens in virtual time.
    pub events_max: u64,
}

/// Everything that takes part in a run.
pub struct World {
    queue: EventQueue<Event>,
    nodes: Vec<Slot>,
    paths: Vec<Path>,
    monitors: Vec<Box<dyn Monitor>>,
    log: Log,
    limits: Limits,
    sent: Vec<Packet>,
    outcome: Outcome,
    gather: Duration,
}

struct Slot {
    node: Box<dyn Node>,
    /// What has arrived and is not handed over yet.
    inbox: Vec<Packet>,
    /// The time of the wake-up that is in the queue for this node; others are stale.
    armed: Option<Instant>,
    /// See [`IDLE_TIMEOUTS_MAX`].
    idle_timeouts: u32,
}

enum Event {
    Wake(NodeId),
    Arrive { path: usize, leg: Leg, packet: Packet },
    HandOver(NodeId),
}

impl World {
    /// A world of one server and any number of clients. `clients` and `paths` belong together one to one; a packet from
    /// the server takes the path whose client [owns](address::owner) its destination.
    pub fn new(server: Box<dyn Node>, clients: Vec<(Box<dyn Node>, Path)>, limits: Limits, log: Log) -> Self {
        let mut nodes = vec![Slot::new(server)];
        let mut paths = Vec::with_capacity(clients.len());
        for (client, path) in clients {
            nodes.push(Slot::new(client));
            paths.push(path);
        }
        let mut queue = EventQueue::new(Instant::from_nanos(0));
        for index in 0..nodes.len() {
            queue.schedule(queue.now(), Event::Wake(NodeId(index)));
        }
        let (monitors, sent, outcome, gather) = (Vec::new(), Vec::new(), Outcome::default(), Duration::ZERO);
        Self { queue, nodes, paths, monitors, log, limits, sent, outcome, gather }
    }

    /// Nodes get what arrives within `interval` of the first datagram at once, as from a network card that moderates its interrupts.
    /// Without it, and with zero, they get each datagram by itself.
    pub fn gather(&mut self, interval: Duration) {
        self.gather = interval;
    }

    /// Adds a checker.
    pub fn watch(&mut self, monitor: Box<dyn Monitor>) {
        self.monitors.push(monitor);
    }

    /// Runs to the end.
    ///
    /// # Errors
    ///
    /// What went wrong: a monitor's violation, a node that loops, or a limit that was reached.
    pub fn run(&mut self) -> Result<(), String> {
        let deadline = Instant::from_nanos(0) + self.limits.deadline;
        let mut events = 0;
        while let Some((now, event)) = self.queue.pop() {
            events += 1;
            if now > deadline {
                return Err(format!("not done at the deadline of {:?}", self.limits.deadline));
            }
            if events > self.limits.events_max {
                return Err(format!("not done after {} events", self.limits.events_max));
            }
            self.happen(now, event)?;
            if let Some(violation) = self.monitors.iter().find_map(|monitor| monitor.violation()) {
                return Err(violation);
            }
            if self.is_done() {
                return Ok(());
            }
        }
        Err("nothing left to happen, but the clients are not done".into())
    }

    /// Runs until `until`, whether or not the clients are done by then.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), but for the limits.
    pub fn run_until(&mut self, until: Instant) -> Result<(), String> {
        while self.queue.next_time().is_some_and(|at| at <= until) {
            let Some((now, event)) = self.queue.pop() else { break };
            self.happen(now, event)?;
            if let Some(violation) = self.monitors.iter().find_map(|monitor| monitor.violation()) {
                return Err(violation);
            }
        }
        Ok(())
    }

    /// After the clients are done: lets connections come to their ends, until nothing is left to happen or until `until`.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), but for the limits.
    pub fn wind_down(&mut self, until: Instant) -> Result<(), String> {
        self.monitors.iter_mut().for_each(|monitor| monitor.over());
        let violation = self.monitors.iter().find_map(|monitor| monitor.violation());
        violation.map_or_else(|| self.run_until(until), Err)
    }

    /// The current virtual time.
    pub fn now(&self) -> Instant {
        self.queue.now()
    }

    /// The event log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &dyn Node {
        &*self.nodes[id.0].node
    }

    /// All nodes, the server first.
    pub fn nodes(&self) -> impl Iterator<Item = &dyn Node> {
        self.nodes.iter().map(|slot| &*slot.node)
    }

    /// How many clients there are.
    pub fn clients_len(&self) -> usize {
        self.paths.len()
    }

    fn is_done(&self) -> bool {
        self.nodes.iter().skip(1).all(|slot| slot.node.is_done())
    }

    fn happen(&mut self, now: Instant, event: Event) -> Result<(), String> {
        match event {
            Event::Wake(id) => {
                let slot = &mut self.nodes[id.0];
                if slot.armed.is_some_and(|armed| armed != now) {
                    return Ok(());
                }
                slot.armed = None;
                slot.idle_timeouts += 1;
                if slot.idle_timeouts > IDLE_TIMEOUTS_MAX {
                    return Err(format!("{id:?} keeps asking for a timeout at {now:?} and does nothing with it"));
                }
                slot.node.handle_timeout(now);
                self.settle(now, id)
            }
            Event::Arrive { path, leg, packet } => self.arrive(now, path, leg, packet),
            Event::HandOver(id) => {
                let slot = &mut self.nodes[id.0];
                slot.node.handle_datagrams(now, std::mem::take(&mut slot.inbox));
                self.settle(now, id)
            }
        }
    }

    fn arrive(&mut self, now: Instant, path: usize, leg: Leg, packet: Packet) -> Result<(), String> {
        if !self.paths[path].is_over(leg) {
            let mut outcome = std::mem::take(&mut self.outcome);
            self.paths[path].step(now, leg, packet, &mut outcome);
            for (reason, packet) in outcome.dropped.drain(..) {
                self.log.record(now, What::Dropped(reason), &packet);
            }
            let leg = Leg { passed_hops: leg.passed_hops + 1, ..leg };
            for (at, packet) in outcome.passed.drain(..) {
                self.queue.schedule(at, Event::Arrive { path, leg, packet });
            }
            self.outcome = outcome;
            return Ok(());
        }
        let id = match leg.direction {
            Direction::Up => NodeId::SERVER,
            Direction::Down => NodeId::client(path),
        };
        if self.nodes[id.0].node.address() != packet.dst {
            self.log.record(now, What::Dropped(Dropped::NoRoute), &packet);
            return Ok(());
        }
        self.log.record(now, What::Delivered, &packet);
        for monitor in &mut self.monitors {
            monitor.delivered(now, id, &packet);
        }
        let slot = &mut self.nodes[id.0];
        slot.idle_timeouts = 0;
        if self.gather.is_zero() {
            slot.node.handle_datagram(now, packet);
            return self.settle(now, id);
        }
        if slot.inbox.is_empty() {
            self.queue.schedule(now + self.gather, Event::HandOver(id));
        }
        slot.inbox.push(packet);
        Ok(())
    }

    /// After a node was touched: sends what it wants to send, arms its timer, tells the monitors how far things are.
    fn settle(&mut self, now: Instant, id: NodeId) -> Result<(), String> {
        let mut sent = std::mem::take(&mut self.sent);
        let mut total = 0;
        loop {
            self.nodes[id.0].node.poll_transmit(now, &mut sent);
            if sent.is_empty() {
                break;
            }
            total += sent.len();
            if total > TRANSMITS_PER_STEP_MAX {
                return Err(format!("{id:?} sent {total} datagrams without time passing"));
            }
            for packet in sent.drain(..) {
                self.send(now, id, packet);
            }
        }
        self.sent = sent;
        let slot = &mut self.nodes[id.0];
        if total > 0 {
            slot.idle_timeouts = 0;
        }
        if let Some(at) = slot.node.next_timeout() {
            let at = at.max(now);
            if slot.armed != Some(at) {
                slot.armed = Some(at);
                self.queue.schedule(at, Event::Wake(id));
            }
        } else {
            slot.armed = Some(Instant::from_nanos(u64::MAX));
        }
        let kept = slot.node.kept();
        let all = self.nodes.iter().map(|slot| slot.node.tally()).fold(Tally::default(), Tally::plus);
        for monitor in &mut self.monitors {
            monitor.tally(now, &all);
            monitor.kept(id, &kept);
        }
        Ok(())
    }

    fn send(&mut self, now: Instant, from: NodeId, packet: Packet) {
        self.log.record(now, What::Sent, &packet);
        for monitor in &mut self.monitors {
            monitor.sent(now, from, &packet);
        }
        let (path, direction) = match from.0.checked_sub(1) {
            Some(path) => (Some(path), Direction::Up),
            None => (address::owner(packet.dst).filter(|client| *client < self.paths.len()), Direction::Down),
        };
        match path {
            Some(path) => self.queue.schedule(now, Event::Arrive { path, leg: Leg::start(direction), packet }),
            None => self.log.record(now, What::Dropped(Dropped::NoRoute), &packet),
        }
    }
}

impl Slot {
    fn new(node: Box<dyn Node>) -> Self {
        Self { node, inbox: Vec::new(), armed: None, idle_timeouts: 0 }
    }
}
