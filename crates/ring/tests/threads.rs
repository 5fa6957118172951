//! The structures between real threads, with more items than a model can hold.
#![cfg(not(loom))]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use warpline_ring::mailbox::{SendError, mailbox};
use warpline_ring::{CachePadded, Counters, Doorbell, EpochCell, EpochReader, WaitList, spsc};

#[test]
fn spsc_carries_a_stream_in_order() {
    const ITEMS: usize = if cfg!(miri) { 500 } else { 200_000 };
    let (mut producer, mut consumer) = spsc::channel::<Box<usize>>(60);
    assert_eq!(producer.capacity(), 64);
    let sender = thread::spawn(move || {
        let mut items = (0..ITEMS).map(Box::new).peekable();
        while items.peek().is_some() {
            if producer.push_batch(&mut items.by_ref().take(17)) == 0 {
                thread::yield_now();
            }
        }
    });
    let mut out = Vec::new();
    let mut expected = 0;
    while expected < ITEMS {
        if consumer.pop_batch(&mut out, 23) == 0 {
            thread::yield_now();
        }
        for item in out.drain(..) {
            assert_eq!(*item, expected);
            expected += 1;
        }
    }
    sender.join().unwrap();
    assert!(consumer.is_empty());
}

#[test]
fn spsc_gives_back_what_does_not_fit_and_drops_what_is_left() {
    let item = Arc::new(());
    let (mut producer, consumer) = spsc::channel(2);
    assert!(producer.push(item.clone()).is_ok() && producer.push(item.clone()).is_ok());
    let full = producer.push(item.clone()).unwrap_err();
    drop(full);
    let mut more = std::iter::repeat_n(item.clone(), 5);
    assert_eq!(producer.push_batch(&mut more), 0);
    assert_eq!(more.len(), 5, "an item that does not fit stays with the caller");
    drop((producer, consumer, more));
    assert_eq!(Arc::strong_count(&item), 1);
}

#[test]
fn mailbox_under_contention_loses_nothing() {
    const SENDERS: usize = 3;
    const EACH: usize = if cfg!(miri) { 100 } else { 30_000 };
    let (sender, mut receiver) = mailbox::<(usize, usize)>(16);
    let threads: Vec<_> = (0..SENDERS)
        .map(|who| {
            let sender = sender.clone();
            thread::spawn(move || {
                for n in 0..EACH {
                    while sender.send((who, n)).is_err() {
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let mut next = [0; SENDERS];
    while next != [EACH; SENDERS] {
        for (who, n) in receiver.drain() {
            assert_eq!(n, next[who], "messages of one sender stay in order");
            next[who] += 1;
        }
        thread::yield_now();
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn mailbox_is_bounded_and_says_why_it_refuses() {
    let (sender, mut receiver) = mailbox::<u32>(2);
    assert_eq!(sender.send(1), Ok(true));
    assert_eq!(sender.send(2), Ok(false));
    assert_eq!(sender.send(3), Err(SendError::Full(3)));
    let mut drain = receiver.drain();
    assert_eq!(drain.next(), Some(1));
    assert_eq!(sender.send(4), Ok(true), "a slot is free as soon as its message is out");
    drop(drain);
    assert_eq!(receiver.drain().collect::<Vec<_>>(), [4], "what a drain leaves is dropped, what came later is kept");
    drop(receiver);
    let refused = sender.send(5).unwrap_err();
    assert_eq!(refused.to_string(), "nobody receives from the mailbox any more");
    assert_eq!(refused.into_inner(), 5);
}

#[test]
fn doorbell_notifies_only_a_sleeper() {
    let notified = Arc::new(AtomicUsize::new(0));
    let counter = notified.clone();
    let bell = Doorbell::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    bell.ring();
    bell.ring();
    assert!(bell.take() && !bell.take());
    assert_eq!(notified.load(Ordering::Relaxed), 0);
    assert!(bell.prepare_sleep());
    bell.ring();
    bell.ring();
    assert_eq!(notified.load(Ordering::Relaxed), 1);
    assert!(bell.wake());
    bell.ring();
    assert!(!bell.prepare_sleep(), "a ring before the sleep forbids it");
    assert!(bell.prepare_sleep());
    assert!(!bell.wake());
}

#[test]
fn counters_add_up_over_workers() {
    let workers: Vec<Counters<3>> = (0..2).map(|_| Counters::new()).collect();
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        for worker in &workers {
            scope.spawn(|| {
                barrier.wait();
                for n in 0..1_000 {
                    worker.add(n % 3, 1);
                }
            });
        }
    });
    assert_eq!(Counters::sum(&workers), [668, 666, 666]);
    assert_eq!(align_of::<CachePadded<u8>>(), 128);
}

#[test]
fn readers_follow_publications() {
    let cell = EpochCell::new(Arc::new(0u64));
    thread::scope(|scope| {
        for _ in 0..2 {
            let mut reader = EpochReader::new(&cell);
            scope.spawn(move || {
                while **reader.table() < 1_000 {
                    let before = reader.epoch();
                    assert_eq!(reader.refresh(), reader.epoch() > before);
                    assert_eq!(**reader.table(), reader.epoch());
                }
            });
        }
        for value in 1..=1_000 {
            cell.publish(Arc::new(value));
        }
    });
    assert_eq!(EpochReader::new(&cell).epoch(), 1_000);
}

#[test]
fn versions_that_nobody_reads_are_freed_however_many_there_are() {
    const VERSIONS: usize = if cfg!(miri) { 100 } else { 50_000 };
    let table = Arc::new(());
    let cell = EpochCell::new(Arc::clone(&table));
    let behind = EpochReader::new(&cell);
    for _ in 0..VERSIONS {
        cell.publish(Arc::clone(&table));
    }
    let mut reader = EpochReader::new(&cell);
    assert!(!reader.refresh());
    assert_eq!(Arc::strong_count(&table), 1 + VERSIONS + 1, "a reader may still go along all of them");
    drop(behind);
    assert_eq!(Arc::strong_count(&table), 2);
    drop((reader, cell));
    assert_eq!(Arc::strong_count(&table), 1);
}

#[test]
fn wait_lists_lose_no_notification() {
    const ROUNDS: usize = if cfg!(miri) { 30 } else { 5_000 };
    struct Thread(thread::Thread);
    impl std::task::Wake for Thread {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let shared = Arc::new((WaitList::default(), AtomicUsize::new(0)));
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let shared = shared.clone();
            thread::spawn(move || {
                let waker = std::task::Waker::from(Arc::new(Thread(thread::current())));
                for round in 1..=ROUNDS {
                    let there = || (shared.1.load(Ordering::Relaxed) >= round).then_some(());
                    while shared.0.poll(&waker, there).is_pending() {
                        thread::park();
                    }
                }
            })
        })
        .collect();
    for _ in 0..ROUNDS {
        shared.1.fetch_add(1, Ordering::Relaxed);
        shared.0.notify();
    }
    waiters.into_iter().for_each(|waiter| waiter.join().expect("every waiter sees every round"));
}
