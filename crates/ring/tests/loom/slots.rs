//! The protocol by which slots move, with the production code of its steps.
//!
//! All workers run on threads of their own; the last one is the coordinator, too, which between its turns does what is next:
//! waits for all to have prepared, has later packets arrive by the new table, and publishes the second stage.

use std::collections::VecDeque;
use std::sync::Arc as Plain;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use loom::sync::Arc;
use loom::thread;
use warpline_ring::partition::{Duty, Member, Plan, Point, Route, Stage, Table};
use warpline_ring::{EpochCell, Progress, spsc};

/// A packet of a slot, with its place in the order of arrival.
#[derive(Clone, Copy, Debug)]
struct Packet {
    slot: u16,
    arrival: usize,
}

/// What goes through the rings: packets, or the state of a slot.
enum Message {
    Packet(Packet),
    Moved(State),
}

struct State {
    slot: u16,
    handled: usize,
    /// The arrival of the last packet handled.
    last: usize,
}

struct Worker {
    me: u16,
    member: Member,
    /// The slots whose state is here.
    state: Vec<State>,
    to: Vec<(u16, spsc::Producer<Message>)>,
    from: Vec<spsc::Consumer<Message>>,
    held: VecDeque<Packet>,
    socket: VecDeque<Packet>,
    /// What the kernel puts into the socket once it steers by the new table.
    late: spsc::Consumer<Packet>,
}

impl Worker {
    fn send(&mut self, to: u16, message: Message) {
        let (_, ring) = self.to.iter_mut().find(|(other, _)| *other == to).expect("the model has this ring");
        assert!(ring.push(message).is_ok(), "the model's rings have room");
    }

    fn handle(&mut self, packet: Packet) {
        let me = self.me;
        let state = self.state.iter_mut().find(|state| state.slot == packet.slot);
        let state = state.unwrap_or_else(|| panic!("worker {me} handles {packet:?}, whose slot is not there"));
        assert!(packet.arrival > state.last, "{packet:?} after {}: twice, or out of order", state.last);
        state.last = packet.arrival;
        state.handled += 1;
    }

    fn dispatch(&mut self, packet: Packet) {
        match self.member.route(packet.slot) {
            Route::Own => self.handle(packet),
            Route::Hold => self.held.push_back(packet),
            Route::To(owner) => self.send(owner, Message::Packet(packet)),
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
                Message::Moved(state) => self.state.push(state),
            }
        }
    }

    /// Takes one packet from the socket; false if there is none.
    fn receive(&mut self) -> bool {
        let packet = self.socket.pop_front().or_else(|| self.late.pop());
        packet.map(|packet| self.dispatch(packet)).is_some()
    }

    fn turn(&mut self) -> Duty {
        let duty = self.member.poll();
        self.receive();
        self.member.prepared();
        match duty {
            Duty::None => return duty,
            Duty::Drain => while self.receive() {},
            Duty::Give => {
                self.take_over();
                let leaving: Vec<_> = self.member.leaving().collect();
                for (slot, owner) in leaving {
                    let at = self.state.iter().position(|state| state.slot == slot).expect("the slot was here");
                    let state = self.state.swap_remove(at);
                    self.send(owner, Message::Moved(state));
                }
            }
            Duty::Flush => {}
            Duty::Start => {
                self.take_over();
                while let Some(packet) = self.held.pop_front() {
                    self.handle(packet);
                }
            }
        }
        self.member.done();
        duty
    }

    /// Works until the change is over. The coordinator's part is done between turns.
    fn work(mut self, progress: &Progress, plan: &Plan, mut coordinate: impl FnMut()) -> Worker {
        let settled = plan.point(Point::Settled);
        while progress.of(self.me.into()) < settled {
            coordinate();
            if self.turn() == Duty::None {
                thread::yield_now();
            }
        }
        self
    }
}

/// What is on its way: for each worker the slots of packets that are in its socket at the beginning, and of those that arrive
/// there once the kernel has the new table.
type Sockets<'a> = &'a [(&'a [u16], &'a [u16])];

struct World {
    workers: Vec<Worker>,
    /// The kernel's ends of the sockets with what is to come.
    kernel: Vec<(spsc::Producer<Packet>, Vec<Packet>)>,
    plan: Plan,
    progress: Arc<Progress>,
    cell: Arc<EpochCell<Plan>>,
}

