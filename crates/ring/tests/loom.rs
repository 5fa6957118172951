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
