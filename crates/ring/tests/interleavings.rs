//! The scaling protocol with three old and two new workers and packets under way: every order of their steps.
//!
//! The steps are the turns of workers (with the production code that decides what a turn does), what the coordinator does,
//! and arrivals. A state is plain data; all states that can be reached are gone through, each once. What a turn does to
//! other workers it does in one order only, pushes before what they announce, so turns that overlap bring no other outcome than
//! turns one after the other; that the memory itself keeps that order is what `tests/loom` checks, with fewer workers.
#![cfg(not(loom))]

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use warpline_ring::partition::{Duty, Member, Plan, Point, Route, Table};
use warpline_ring::{EpochCell, Progress};

/// More states than this are a mistake in the model: they are some ten to hundred thousand.
const STATES_MAX: usize = 3_000_000;

/// A packet of a slot's only connection, with its place in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Packet {
    slot: u16,
    arrival: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Message {
    Packet(Packet),
    /// The connection of a slot, with the arrival of the last packet that it has handled.
    Moved(u16, u8),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Worker {
    /// Publications that it has seen, and steps that it has done.
    seen: usize,
    done: usize,
    socket: VecDeque<Packet>,
    connections: BTreeMap<u16, u8>,
    held: VecDeque<Packet>,
    /// From each other worker.
    rings: Vec<VecDeque<Message>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    workers: Vec<Worker>,
    /// What each has raised.
    progress: Vec<u64>,
    published: usize,
    /// The kernel steers by the new table.
    steered: bool,
    /// Slots of packets that have not arrived.
    network: Vec<u16>,
    arrivals: u8,
    handled: u8,
}

/// A part of the protocol, named by its step in `docs/scaling.md`, that can be left out to see that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// 6: what the socket has is handled before the worker has stopped.
    Drain,
    /// 7: connections are given only when all have stopped,
    AllStopped,
    /// after what is in the rings was handled.
    RingsBeforeGiving,
    /// 8: the new owner starts only when all have given,
    AllGiven,
    /// with the connections that are in its rings.
    RingsBeforeStarting,
}

/// What stays the same in a run.
struct Change {
    first: Plan,
    plan: Plan,
    /// What is not done.
    without: Option<Part>,
    /// Otherwise everything arrives at worker 0.
    steering: bool,
}

/// A worker in the middle of its turn.
struct Turn<'a> {
    me: u16,
    member: Member,
    without: Option<Part>,
    state: &'a mut State,
}

impl Turn<'_> {
    fn worker(&mut self) -> &mut Worker {
        &mut self.state.workers[usize::from(self.me)]
    }

    fn send(&mut self, to: u16, message: Message) {
        self.state.workers[usize::from(to)].rings[usize::from(self.me)].push_back(message);
    }

    fn handle(&mut self, packet: Packet) {
        let me = self.me;
        let last = self.worker().connections.get_mut(&packet.slot);
        let last = last.unwrap_or_else(|| panic!("worker {me} handles {packet:?} without its connection"));
        assert!(packet.arrival > *last, "{packet:?} after {last}: twice, or out of order");
        *last = packet.arrival;
        self.state.handled += 1;
    }

    fn dispatch(&mut self, packet: Packet) {
        match self.member.route(packet.slot) {
            Route::Own => self.handle(packet),
            Route::Hold => self.worker().held.push_back(packet),
            Route::To(owner) => self.send(owner, Message::Packet(packet)),
        }
    }

    fn receive(&mut self, max: usize) {
        for _ in 0..max {
            let Some(packet) = self.worker().socket.pop_front() else { break };
            self.dispatch(packet);
        }
    }

    fn take_over(&mut self, duty: Duty) {
        match (duty, self.without) {
            (Duty::Give, Some(Part::RingsBeforeGiving)) | (Duty::Start, Some(Part::RingsBeforeStarting)) => return,
            _ => {}
        }
        let messages: Vec<Message> = self.worker().rings.iter_mut().flat_map(std::mem::take).collect();
        for message in messages {
            match message {
                Message::Packet(packet) => self.dispatch(packet),
                Message::Moved(slot, last) => {
                    assert!(self.worker().connections.insert(slot, last).is_none(), "two of connection {slot}");
                }
            }
        }
    }

    fn perform(&mut self, duty: Duty) {
        match duty {
            Duty::None => return,
            Duty::Drain if self.without == Some(Part::Drain) => {}
            Duty::Drain => self.receive(usize::MAX),
            Duty::Give => {
                self.take_over(duty);
                let leaving: Vec<(u16, u16)> = self.member.leaving().collect();
                for (slot, owner) in leaving {
                    let last = self.worker().connections.remove(&slot).expect("the owner has the connection");
                    self.send(owner, Message::Moved(slot, last));
                }
            }
            Duty::Flush => {}
            Duty::Start => {
                self.take_over(duty);
                while let Some(packet) = self.worker().held.pop_front() {
                    self.handle(packet);
                }
            }
        }
        self.member.done();
        self.worker().done += 1;
    }
}