/// Slots 0, 1 and so on move from old worker `i` to new worker `old + i % new`.
fn world(old: u16, new: u16, sockets: Sockets<'_>) -> World {
    let olds: Vec<u16> = (0..old).collect();
    let all: Vec<u16> = (0..old + new).collect();
    let table = Table::modulo(old, old);
    // All slots leave the old workers.
    let goal = table.spread(&all[old.into()..]);
    let first = Plan::first(table, olds.clone());
    let plan = first.next(goal, olds, all[old.into()..].to_vec());
    let progress = Arc::new(Progress::new(all.len()));
    let cell = Arc::new(EpochCell::new(Plain::new(first)));
    let (mut workers, mut kernel) = (Vec::new(), Vec::new());
    for &me in &all {
        let at = |arrival: usize, slots: &[u16]| {
            (arrival..).zip(slots).map(|(arrival, &slot)| Packet { slot, arrival }).collect::<Vec<_>>()
        };
        let (early, late) = sockets.get(usize::from(me)).copied().unwrap_or_default();
        let (producer, consumer) = spsc::channel(late.len().max(1));
        // All that comes late is later than all that is there.
        kernel.push((producer, at(100, late)));
        workers.push(Worker {
            me,
            member: Member::new(me, &cell, progress.clone()),
            state: (0..old).filter(|slot| *slot == me).map(|slot| State { slot, handled: 0, last: 0 }).collect(),
            to: Vec::new(),
            from: Vec::new(),
            held: VecDeque::new(),
            socket: at(1, early).into(),
            late: consumer,
        });
    }
    for from in &all {
        for to in &all {
            if from != to {
                let (producer, consumer) = spsc::channel(4);
                workers[usize::from(*from)].to.push((*to, producer));
                workers[usize::from(*to)].from.push(consumer);
            }
        }
    }
    World { workers, kernel, plan, progress, cell }
}

/// Runs a change, and checks that every packet was handled once, in order, by whoever had the slot.
fn check(old: u16, new: u16, sockets: Sockets<'_>) {
    let World { mut workers, mut kernel, plan, progress, cell } = world(old, new, sockets);
    cell.publish(Plain::new(plan.clone()));
    let last = workers.pop().expect("there are workers");
    let threads: Vec<_> = workers
        .into_iter()
        .map(|worker| {
            let (plan, progress) = (plan.clone(), progress.clone());
            thread::spawn(move || worker.work(&progress, &plan, || ()))
        })
        .collect();
    let mut stage = Stage::Prepare;
    let coordinate = || {
        if stage == Stage::Prepare && progress.all_reached(plan.members(), plan.point(Point::Prepared)) {
            for (socket, packets) in &mut kernel {
                for packet in packets.drain(..) {
                    socket.push(packet).expect("a socket has room for all");
                }
            }
            stage = Stage::Commit;
            cell.publish(Plain::new(plan.committed()));
        }
    };
    let mut workers = vec![last.work(&progress, &plan, coordinate)];
    workers.extend(threads.into_iter().map(|thread| thread.join().expect("no worker panics")));
    // Stragglers: in a socket when its worker was through, or passed on after their new owner had started.
    for _ in 0..2 {
        for worker in &mut workers {
            while worker.receive() {}
            worker.take_over();
        }
    }
    let expected: usize = sockets.iter().map(|(early, late)| early.len() + late.len()).sum();
    let handled: usize = workers.iter().flat_map(|worker| &worker.state).map(|state| state.handled).sum();
    assert_eq!(handled, expected, "each packet is handled once");
    for worker in &workers {
        for state in &worker.state {
            assert_eq!(plan.new.owner(state.slot), worker.me, "slot {} is where the new table says", state.slot);
        }
    }
}

/// Explores `most` executions, or all that there are with so many preemptions, and not fewer than `least`: all interleavings of many threads take
/// hours. The number decides, not the time, so that every machine explores the same. `LOOM_LONGER=100` explores a hundred
/// times as many. What is left out here, all orders of so many workers' steps, is what `tests/interleavings.rs` goes through,
/// with steps that are whole.
fn explore(
    preemptions: usize,
    (least, most): (usize, usize),
    old: u16,
    new: u16,
    sockets: &'static [(&[u16], &[u16])],
) {
    let longer = std::env::var("LOOM_LONGER").map_or(1, |times| times.parse().expect("a number of times"));
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 20_000;
    // How often loom looks whether it is to end.
    model.checkpoint_interval = 100;
    model.max_permutations = Some(most * longer);
    let count = Plain::new(AtomicUsize::new(0));
    let counter = Plain::clone(&count);
    model.check(move || {
        counter.fetch_add(1, Relaxed);
        check(old, new, sockets);
    });
    let count = count.load(Relaxed);
    println!("{old} to {new} workers, {preemptions} preemptions: {count} executions");
    assert!(count >= least, "{count} executions prove little");
}

#[test]
fn a_slot_moves_from_one_worker_to_another_with_packets_under_way() {
    explore(3, (500, 30_000), 1, 1, &[(&[0, 0], &[]), (&[], &[0])]);
}

#[test]
fn slots_move_from_two_workers_to_one_with_packets_under_way() {
    // Worker 0 has packets for both, and the new one gets a later one of each.
    explore(2, (29_000, 30_000), 2, 1, &[(&[1, 0], &[]), (&[], &[]), (&[], &[0, 1])]);
}

#[test]
fn slots_move_from_three_workers_to_two_with_packets_under_way() {
    explore(1, (29_000, 30_000), 3, 2, &[(&[1], &[]), (&[], &[]), (&[2], &[]), (&[], &[0]), (&[], &[1])]);
}

#[test]
fn slots_move_from_three_workers_to_two_where_nothing_is_steered() {
    explore(1, (29_000, 30_000), 3, 2, &[(&[1, 2], &[1, 2]), (&[], &[]), (&[], &[])]);
}
