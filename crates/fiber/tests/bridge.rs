//! Futures in fibers, fibers in futures, and other threads.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use warpline_fiber::{JoinError, RemoteError, Scheduler, Wait, limits, spawn, yield_now};

fn scheduler() -> Scheduler {
    Scheduler::new(Default::default()).unwrap()
}

/// Ready when somebody says so, from any thread.
#[derive(Clone, Default)]
struct Flag(Arc<(AtomicBool, Mutex<Option<Waker>>)>);

impl Flag {
    fn raise(&self) {
        self.0.0.store(true, Ordering::Release);
        if let Some(waker) = self.0.1.lock().unwrap().take() {
            waker.wake();
        }
    }
}

impl Future for Flag {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        *self.0.1.lock().unwrap() = Some(context.waker().clone());
        if self.0.0.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[test]
fn a_future_woken_on_the_same_thread_ends_the_wait() {
    let scheduler = scheduler();
    let flag = Flag::default();
    let waiter = {
        let flag = flag.clone();
        scheduler.spawn(move || flag.wait())
    };
    scheduler.turn(10);
    assert!(!waiter.is_finished());
    flag.raise();
    assert_eq!(scheduler.turn(10).ran, 1);
    waiter.join().unwrap();
}

#[test]
fn a_future_that_wakes_itself_lets_others_run() {
    let scheduler = scheduler();
    let order = Rc::new(Cell::new(0));
    let polls = scheduler.spawn(|| {
        let mut left = 3;
        poll_fn(|context| {
            left -= 1;
            context.waker().wake_by_ref();
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .wait();
    });
    let other = {
        let order = order.clone();
        scheduler.spawn(move || order.set(1))
    };
    scheduler.turn(2);
    assert!(other.is_finished() && !polls.is_finished());
    polls.join().unwrap();
}

#[test]
fn a_wake_up_taken_by_an_inner_wait_still_counts_for_the_outer_future() {
    let scheduler = scheduler();
    let flag = Flag::default();
    let waiter = {
        let flag = flag.clone();
        scheduler.spawn(move || {
            let mut inner_done = false;
            poll_fn(|context| {
                if Pin::new(&mut flag.clone()).poll(context).is_ready() {
                    return Poll::Ready(());
                }
                if !inner_done {
                    inner_done = true;
                    flag.raise();
                    yield_now();
                }
                Poll::Pending
            })
            .wait();
        })
    };
    waiter.join().unwrap();
}

#[test]
fn fibers_are_futures_for_block_on_and_for_each_other() {
    let scheduler = scheduler();
    let sum = scheduler.block_on(async {
        let first = spawn(|| async { 1 }.wait() + 1);
        let second = spawn(|| -> i32 { panic!("second") });
        let failed = second.await;
        assert!(matches!(failed, Err(JoinError::Panicked(_))));
        first.await.unwrap()
    });
    assert_eq!(sum, 2);
    let chained = scheduler.spawn(|| async { spawn(|| 20).await.unwrap() + 1 }.wait());
    assert_eq!(chained.join().unwrap(), 21);
}

#[test]
fn other_threads_wake_fibers_that_sleep() {
    let scheduler = scheduler();
    const FIBERS: usize = 200;
    let flags: Vec<Flag> = (0..FIBERS).map(|_| Flag::default()).collect();
    let handles: Vec<_> = flags.iter().cloned().map(|flag| scheduler.spawn(move || flag.wait())).collect();
    let threads: Vec<_> = flags
        .chunks(FIBERS / 4)
        .map(|part| {
            let part = part.to_vec();
            thread::spawn(move || part.iter().for_each(Flag::raise))
        })
        .collect();
    for handle in handles {
        handle.join().unwrap();
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Wakers are used while and after their fiber ends, and its cell gets the next fiber.
#[test]
fn wake_ups_that_come_while_the_fiber_finishes_are_harmless() {
    let scheduler = scheduler();
    let (send, receive) = mpsc::channel::<Waker>();
    let wakes = Arc::new(AtomicUsize::new(0));
    let thread = {
        let wakes = wakes.clone();
        thread::spawn(move || {
            for waker in receive {
                for _ in 0..3 {
                    waker.wake_by_ref();
                    wakes.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    };
    for round in 0..2_000u32 {
        let send = send.clone();
        let handle = scheduler.spawn(move || {
            let mut polls = 0;
            poll_fn(|context| {
                polls += 1;
                if polls == 1 {
                    send.send(context.waker().clone()).unwrap();
                }
                if polls == 1 && round % 2 == 0 { Poll::Pending } else { Poll::Ready(()) }
            })
            .wait();
            round
        });
        assert_eq!(handle.join().unwrap(), round);
    }
    drop(send);
    thread.join().unwrap();
    assert_eq!(wakes.load(Ordering::Relaxed), 6_000);
}

#[test]
fn closures_come_from_other_threads_up_to_the_limit() {
    let scheduler = scheduler();
    let remote = scheduler.remote();
    let ran = Arc::new(AtomicUsize::new(0));
    let sender = {
        let (remote, ran) = (remote.clone(), ran.clone());
        thread::spawn(move || {
            let mut sent = 0;
            let refused = loop {
                let ran = ran.clone();
                let count = move || {
                    ran.fetch_add(1, Ordering::Relaxed);
                };
                match remote.spawn(count) {
                    Ok(()) => sent += 1,
                    Err(error) => break error,
                }
            };
            (sent, refused)
        })
    };
    assert_eq!(sender.join().unwrap(), (limits::INJECTED_MAX, RemoteError::Full));
    while scheduler.turn(100).ran > 0 {}
    assert_eq!(ran.load(Ordering::Relaxed), limits::INJECTED_MAX);
    drop(scheduler);
    assert_eq!(remote.spawn(|| ()), Err(RemoteError::Gone));
}

#[test]
fn a_waker_outlives_its_scheduler() {
    let flag = Flag::default();
    {
        let scheduler = scheduler();
        let flag = flag.clone();
        scheduler.spawn(move || flag.wait()).detach();
        scheduler.turn(1);
    }
    flag.raise();
}
