//! What tells others something: doorbells, counters, tables and their epochs, progress.

use std::sync::Arc as Plain;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;
use warpline_ring::{Counters, Doorbell, EpochCell, EpochReader, WakeSet, spsc};

use crate::bounded;

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
        let mut reader = EpochReader::new(&cell);
        let other = cell.clone();
        let publisher = thread::spawn(move || {
            for value in 1..=2 {
                assert_eq!(other.publish(Plain::new(value)), value);
            }
        });
        let before = reader.epoch();
        let changed = reader.refresh();
        assert_eq!(changed, reader.epoch() > before);
        assert_eq!(**reader.table(), reader.epoch());
        publisher.join().expect("the publisher does not panic");
        reader.refresh();
        assert_eq!((**reader.table(), reader.epoch()), (2, 2));
        // Another reader begins where things are, and nothing is kept: loom counts what is left.
        assert_eq!(EpochReader::new(&cell).epoch(), 2);
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
