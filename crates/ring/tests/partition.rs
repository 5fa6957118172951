//! Slots that move between workers, simulated: many random schedules of workers that come and go, coordinator and network,
//! with loss and reordering on the way, in sockets and between workers, rings that are full, and steering that is or is not in
//! force. The oracle knows nothing of the protocol: a packet has a number by its place in the socket, each is handled once or
//! counted as lost, by whoever has its connection, in order.
#![cfg(not(loom))]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use warpline_ring::partition::{Duty, Member, Plan, Point, Route, Table};
use warpline_ring::{EpochCell, Progress, spsc};

const SLOTS: u16 = 13;
const CONNECTIONS: u16 = 40;
const WORKERS: u16 = 6;
const RING: usize = 4;
/// Messages beside a full ring from which on packets are dropped, and packets that are held at most.
const BESIDE: usize = 6;
const HELD: usize = 8;

/// xorshift: the same seed gives the same run.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// A packet, with its place in the order in which the connection's packets reached the machine.
#[derive(Clone, Copy, Debug)]
struct Packet {
    connection: u16,
    arrival: u64,
}

enum Message {
    Packet(Packet),
    /// A connection, with the arrival of the last packet that it has handled.
    Moved(u16, u64),
}

struct Worker {
    /// `None` while there is no such worker.
    member: Option<Member>,
    socket: VecDeque<Packet>,
    connections: BTreeMap<u16, u64>,
    held: VecDeque<Packet>,
    to: Vec<(spsc::Producer<Message>, VecDeque<Message>)>,
    from: Vec<spsc::Consumer<Message>>,
    handled: u64,
    /// Packets that had arrived and did not fit.
    dropped: u64,
}

impl Worker {
    fn member(&mut self) -> &mut Member {
        self.member.as_mut().expect("only workers that there are have turns")
    }

    fn send(&mut self, to: u16, message: Message) {
        let queue = &mut self.to[usize::from(to)].1;
        if queue.len() >= BESIDE && matches!(message, Message::Packet(_)) {
            self.dropped += 1;
        } else {
            queue.push_back(message);
        }
        self.flush();
    }

    /// Nothing is here or on its way to others.
    fn is_idle(&self) -> bool {
        let sent = self.to.iter().all(|(_, queue)| queue.is_empty());
        sent && self.connections.is_empty() && self.socket.is_empty() && self.held.is_empty()
    }

    fn flush(&mut self) -> bool {
        for (ring, queue) in &mut self.to {
            while let Some(message) = queue.pop_front() {
                if let Err(full) = ring.push(message) {
                    queue.push_front(full.0);
                    break;
                }
            }
        }
        self.to.iter().all(|(_, queue)| queue.is_empty())
    }

    fn handle(&mut self, packet: Packet) {
        let last = self.connections.get_mut(&packet.connection);
        let last = last.unwrap_or_else(|| panic!("{packet:?} was handled by a worker without its connection"));
        assert!(packet.arrival > *last, "{packet:?} after arrival {last}: twice, or out of order");
        *last = packet.arrival;
        self.handled += 1;
    }

    fn dispatch(&mut self, packet: Packet) {
        match self.member().route(packet.connection % SLOTS) {
            Route::Own => self.handle(packet),
            Route::Hold if self.held.len() >= HELD => self.dropped += 1,
            Route::Hold => self.held.push_back(packet),
            Route::To(owner) => self.send(owner, Message::Packet(packet)),
        }
    }

    fn receive(&mut self, max: usize) {
        for _ in 0..max {
            let Some(packet) = self.socket.pop_front() else { break };
            self.dispatch(packet);
        }
    }

    fn take_over(&mut self) {
        let mut messages = Vec::new();
        for ring in &mut self.from {
            ring.pop_batch(&mut messages, usize::MAX);
        }
        for message in messages {
            match message {
                Message::Packet(packet) => self.dispatch(packet),
                Message::Moved(connection, last) => match self.member().route(connection % SLOTS) {
                    Route::To(owner) => self.send(owner, Message::Moved(connection, last)),
                    _ => assert!(self.connections.insert(connection, last).is_none(), "two of connection {connection}"),
                },
            }
        }
    }

