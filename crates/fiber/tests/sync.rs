//! Channels, locks, permits and events, between fibers and async functions, with cancellation at every point.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use warpline_fiber::sync::{Closed, Event, Mutex, Semaphore, SendClosed, channel};
use warpline_fiber::{JoinError, Scheduler, Wait, spawn, yield_now};

fn scheduler() -> Scheduler {
    Scheduler::new(Default::default()).unwrap()
}

#[test]
fn messages_keep_their_order_and_a_full_channel_holds_up_its_senders() {
    scheduler().run(|| {
        let (send, receive) = channel(3);
        let sent = Rc::new(Cell::new(0));
        let count = sent.clone();
        let sender = spawn(move || {
            for message in 0..10 {
                send.send(message).wait().unwrap();
                count.set(message + 1);
            }
        });
        yield_now();
        assert_eq!((sent.get(), receive.len()), (3, 3));
        for message in 0..10 {
            assert_eq!(receive.recv().wait(), Ok(message));
        }
        sender.join().unwrap();
        assert_eq!(receive.recv().wait(), Err(Closed));
    });
}

#[test]
fn senders_learn_that_nobody_receives() {
    scheduler().run(|| {
        let (send, receive) = channel(1);
        send.send("in the channel").wait().unwrap();
        let waiting = spawn(move || send.send("waiting").wait());
        yield_now();
        drop(receive);
        assert_eq!(waiting.join().unwrap(), Err(SendClosed("waiting")));
    });
}

#[test]
fn each_message_goes_to_one_receiver_and_none_is_lost_when_receivers_are_cancelled() {
    scheduler().run(|| {
        let (send, receive) = channel(2);
        let got = Rc::new(RefCell::new(Vec::new()));
        let receivers: Vec<_> = (0..4)
            .map(|_| {
                let (receive, got) = (receive.clone(), got.clone());
                spawn(move || {
                    while let Ok(message) = receive.recv().wait() {
                        got.borrow_mut().push(message);
                    }
                })
            })
            .collect();
        yield_now();
        // All four wait. Two messages wake the first two, of which one is cancelled before it runs.
        send.send(0).wait().unwrap();
        send.send(1).wait().unwrap();
        receivers[0].cancel();
        receivers[2].cancel();
        for message in 2..20 {
            send.send(message).wait().unwrap();
        }
        drop(send);
        let ends: Vec<_> = receivers.into_iter().map(|receiver| receiver.join().is_ok()).collect();
        assert!(ends[1] && ends[3] && !ends[2], "{ends:?}");
        got.borrow_mut().sort_unstable();
        assert_eq!(*got.borrow(), (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn fibers_and_async_functions_meet_in_a_channel() {
    let scheduler = scheduler();
    let (send, receive) = channel(1);
    let fiber = scheduler.spawn(move || (0..100).for_each(|n| send.send(n).wait().unwrap()));
    let sum = scheduler.block_on(async move {
        let mut sum = 0;
        while let Ok(n) = receive.recv().await {
            sum += n;
        }
        sum
    });
    assert_eq!(sum, 4950);
    fiber.join().unwrap();
}

#[test]
fn a_lock_is_held_across_waits_and_passed_on_in_order() {
    let scheduler = scheduler();
    let log = Rc::new(Mutex::new(Vec::new()));
    let fibers: Vec<_> = (0..5)
        .map(|index| {
            let log = log.clone();
            scheduler.spawn(move || {
                let mut log = log.lock().wait();
                log.push(index);
                yield_now();
                log.push(index);
            })
        })
        .collect();
    for fiber in fibers {
        fiber.join().unwrap();
    }
    assert_eq!(*log.try_lock().unwrap(), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
}

#[test]
fn a_panic_and_a_cancellation_unlock() {
    let scheduler = scheduler();
    let lock = Rc::new(Mutex::new(()));
    let holder = {
        let lock = lock.clone();
        scheduler.spawn(move || {
            let _guard = lock.lock().wait();
            yield_now();
            panic!("with the lock");
        })
    };
    let [waiting, last] = [(), ()].map(|()| {
        let lock = lock.clone();
        scheduler.spawn(move || drop(lock.lock().wait()))
    });
    scheduler.turn(3);
    waiting.cancel();
    assert!(matches!(holder.join(), Err(JoinError::Panicked(_))));
    // The lock came first: cancelled, it has it, gives it back and ends.
    waiting.join().unwrap();
    last.join().unwrap();
    assert!(lock.try_lock().is_some());
}

#[test]
fn a_permit_given_to_a_cancelled_waiter_goes_to_the_next() {
    let scheduler = scheduler();
    let semaphore = Rc::new(Semaphore::new(0));
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let semaphore = semaphore.clone();
            scheduler.spawn(move || {
                let acquire = semaphore.acquire();
                acquire.wait().forget();
            })
        })
        .collect();
    scheduler.turn(3);
    // Cancelled while it waits, before and after the permit is there.
    waiters[0].cancel();
    scheduler.turn(1);
    semaphore.release();
    waiters[1].cancel();
    scheduler.turn(10);
    semaphore.release();
    scheduler.turn(10);
    let ends: Vec<_> = waiters.into_iter().map(|waiter| waiter.join().is_ok()).collect();
    // The permit came before the unwinding, so the second one has it.
    assert_eq!(ends, [false, true, true]);
    assert_eq!(semaphore.available(), 0);
    semaphore.release();
    assert_eq!(semaphore.available(), 1);
    drop(semaphore.try_acquire().unwrap());
    assert_eq!(semaphore.available(), 1);
}

#[test]
fn a_dropped_future_hands_its_permit_on() {
    let scheduler = scheduler();
    scheduler.block_on(async {
        let semaphore = Semaphore::new(0);
        let mut first = Box::pin(semaphore.acquire());
        let mut second = Box::pin(semaphore.acquire());
        std::future::poll_fn(|context| {
            assert!(first.as_mut().poll(context).is_pending() && second.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        semaphore.release();
        drop(first);
        second.await.forget();
    });
}

#[test]
fn an_event_releases_everybody_until_it_is_reset() {
    let scheduler = scheduler();
    let event = Rc::new(Event::new());
    let wait = || {
        let event = event.clone();
        scheduler.spawn(move || event.waiting().wait())
    };
    let early = [wait(), wait(), wait()];
    scheduler.turn(10);
    event.set();
    event.reset();
    early.into_iter().for_each(|fiber| fiber.join().unwrap());
    let late = wait();
    scheduler.turn(10);
    assert!(!late.is_finished());
    event.set();
    late.join().unwrap();
    wait().join().unwrap();
}
