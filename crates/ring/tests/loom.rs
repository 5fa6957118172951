//! Every structure under loom: all interleavings of small programs, and every value that a load may see.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p warpline-ring --release --test loom`
#![cfg(loom)]

use std::sync::Arc as Plain;
use std::sync::atomic::AtomicUsize as PlainUsize;
use std::sync::atomic::Ordering::SeqCst;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;
use warpline_ring::mailbox::{SendError, mailbox};
use warpline_ring::{Counters, Doorbell, EpochCell, EpochReader, WakeSet, spsc};

/// Counts its drops, so that a lost or doubled item shows.
struct Item(usize, Plain<PlainUsize>);

impl Drop for Item {
    fn drop(&mut self) {
        self.1.fetch_add(1, SeqCst);
    }
}

fn bounded(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(f);
}

#[test]
fn spsc_keeps_order_through_a_full_ring() {
    loom::model(|| {
        let (mut producer, mut consumer) = spsc::channel::<usize>(2);
        let sender = thread::spawn(move || {
            let mut next = 0;
            while next < 3 {
                match producer.push(next) {
                    Ok(()) => next += 1,
                    Err(_) => thread::yield_now(),
                }
            }
        });
        let mut expected = 0;
        while expected < 3 {
            match consumer.pop() {
                Some(value) => {
                    assert_eq!(value, expected);
                    expected += 1;
                }
                None => thread::yield_now(),
            }
        }
        sender.join().expect("the producer does not panic");
        assert!(consumer.pop().is_none());
    });
}

#[test]
fn spsc_batches_and_drops_what_is_left() {
    loom::model(|| {
        let drops = Plain::new(PlainUsize::new(0));
        let (mut producer, mut consumer) = spsc::channel::<Item>(2);
        let counted = drops.clone();
        let sender = thread::spawn(move || {
            let mut items = (0..3).map(|n| Item(n, counted.clone()));
            let pushed = producer.push_batch(&mut items);
            assert!((2..=3).contains(&(pushed + producer.push_batch(&mut items))));
            items.count()
        });
        let mut out = Vec::new();
        consumer.pop_batch(&mut out, 1);
        assert!(out.iter().enumerate().all(|(n, item)| item.0 == n));
        drop((consumer, out));
        sender.join().expect("the producer does not panic");
        assert_eq!(drops.load(SeqCst), 3);
    });
}

#[test]
fn mailbox_delivers_each_message_once_in_order_of_its_sender() {
    bounded(3, || {
        let (sender, mut receiver) = mailbox::<(usize, usize)>(3);
        let senders: Vec<_> = (0..2)
            .map(|who| {
                let sender = sender.clone();
                thread::spawn(move || {
                    for n in 0..=who {
                        sender.send((who, n)).expect("there are as many slots as messages");
                    }
                })
            })
            .collect();
        let mut messages: Vec<_> = receiver.drain().collect();
        for sender in senders {
            sender.join().expect("a sender does not panic");
        }
        messages.extend(receiver.drain());
        let of = |who| messages.iter().filter(|m| m.0 == who).map(|m| m.1).collect::<Vec<_>>();
        assert_eq!((of(0), of(1)), (vec![0], vec![0, 1]));
    });
}

/// The first free slot goes away and comes back while a sender is about to take it, with another one behind it: what
/// the tag is for.
#[test]
fn mailbox_takes_no_slot_that_is_in_use() {
    bounded(3, || {
        let (sender, mut receiver) = mailbox::<usize>(2);
        let other = sender.clone();
        let thread = thread::spawn(move || other.send(9).is_ok());
        let sent = [0, 1].map(|n| sender.send(n).is_ok());
        let mut drain = receiver.drain();
        let mut got: Vec<usize> = drain.next().into_iter().collect();
        let sent_later = sender.send(2).is_ok();
        got.extend(&mut drain);
        drop(drain);
        let sent_there = thread.join().expect("the sender does not panic");
        got.extend(receiver.drain());
        got.sort_unstable();
        let all = [(0, sent[0]), (1, sent[1]), (2, sent_later), (9, sent_there)];
        assert_eq!(got, all.into_iter().filter(|m| m.1).map(|m| m.0).collect::<Vec<_>>());
    });
}

