//! The protocol by which slots move, with the production code of its steps.

use std::sync::Arc as Plain;

use loom::sync::Arc;
use loom::thread;
use warpline_ring::partition::{Duty, Member, Plan, Point, Route, Table};
use warpline_ring::{EpochCell, Progress, spsc};

use crate::bounded;

/// What goes through the rings: a packet for a slot, or the state of one, which is the number of packets handled.
enum Message {
    Packet(u16),
    Moved(u16, usize),
}

struct Worker {
    me: u16,
    member: Member,
    /// The slots whose state is here, with the packets handled.
    state: Vec<(u16, usize)>,
    to: Vec<(u16, spsc::Producer<Message>)>,
    from: Vec<spsc::Consumer<Message>>,
    held: Vec<u16>,
    socket: Vec<u16>,
}

impl Worker {
    fn send(&mut self, to: u16, message: Message) {
        let (_, ring) = self.to.iter_mut().find(|(other, _)| *other == to).expect("the model has this ring");
        assert!(ring.push(message).is_ok(), "the model's rings have room");
    }

    fn handle(&mut self, slot: u16) {
        let me = self.me;
        let state = self.state.iter_mut().find(|(here, _)| *here == slot);
        state.unwrap_or_else(|| panic!("worker {me} handles a packet of slot {slot} that is not there")).1 += 1;
    }

    fn dispatch(&mut self, slot: u16) {
        match self.member.route(slot) {
            Route::Own => self.handle(slot),
            Route::Hold => self.held.push(slot),
            Route::To(owner) => self.send(owner, Message::Packet(slot)),
        }
    }

    fn take_over(&mut self) {
        let mut messages = Vec::new();
        for ring in &mut self.from {
            ring.pop_batch(&mut messages, usize::MAX);
        }
        for message in messages {
            match message {
                Message::Packet(slot) => self.dispatch(slot),
                Message::Moved(slot, handled) => self.state.push((slot, handled)),
            }
        }
    }

    fn turn(&mut self) -> Duty {
        let duty = self.member.poll();
        if let Some(slot) = self.socket.pop() {
            self.dispatch(slot);
        }
        self.member.prepared();
        match duty {
            Duty::None => return duty,
            Duty::Drain => {
                while let Some(slot) = self.socket.pop() {
                    self.dispatch(slot);
                }
            }
            Duty::Give => {
                self.take_over();
                let leaving: Vec<_> = self.member.leaving().collect();
                for (slot, owner) in leaving {
                    let at = self.state.iter().position(|(here, _)| *here == slot).expect("the slot was here");
                    let (_, handled) = self.state.swap_remove(at);
                    self.send(owner, Message::Moved(slot, handled));
                }
            }
            Duty::Flush => {}
            Duty::Start => {
                self.take_over();
                while let Some(slot) = self.held.pop() {
                    self.handle(slot);
                }
            }
        }
        self.member.done();
        duty
    }

    /// Works until the change is over, and then takes what is left in the rings.
    fn work(mut self, progress: &Progress, plan: &Plan) -> Worker {
        let settled = plan.point(Point::Settled);
        while progress.of(self.me.into()) < settled {
            if self.turn() == Duty::None {
                thread::yield_now();
            }
        }
        self
    }
}

/// Slots 0, 1 and so on move from old worker `i` to new worker `old + i % new`. Everything arrives as `sockets` says:
/// for each worker, slots of packets.
fn world(old: u16, new: u16, sockets: &[&[u16]]) -> (Vec<Worker>, Plan, Arc<Progress>, Arc<EpochCell<Plan>>) {
    let olds: Vec<u16> = (0..old).collect();
    let all: Vec<u16> = (0..old + new).collect();
    let table = Table::modulo(old, old);
    // All slots leave the old workers.
    let goal = table.spread(&all[old.into()..]);
    let first = Plan::first(table, olds.clone());
    let plan = first.next(goal, olds, all[old.into()..].to_vec());
    let progress = Arc::new(Progress::new(all.len()));
    let cell = Arc::new(EpochCell::new(Plain::new(first)));
    let mut workers: Vec<Worker> = all
        .iter()
        .map(|&me| Worker {
            me,
            member: Member::new(me, cell.clone(), progress.clone()),
            state: (0..old).filter(|slot| *slot == me).map(|slot| (slot, 0)).collect(),
            to: Vec::new(),
            from: Vec::new(),
            held: Vec::new(),
            socket: sockets.get(usize::from(me)).map(|slots| slots.to_vec()).unwrap_or_default(),
        })
        .collect();
    for from in &all {
        for to in &all {
            if from != to {
                let (producer, consumer) = spsc::channel(4);
                workers[usize::from(*from)].to.push((*to, producer));
                workers[usize::from(*to)].from.push(consumer);
            }
        }
    }
    (workers, plan, progress, cell)
}

/// Runs a change with all workers on threads of their own but the last, which runs here after the second stage was
/// published, and checks that every packet was handled once, by whoever had the slot.
fn check(old: u16, new: u16, sockets: &[&[u16]]) {
    let (mut workers, plan, progress, cell) = world(old, new, sockets);
    cell.publish(Plain::new(plan.clone()));
    for worker in &mut workers {
        // The first stage is known everywhere before the second one is published; here that takes no threads.
        assert_eq!(worker.member.poll(), Duty::None);
        assert!(worker.member.prepared());
    }
    let last = workers.pop().expect("there are workers");
    let threads: Vec<_> = workers
        .into_iter()
        .map(|worker| {
            let (plan, progress) = (plan.clone(), progress.clone());
            thread::spawn(move || worker.work(&progress, &plan))
        })
        .collect();
    cell.publish(Plain::new(plan.committed()));
    let mut workers = vec![last.work(&progress, &plan)];
    workers.extend(threads.into_iter().map(|thread| thread.join().expect("no worker panics")));
    // Stragglers: passed on after their new owner had started.
    for _ in 0..2 {
        workers.iter_mut().for_each(Worker::take_over);
    }
    let expected: usize = sockets.iter().map(|slots| slots.len()).sum();
    let handled: usize = workers.iter().flat_map(|worker| &worker.state).map(|(_, handled)| handled).sum();
    assert_eq!(handled, expected, "each packet is handled once");
    for worker in &workers {
        for (slot, _) in &worker.state {
            assert_eq!(plan.new.owner(*slot), worker.me, "slot {slot} is where the new table says");
        }
    }
}

/// Explores for a limited time: all interleavings of so many threads take hours. What the search reaches first differs
/// from run to run by the speed of the machine alone. What is left out here, all orders of so many workers' steps, is
/// what `tests/interleavings.rs` goes through, with steps that are whole.
fn for_a_while(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 20_000;
    model.max_duration = Some(std::time::Duration::from_secs(20));
    model.check(f);
}

#[test]
fn a_slot_moves_from_one_worker_to_another_with_packets_under_way() {
    bounded(2, || check(1, 1, &[&[0], &[0]]));
}

#[test]
fn slots_move_from_two_workers_to_one_with_packets_under_way() {
    // Worker 0 has a packet for the other one's slot, and the new one is reached early.
    for_a_while(2, || check(2, 1, &[&[1], &[], &[0]]));
}

#[test]
fn slots_move_from_three_workers_to_two_with_packets_under_way() {
    for_a_while(1, || check(3, 2, &[&[1], &[], &[2], &[0], &[]]));
}
