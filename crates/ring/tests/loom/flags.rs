//! One bit, in each of its uses.

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Notify};
use loom::thread;
use warpline_ring::mailbox::{SendError, mailbox};
use warpline_ring::{Doorbell, Flag, spsc};

use crate::bounded;

/// A worker's bell, and its sleep.
fn bell() -> (Arc<Doorbell<impl Fn() + Send + Sync>>, Arc<Notify>) {
    let sleep = Arc::new(Notify::new());
    let notify = sleep.clone();
    (Arc::new(Doorbell::new(move || notify.notify())), sleep)
}

/// Looks until there is nothing more to wait for, and sleeps in between.
fn work(bell: &Doorbell<impl Fn() + Send + Sync>, sleep: &Notify, mut look: impl FnMut() -> bool) {
    loop {
        bell.take();
        if look() {
            return;
        }
        if bell.prepare_sleep() {
            sleep.wait();
            bell.wake();
        }
    }
}

/// A task that is woken by two threads: only the first to find it not queued queues it, and the poll sees what both did.
#[test]
fn a_task_is_queued_once_and_its_poll_sees_what_every_waker_did() {
    bounded(3, || {
        let (bell, sleep) = bell();
        let shared = Arc::new((Flag::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]));
        let (wakes, mut inbox) = mailbox(1);
        let threads = [0, 1].map(|me| {
            let (bell, shared, wakes) = (bell.clone(), shared.clone(), wakes.clone());
            thread::spawn(move || {
                shared.1[me].store(1, Ordering::Relaxed);
                if shared.0.raise() && wakes.send(()).expect("a task is queued once") {
                    bell.ring();
                }
            })
        });
        let mut seen = 0;
        work(&bell, &sleep, || {
            for () in inbox.drain() {
                shared.0.take();
                seen = shared.1.iter().map(|done| done.load(Ordering::Relaxed)).sum();
            }
            seen == 2
        });
        for thread in threads {
            thread.join().expect("it does not panic");
        }
    });
}

/// Wake-ups that do not fit into the mailbox: the worker polls all tasks.
#[test]
fn wake_ups_that_do_not_fit_are_not_lost() {
    bounded(2, || {
        let (bell, sleep) = bell();
        let shared = Arc::new((Flag::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]));
        let (wakes, mut inbox) = mailbox(1);
        let threads = [0, 1].map(|me| {
            let (bell, shared, wakes) = (bell.clone(), shared.clone(), wakes.clone());
            thread::spawn(move || {
                shared.1[me].store(1, Ordering::Relaxed);
                match wakes.send(me) {
                    Ok(true) => bell.ring(),
                    Ok(false) => {}
                    Err(SendError::Full(_)) => {
                        shared.0.raise();
                        bell.ring();
                    }
                    Err(SendError::Closed(_)) => panic!("the worker is there"),
                }
            })
        });
        let mut seen = [0; 2];
        work(&bell, &sleep, || {
            for task in inbox.drain() {
                seen[task] = shared.1[task].load(Ordering::Relaxed);
            }
            if shared.0.take_if_seen() {
                seen = [0, 1].map(|task| shared.1[task].load(Ordering::Relaxed));
            }
            seen == [1, 1]
        });
        for thread in threads {
            thread.join().expect("it does not panic");
        }
    });
}

/// The future that a thread's scheduler runs, woken by another thread while that is about to sleep.
#[test]
fn what_a_flag_behind_a_bell_says_is_never_slept_on() {
    bounded(3, || {
        let (bell, sleep) = bell();
        let shared = Arc::new((Flag::new(true), AtomicUsize::new(0)));
        let threads = [(), ()].map(|()| {
            let (bell, shared) = (bell.clone(), shared.clone());
            thread::spawn(move || {
                shared.1.fetch_add(1, Ordering::Relaxed);
                shared.0.raise();
                bell.ring();
            })
        });
        work(&bell, &sleep, || shared.0.take_if_seen() && shared.1.load(Ordering::Relaxed) == 2);
        for thread in threads {
            thread.join().expect("it does not panic");
        }
    });
}

/// One who waits for frames says so and looks once more; who gives a frame looks afterwards whether somebody waits.
#[test]
fn who_asks_and_who_gives_do_not_miss_each_other() {
    loom::model(|| {
        let (mut give, mut supply) = spsc::channel::<usize>(1);
        let shared = Arc::new((Flag::new(false), Notify::new()));
        let giver = shared.clone();
        let owner = thread::spawn(move || {
            give.push(5).expect("there is room");
            if giver.0.take() {
                giver.1.notify();
            }
        });
        if supply.pop().is_none() {
            shared.0.raise();
            // A look that finds nothing sleeps, which for ever would be a deadlock.
            while supply.pop().is_none() {
                shared.1.wait();
            }
        }
        owner.join().expect("it does not panic");
    });
}