/// Two slots, reused while two senders fight for them.
#[test]
fn mailbox_reuses_slots_without_confusion() {
    bounded(3, || {
        let drops = Plain::new(PlainUsize::new(0));
        let (sender, mut receiver) = mailbox::<Item>(2);
        let senders: Vec<_> = (0..2)
            .map(|who| {
                let (sender, drops) = (sender.clone(), drops.clone());
                thread::spawn(move || (0..2).filter(|n| sender.send(Item(who * 2 + n, drops.clone())).is_ok()).count())
            })
            .collect();
        let mut got: Vec<usize> = receiver.drain().map(|item| item.0).collect();
        let sent: usize = senders.into_iter().map(|s| s.join().expect("a sender does not panic")).sum();
        got.extend(receiver.drain().map(|item| item.0));
        got.sort_unstable();
        got.dedup();
        assert_eq!(got.len(), sent);
        assert!(sent >= 2);
        assert_eq!(drops.load(SeqCst), 4);
    });
}

#[test]
fn mailbox_tells_the_first_sender_to_wake() {
    loom::model(|| {
        let (sender, mut receiver) = mailbox::<usize>(2);
        let other = sender.clone();
        let thread = thread::spawn(move || other.send(1).expect("there is room"));
        let first = sender.send(0).expect("there is room");
        let second = thread.join().expect("the sender does not panic");
        assert!(first != second, "exactly one of them found the mailbox empty");
        assert_eq!(receiver.drain().count(), 2);
    });
}

#[test]
fn mailbox_that_closes_loses_nothing_silently() {
    loom::model(|| {
        let drops = Plain::new(PlainUsize::new(0));
        let (sender, receiver) = mailbox::<Item>(1);
        let counted = drops.clone();
        let thread = thread::spawn(move || match sender.send(Item(0, counted.clone())) {
            Ok(_) => (),
            Err(SendError::Closed(item)) => assert_eq!((item.0, counted.load(SeqCst)), (0, 0)),
            Err(SendError::Full(_)) => panic!("the mailbox has a free slot"),
        });
        drop(receiver);
        thread.join().expect("the sender does not panic");
        assert_eq!(drops.load(SeqCst), 1);
    });
}

/// The worker sleeps until notified: a lost ring would be a deadlock, which loom reports.
#[test]
fn doorbell_never_loses_a_ring() {
    loom::model(|| {
        let notified = Arc::new(AtomicBool::new(false));
        let flag = notified.clone();
        let bell = Arc::new(Doorbell::new(move || {
            assert!(!flag.swap(true, Ordering::Release), "one notification per sleep");
        }));
        let queue = Arc::new(AtomicUsize::new(0));
        let ringers: Vec<_> = (0..2)
            .map(|_| {
                let (bell, queue) = (bell.clone(), queue.clone());
                thread::spawn(move || {
                    queue.fetch_add(1, Ordering::Relaxed);
                    bell.ring();
                })
            })
            .collect();
        let mut seen = 0;
        while seen < 2 {
            if bell.prepare_sleep() {
                while !notified.swap(false, Ordering::Acquire) {
                    thread::yield_now();
                }
                assert!(bell.wake(), "woken by a ring");
            }
            seen = queue.load(Ordering::Relaxed);
        }
        for ringer in ringers {
            ringer.join().expect("a ringer does not panic");
        }
    });
}

#[test]
fn doorbell_take_shows_what_was_queued_before() {
    loom::model(|| {
        let bell = Arc::new(Doorbell::new(|| panic!("nobody sleeps")));
        let queue = Arc::new(AtomicUsize::new(0));
        let (ringer_bell, ringer_queue) = (bell.clone(), queue.clone());
        let ringer = thread::spawn(move || {
            ringer_queue.store(1, Ordering::Relaxed);
            ringer_bell.ring();
        });
        if bell.take() {
            assert_eq!(queue.load(Ordering::Relaxed), 1);
            assert!(!bell.take(), "a ring is taken once");
        }
        ringer.join().expect("the ringer does not panic");
    });
}

