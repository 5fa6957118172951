//! Queues: rings, mailboxes, and answers to one question.

use std::sync::Arc as Plain;
use std::sync::atomic::AtomicUsize as PlainUsize;
use std::sync::atomic::Ordering::SeqCst;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use warpline_ring::mailbox::{SendError, mailbox};
use warpline_ring::spsc;

use crate::bounded;

/// Counts its drops, so that a lost or doubled item shows.
struct Item(usize, Plain<PlainUsize>);

impl Drop for Item {
    fn drop(&mut self) {
        self.1.fetch_add(1, SeqCst);
    }
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