impl Change {
    /// From a table of `old` to one of `new` workers. Each worker of either is a thread with a member.
    fn new(slots: u16, old: &[u16], new: &[u16], steering: bool, without: Option<Part>) -> (Change, State) {
        let table = Table::runs(slots, old);
        let first = Plan::first(table.clone(), old.to_vec());
        let plan = first.next(table.spread(new), old.to_vec(), new.to_vec());
        let count = plan.members().max().expect("there are workers") + 1;
        let workers = (0..).take(count).map(|me| Worker {
            connections: table.slots_of(me).map(|slot| (slot, 0)).collect(),
            rings: vec![VecDeque::new(); count],
            ..Worker::default()
        });
        let state = State {
            workers: workers.collect(),
            progress: vec![0; count],
            published: 1,
            steered: false,
            network: Vec::new(),
            arrivals: 0,
            handled: 0,
        };
        (Change { first, plan, without, steering }, state)
    }

    fn publication(&self, number: usize) -> Plan {
        if number == 1 { self.plan.clone() } else { self.plan.committed() }
    }

    /// What worker `me` takes all others to have raised, without looking: that for which it does not wait.
    fn believed(&self, state: &State, me: usize) -> u64 {
        // An old worker has drained, given and flushed before it waits for all to have given.
        let steps = if self.plan.givers().any(|giver| giver == me) { 3 } else { 0 };
        match self.without {
            Some(Part::AllStopped) => self.plan.point(Point::Stopped),
            Some(Part::AllGiven) if state.workers[me].done >= steps => self.plan.point(Point::Given),
            _ => 0,
        }
    }

    /// The member of a worker as it is in `state`: the production code, led through what it has been through.
    fn member(&self, state: &State, me: usize) -> (Member, Arc<Progress>, EpochCell<Plan>) {
        let cell = EpochCell::new(Arc::new(self.first.clone()));
        let progress = Arc::new(Progress::new(state.progress.len()));
        for (other, &point) in state.progress.iter().enumerate().filter(|(other, _)| *other != me) {
            progress.raise(other, point.max(self.believed(state, me)));
        }
        let number = u16::try_from(me).expect("there are few");
        let mut member = Member::new(number, &cell, progress.clone());
        let Worker { seen, done, .. } = state.workers[me];
        for publication in 1..=seen {
            cell.publish(Arc::new(self.publication(publication)));
            assert!(publication == 2 || member.poll() == Duty::None);
            member.prepared();
        }
        for _ in 0..done {
            assert_ne!(member.poll(), Duty::None, "a step that was due is due again");
            member.done();
        }
        (member, progress, cell)
    }

    /// The state after a turn of worker `me`, which looks at its socket for at most one packet.
    fn turn(&self, state: &State, me: usize) -> State {
        let mut next = state.clone();
        let (mut member, progress, cell) = self.member(state, me);
        if state.workers[me].seen < state.published {
            cell.publish(Arc::new(self.publication(state.published)));
            next.workers[me].seen = state.published;
        }
        let duty = member.poll();
        let number = u16::try_from(me).expect("there are few");
        let mut turn = Turn { me: number, member, without: self.without, state: &mut next };
        turn.take_over(duty);
        turn.receive(1);
        turn.member.prepared();
        turn.perform(duty);
        next.progress[me] = progress.of(me);
        next
    }

    fn reached(&self, state: &State, point: Point) -> bool {
        self.plan.members().all(|member| state.progress[member] >= self.plan.point(point))
    }

    /// All states that one step leads to.
    fn steps(&self, state: &State) -> Vec<State> {
        let mut next: Vec<State> = self.plan.members().map(|me| self.turn(state, me)).collect();
        if state.published == 1 && self.reached(state, Point::Prepared) {
            let steered = !self.steering || state.steered;
            next.push(State { steered: true, published: if steered { 2 } else { 1 }, ..state.clone() });
        }
        for at in 0..state.network.len() {
            let mut next_state = state.clone();
            let slot = next_state.network.remove(at);
            next_state.arrivals += 1;
            let table = if state.steered { &self.plan.new } else { &self.plan.old };
            let worker = if self.steering { table.owner(slot) } else { 0 };
            let packet = Packet { slot, arrival: next_state.arrivals };
            next_state.workers[usize::from(worker)].socket.push_back(packet);
            next.push(next_state);
        }
        next.retain(|next| next != state);
        next
    }

    fn check_end(&self, state: &State, packets: usize) {
        assert!(self.reached(state, Point::Settled), "stuck: {state:?}");
        assert_eq!(usize::from(state.handled), packets, "a packet is lost: {state:?}");
        for (me, worker) in (0..).zip(&state.workers) {
            let own: Vec<u16> = self.plan.new.slots_of(me).collect();
            let here: Vec<u16> = worker.connections.keys().copied().collect();
            assert_eq!(here, own, "worker {me} has the connections of its slots");
        }
    }
}