#[test]
fn counters_have_a_writer_and_readers() {
    loom::model(|| {
        let counters = Arc::new(Counters::<2>::new());
        let writer = counters.clone();
        let thread = thread::spawn(move || {
            writer.add(0, 1);
            writer.add(1, 2);
        });
        let [a, b] = counters.snapshot();
        assert!(a <= 1 && (b == 0 || b == 2));
        thread.join().expect("the writer does not panic");
        assert_eq!(Counters::sum([&*counters, &*counters]), [2, 4]);
    });
}

#[test]
fn epochs_and_tables_match() {
    loom::model(|| {
        let cell = Arc::new(EpochCell::new(Plain::new(0u64)));
        let mut reader = EpochReader::new(cell.clone());
        let publisher = thread::spawn(move || {
            for value in 1..=2 {
                assert_eq!(cell.publish(Plain::new(value)), value);
            }
        });
        let before = reader.epoch();
        let changed = reader.refresh();
        assert_eq!(changed, reader.epoch() > before);
        assert_eq!(**reader.table(), reader.epoch());
        publisher.join().expect("the publisher does not panic");
        reader.refresh();
        assert_eq!((**reader.table(), reader.epoch()), (2, 2));
    });
}

/// Two threads wake members (one of them the same) while the owner empties the set and sleeps on its doorbell: every
/// member is found after its last insertion, and what its thread wrote before is visible.
#[test]
fn wake_set_loses_no_wake_up() {
    bounded(3, || {
        let set = Arc::new(WakeSet::new(128));
        let data = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let threads = [(0, 1), (1, 65)].map(|(index, member)| {
            let (set, data) = (set.clone(), data.clone());
            thread::spawn(move || {
                data[index].store(1, Ordering::Relaxed);
                set.insert(member);
                set.insert(2);
            })
        });
        let mut seen = [false; 3];
        let look = |seen: &mut [bool; 3]| {
            set.drain(|member| match member {
                1 => seen[0] = data[0].load(Ordering::Relaxed) == 1,
                65 => seen[1] = data[1].load(Ordering::Relaxed) == 1,
                _ => seen[2] = true,
            });
        };
        look(&mut seen);
        for thread in threads {
            thread.join().unwrap();
        }
        look(&mut seen);
        assert_eq!(seen, [true; 3]);
    });
}

/// A wake-up, its doorbell, and an owner about to sleep: the owner never sleeps with a member in the set.
#[test]
fn wake_set_and_doorbell_never_sleep_on_a_wake_up() {
    loom::model(|| {
        let notified = Arc::new(AtomicBool::new(false));
        let set = Arc::new(WakeSet::new(64));
        let bell = {
            let notified = notified.clone();
            Arc::new(Doorbell::new(move || notified.store(true, Ordering::Release)))
        };
        let waker = {
            let (set, bell) = (set.clone(), bell.clone());
            thread::spawn(move || {
                set.insert(5);
                bell.ring();
            })
        };
        let mut found = false;
        if bell.take() {
            set.drain(|_| found = true);
        }
        let asleep = bell.prepare_sleep();
        waker.join().unwrap();
        if asleep && !found {
            assert!(notified.load(Ordering::Acquire), "asleep, with a wake-up in the set");
        }
        bell.wake();
        set.drain(|_| found = true);
        assert!(found);
    });
}

/// Polls an answer until it is there, as an executor does that is woken by a flag.
fn wait_for<T: Send>(mut answer: warpline_ring::oneshot::Answer<T>, pokes: usize) -> Option<T> {
    use std::future::Future;
    use std::task::{Context, Poll, Wake, Waker};

    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Plain<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }
    let flags: Vec<_> = (0..=pokes).map(|_| Plain::new(Flag(AtomicBool::new(false)))).collect();
    // Each poll but the last has a waker of its own, which the next one replaces.
    for flag in &flags {
        let waker = Waker::from(flag.clone());
        if let Poll::Ready(value) = std::pin::Pin::new(&mut answer).poll(&mut Context::from_waker(&waker)) {
            return value;
        }
    }
    let last = flags.last().expect("there is one");
    while !last.0.load(Ordering::Acquire) {
        thread::yield_now();
    }
    let waker = Waker::from(last.clone());
    match std::pin::Pin::new(&mut answer).poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("woken without an answer"),
    }
}