    fn turn(&mut self, batch: usize) {
        if self.member.is_none() {
            assert!(self.is_idle(), "something is left of a worker that has ended, or came to one that is not there");
            return;
        }
        let duty = self.member().poll();
        self.receive(batch);
        self.take_over();
        self.member().prepared();
        match duty {
            Duty::None => {}
            Duty::Drain => self.receive(usize::MAX),
            Duty::Give => {
                self.take_over();
                let leaving: BTreeMap<u16, u16> = self.member().leaving().collect();
                let gone = |connection: &u16| leaving.contains_key(&(connection % SLOTS));
                let moved: Vec<u16> = self.connections.keys().copied().filter(gone).collect();
                for connection in moved {
                    let last = self.connections.remove(&connection).expect("it was there");
                    self.send(leaving[&(connection % SLOTS)], Message::Moved(connection, last));
                }
                return self.member().done();
            }
            Duty::Flush => {}
            Duty::Start => {
                self.take_over();
                while let Some(packet) = self.held.pop_front() {
                    self.handle(packet);
                }
            }
        }
        let flushed = self.flush();
        if duty != Duty::None && flushed {
            self.member().done();
        }
    }
}

struct World {
    rng: Rng,
    workers: Vec<Worker>,
    plans: EpochCell<Plan>,
    progress: Arc<Progress>,
    plan: Plan,
    /// By which the kernel steers; `None` if everything arrives at worker 0.
    steering: Option<Table>,
    network: Vec<u16>,
    arrivals: u64,
    /// Of those that had arrived.
    lost: u64,
    changes: u64,
    /// The workers that there are.
    alive: BTreeSet<u16>,
    /// Workers that came with a change, and that ended.
    came: u64,
    went: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let active: Vec<u16> = (0..=rng.below(3) as u16).collect();
        let plan = Plan::first(Table::runs(SLOTS, &active), active.clone());
        let plans = EpochCell::new(Arc::new(plan.clone()));
        let progress = Arc::new(Progress::new(WORKERS.into()));
        let mut workers: Vec<Worker> = (0..WORKERS)
            .map(|me| Worker {
                member: active.contains(&me).then(|| Member::new(me, &plans, progress.clone())),
                socket: VecDeque::new(),
                connections: (0..CONNECTIONS)
                    .filter(|connection| plan.new.owner(connection % SLOTS) == me)
                    .map(|connection| (connection, 0))
                    .collect(),
                held: VecDeque::new(),
                to: Vec::new(),
                from: Vec::new(),
                handled: 0,
                dropped: 0,
            })
            .collect();
        for from in 0..usize::from(WORKERS) {
            for to in 0..usize::from(WORKERS) {
                let (producer, consumer) = spsc::channel(RING);
                workers[from].to.push((producer, VecDeque::new()));
                workers[to].from.push(consumer);
            }
        }
        let steering = (rng.below(4) > 0).then(|| plan.new.clone());
        World {
            rng,
            workers,
            plans,
            progress,
            plan,
            steering,
            network: Vec::new(),
            arrivals: 0,
            lost: 0,
            changes: 0,
            alive: active.into_iter().collect(),
            came: 0,
            went: 0,
        }
    }

    /// Some packets come out of the network: some of those sent are lost, the others come in any order.
    fn arrive(&mut self) {
        for _ in 0..self.rng.below(8) {
            self.network.push(self.rng.below(CONNECTIONS.into()) as u16);
        }
        for _ in 0..self.rng.below(8).min(self.network.len()) {
            let at = self.rng.below(self.network.len());
            let connection = self.network.swap_remove(at);
            if self.rng.below(20) == 0 {
                continue;
            }
            self.arrivals += 1;
            let worker = self.steering.as_ref().map_or(0, |table| table.owner(connection % SLOTS));
            self.workers[usize::from(worker)].socket.push_back(Packet { connection, arrival: self.arrivals });
        }
        self.disturb();
    }

    /// Something happens to what lies in a socket: one packet is lost, or two change places.
    fn disturb(&mut self) {
        let worker = self.rng.below(WORKERS.into());
        let socket = &mut self.workers[worker].socket;
        if socket.len() < 2 {
            return;
        }
        let (one, other) = (self.rng.below(socket.len()), self.rng.below(socket.len()));
        if self.rng.below(3) == 0 {
            socket.remove(one);
            self.lost += 1;
        } else if socket[one].connection % SLOTS == socket[other].connection % SLOTS {
            // A packet's number says where it lies: also beside those of the slot that are in other sockets.
            let connections = (socket[one].connection, socket[other].connection);
            (socket[other].connection, socket[one].connection) = connections;
        }
    }

    /// Workers that are not to go on and have nothing more to do may end. Worker 0 has the only socket where nothing steers.
    fn end_some(&mut self) {
        for worker in 1..WORKERS {
            let at = usize::from(worker);
            let unused = !self.plan.active.contains(&worker) && self.plan.new.slots_of(worker).next().is_none();
            if !unused || !self.alive.contains(&worker) || self.rng.below(2) == 0 || !self.workers[at].is_idle() {
                continue;
            }
            let reached = |other: &Worker| other.to[at].1.is_empty();
            if self.workers.iter().all(reached) && self.workers[at].from.iter_mut().all(|ring| ring.is_empty()) {
                self.workers[at].member = None;
                self.alive.remove(&worker);
                self.went += 1;
            }
        }
    }

    /// The workers after the next change; now and then three become two others.
    fn choose(&mut self) -> Vec<u16> {
        if self.rng.below(4) == 0 {
            let others: Vec<u16> = (0..WORKERS).filter(|worker| !self.plan.active.contains(worker)).take(2).collect();
            if !others.is_empty() {
                return others;
            }
        }
        let active: Vec<u16> = (0..WORKERS).filter(|_| self.rng.below(2) == 0).collect();
        if active.is_empty() { vec![self.rng.below(WORKERS.into()) as u16] } else { active }
    }

    fn reached(&self, point: Point) -> bool {
        self.progress.all_reached(self.plan.members(), self.plan.point(point))
    }

    fn publish(&mut self, plan: Plan) {
        self.plans.publish(Arc::new(plan.clone()));
        self.plan = plan;
    }

    /// The coordinator looks, and does what is next.
    fn coordinate(&mut self, may_begin: bool) {
        let committed = self.plan.stage == warpline_ring::partition::Stage::Commit;
        if !committed && self.reached(Point::Prepared) {
            if self.steering.is_some() {
                self.steering = Some(self.plan.new.clone());
            }
            self.publish(self.plan.committed());
        } else if committed && may_begin && (self.plan.change == 0 || self.reached(Point::Settled)) {
            self.end_some();
            let active = self.choose();
            let old = self.alive.iter().copied().collect();
            for &worker in &active {
                if self.alive.insert(worker) {
                    self.progress.reset(worker.into());
                    let member = Member::new(worker, &self.plans, Arc::clone(&self.progress));
                    self.workers[usize::from(worker)].member = Some(member);
                    self.came += 1;
                }
            }
            let goal = self.plan.new.spread(&active);
            let table = self.plan.new.step_towards(&goal, 1 + self.rng.below(SLOTS.into()));
            self.publish(self.plan.next(table, old, active));
            self.changes += 1;
        }
    }

    fn step(&mut self, may_begin: bool) {
        match self.rng.below(usize::from(WORKERS) + 2) {
            0 => self.coordinate(may_begin),
            1 => self.arrive(),
            worker => {
                let batch = self.rng.below(5);
                self.workers[worker - 2].turn(batch);
            }
        }
    }

    fn run(mut self) -> World {
        for _ in 0..1_500 {
            self.step(true);
        }
        // No more arrivals: everything comes to rest, and the last change to its end.
        for _ in 0..200 {
            self.coordinate(false);
            self.workers.iter_mut().for_each(|worker| worker.turn(usize::MAX));
        }
        assert!(self.plan.change == 0 || self.reached(Point::Settled), "a change does not come to its end");
        let handled: u64 = self.workers.iter().map(|worker| worker.handled).sum();
        self.lost += self.workers.iter().map(|worker| worker.dropped).sum::<u64>();
        assert_eq!(handled + self.lost, self.arrivals, "each packet that arrived is handled once, or counted as lost");
        for (me, worker) in (0..).zip(&self.workers) {
            let own = |connection: &u16| self.plan.new.owner(connection % SLOTS) == me;
            assert!(worker.connections.keys().all(own), "worker {me} has a connection of another one");
        }
        let connections: usize = self.workers.iter().map(|worker| worker.connections.len()).sum();
        assert_eq!(connections, usize::from(CONNECTIONS), "no connection is lost");
        self
    }
}

#[test]
fn each_packet_is_handled_once_by_its_owner_in_order_over_a_thousand_seeds() {
    /// Miri takes minutes for one.
    const SEEDS: u64 = if cfg!(miri) { 1 } else { 1_000 };
    let (mut arrivals, mut lost, mut changes, mut came, mut went) = (0, 0, 0, 0, 0);
    for seed in 0..SEEDS {
        let Ok(world) = std::panic::catch_unwind(|| World::new(seed).run()) else { panic!("seed {seed} failed") };
        arrivals += world.arrivals;
        lost += world.lost;
        changes += world.changes;
        came += world.came;
        went += world.went;
    }
    let sums = format!("{arrivals} packets, {lost} lost, {changes} changes, {came} workers came, {went} went");
    assert!(
        cfg!(miri) || (arrivals > 400_000 && changes > 5_000 && came > 4_000 && went > 2_000),
        "{sums}: this proves little"
    );
    assert!(lost * 4 < arrivals, "{sums}: too few are left to prove anything");
    println!("{sums}");
}