/// Goes through all states of a change with these packets on their way; how many there are, and how many ends.
fn explore(change: &Change, mut state: State, packets: &[u16]) -> (usize, usize) {
    state.network = packets.to_vec();
    let fingerprint = |state: &State| {
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        hasher.finish()
    };
    let mut seen = HashSet::from([fingerprint(&state)]);
    let (mut open, mut ends) = (vec![state], 0);
    while let Some(state) = open.pop() {
        let next = change.steps(&state);
        if next.is_empty() {
            change.check_end(&state, packets.len());
            ends += 1;
        }
        open.extend(next.into_iter().filter(|next| seen.insert(fingerprint(next))));
        assert!(seen.len() < STATES_MAX, "the model is too large");
    }
    (seen.len(), ends)
}

/// Slots, old and new workers, and the packets of each run by their slots.
type Scenario<'a> = (u16, &'a [u16], &'a [u16], &'a [&'a [u16]]);

const TO_TWO_OTHERS: Scenario<'_> = (3, &[0, 1, 2], &[3, 4], &[&[1, 1], &[0, 2], &[0, 1, 1]]);
const TO_FIVE: Scenario<'_> = (5, &[0, 1, 2], &[0, 1, 2, 3, 4], &[&[1, 1], &[3, 4], &[0, 3, 3]]);
const TO_ONE: Scenario<'_> = (3, &[0, 1, 2], &[1], &[&[0, 0, 2], &[1, 1, 2], &[0, 1, 1]]);
/// Each turn takes one packet from the socket: so many are there that some are left.
const FOUR_OF_ONE: Scenario<'_> = (3, &[0, 1, 2], &[3, 4], &[&[1, 1, 1, 1]]);
/// The same for the worker at which everything arrives without steering, which goes, gives half of what it has, or takes more.
const FOUR_OF_ITS_OWN: Scenario<'_> = (3, &[0, 1, 2], &[3, 4], &[&[0, 0, 0, 0]]);
const SOME_LEAVE_IT: Scenario<'_> = (4, &[0], &[0, 1], &[&[3, 3, 3, 3], &[0, 3, 3]]);
const SOME_COME_TO_IT: Scenario<'_> = (4, &[0, 1, 2], &[0], &[&[3, 3, 3, 3], &[1, 3, 3]]);

/// How many states the scenario has, with steering and without.
fn explore_all((slots, old, new, packets): Scenario<'_>, without: Option<Part>) -> usize {
    let mut sum = 0;
    for steering in [true, false] {
        for packets in packets {
            let (change, state) = Change::new(slots, old, new, steering, without);
            let (states, ends) = explore(&change, state, packets);
            assert!(
                states > 1_000 && ends > 0,
                "{packets:?}, steering {steering}: {states} states, {ends} ends prove nothing"
            );
            sum += states;
        }
    }
    sum
}

#[test]
fn three_workers_become_two_others_in_every_order_of_their_steps() {
    // Packets of one slot, of two slots that go to different workers, and both. (With a fourth packet they are 320,000 states, and
    // nothing else is found.)
    assert_eq!(explore_all(TO_TWO_OTHERS, None), 100_233);
}

#[test]
fn three_workers_become_five_in_every_order_of_their_steps() {
    assert_eq!(explore_all(TO_FIVE, None), 59_829);
}

#[test]
fn three_workers_become_one_of_them_in_every_order_of_their_steps() {
    assert_eq!(explore_all(TO_ONE, None), 26_851);
}

/// What the model says of the protocol without a part of it.
fn fault(without: Part, scenario: Scenario<'_>) -> String {
    let run = std::panic::catch_unwind(|| explore_all(scenario, Some(without)));
    let panic = run.expect_err("nobody misses what was left out");
    let fixed = panic.downcast_ref::<&str>().map(|message| (*message).to_owned());
    fixed.or_else(|| panic.downcast_ref().cloned()).unwrap_or_default()
}

#[test]
fn the_protocol_without_any_part_of_it_handles_packets_out_of_order_or_without_their_connection() {
    for (part, scenario, found) in [
        (Part::Drain, FOUR_OF_ONE, "twice, or out of order"),
        (Part::AllStopped, TO_TWO_OTHERS, "twice, or out of order"),
        (Part::RingsBeforeGiving, TO_TWO_OTHERS, "twice, or out of order"),
        (Part::AllGiven, TO_TWO_OTHERS, "without its connection"),
        (Part::RingsBeforeStarting, TO_TWO_OTHERS, "without its connection"),
    ] {
        let fault = fault(part, scenario);
        assert!(fault.contains(found), "without {part:?}: {fault}");
    }
}

/// A queue of an interface (AF_XDP) is one worker's for good, and brings all packets of a connection whatever the table says. What
/// that worker passes on it passes on in order, before it has stopped and after, so that nothing has to be out of the queue by
/// then.
#[test]
fn what_is_not_steered_needs_no_drain() {
    let scenarios = [TO_TWO_OTHERS, TO_FIVE, TO_ONE, FOUR_OF_ONE, FOUR_OF_ITS_OWN, SOME_LEAVE_IT, SOME_COME_TO_IT];
    for (slots, old, new, packets) in scenarios {
        for packets in packets {
            let (change, state) = Change::new(slots, old, new, false, Some(Part::Drain));
            let (states, ends) = explore(&change, state, packets);
            assert!(states > 100 && ends > 0, "{packets:?}: {states} states, {ends} ends prove nothing");
        }
    }
}