#[test]
fn oneshot_answers_wake_whoever_waits() {
    for pokes in 0..2 {
        loom::model(move || {
            let drops = Plain::new(PlainUsize::new(0));
            let (reply, answer) = warpline_ring::oneshot::oneshot::<Item>();
            let item = Item(7, drops.clone());
            let sender = thread::spawn(move || reply.send(item));
            assert_eq!(wait_for(answer, pokes).map(|item| item.0), Some(7));
            sender.join().expect("the sender does not panic");
            assert_eq!(drops.load(SeqCst), 1);
        });
    }
}

#[test]
fn oneshot_tells_that_no_answer_will_come_and_that_none_is_wanted() {
    loom::model(|| {
        let (reply, answer) = warpline_ring::oneshot::oneshot::<usize>();
        let sender = thread::spawn(move || drop(reply));
        assert_eq!(wait_for(answer, 1), None);
        sender.join().expect("the sender does not panic");
    });
    loom::model(|| {
        let drops = Plain::new(PlainUsize::new(0));
        let (reply, answer) = warpline_ring::oneshot::oneshot::<Item>();
        let item = Item(1, drops.clone());
        let sender = thread::spawn(move || reply.send(item));
        drop(answer);
        sender.join().expect("the sender does not panic");
        assert_eq!(drops.load(SeqCst), 1);
    });
}

#[test]
fn progress_shows_what_was_done_before_it() {
    loom::model(|| {
        let progress = Arc::new(warpline_ring::Progress::new(2));
        let (mut producer, mut consumer) = spsc::channel::<usize>(2);
        let other = progress.clone();
        let member = thread::spawn(move || {
            producer.push(5).expect("there is room");
            other.raise(1, 3);
            producer
        });
        if progress.all_reached([0, 1].into_iter().skip(1), 3) {
            assert_eq!(consumer.pop(), Some(5), "what was pushed before the raise is in the ring");
        }
        assert_eq!(progress.of(0), 0);
        member.join().expect("the member does not panic");
    });
}

mod slots {
    //! The protocol by which slots move, with the production code of its steps.

    use super::*;
    use warpline_ring::Progress;
    use warpline_ring::partition::{Duty, Member, Plan, Point, Route, Table};

    /// What goes through the rings: a packet for a slot, or the state of one, which is the number of packets handled.
    enum Message {
        Packet(u16),
        Moved(u16, usize),
    }

    pub struct Worker {
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
        pub fn work(mut self, progress: &Progress, plan: &Plan) -> Worker {
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
    pub fn world(old: u16, new: u16, sockets: &[&[u16]]) -> (Vec<Worker>, Plan, Arc<Progress>, Arc<EpochCell<Plan>>) {
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
    pub fn check(old: u16, new: u16, sockets: &[&[u16]]) {
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
}

/// Explores for a limited time: all interleavings of so many threads take hours. What the search reaches first differs
/// from run to run by the speed of the machine alone.
fn for_a_while(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 20_000;
    model.max_duration = Some(std::time::Duration::from_secs(20));
    model.check(f);
}

#[test]
fn a_slot_moves_from_one_worker_to_another_with_packets_under_way() {
    bounded(2, || slots::check(1, 1, &[&[0], &[0]]));
}

#[test]
fn slots_move_from_two_workers_to_one_with_packets_under_way() {
    // Worker 0 has a packet for the other one's slot, and the new one is reached early.
    for_a_while(2, || slots::check(2, 1, &[&[1], &[], &[0]]));
}

#[test]
fn slots_move_from_three_workers_to_two_with_packets_under_way() {
    for_a_while(1, || slots::check(3, 2, &[&[1], &[], &[2], &[0], &[]]));
}
