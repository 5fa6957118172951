//! Whose turn it is: fibers that run others while they wait keep to order, budget and urgency, and so do their ends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::rc::Rc;
use warpline_fiber::{Baton, Config, JoinError, JoinHandle, Scheduler, Turn, spawn, yield_now};

type Log = Rc<RefCell<Vec<&'static str>>>;

fn scheduler() -> Scheduler {
    Scheduler::new(Config::default()).unwrap()
}

/// Two fibers that hand a baton to each other `rounds` times; the second one is started by the first.
fn hand_over(scheduler: &Scheduler, rounds: u32) -> JoinHandle<u32> {
    scheduler.spawn(move || {
        let (ping, pong) = (Rc::new(Baton::new()), Rc::new(Baton::new()));
        let other = {
            let (ping, pong) = (ping.clone(), pong.clone());
            spawn(move || {
                for _ in 0..rounds {
                    ping.wait();
                    pong.post();
                }
            })
        };
        for _ in 0..rounds {
            ping.post();
            pong.wait();
        }
        other.join().unwrap();
        rounds
    })
}

#[test]
fn fibers_that_hand_over_to_each_other_keep_to_the_budget() {
    let scheduler = scheduler();
    let pair = hand_over(&scheduler, 1000);
    for _ in 0..20 {
        assert!(matches!(scheduler.turn(7), Turn { ran: 7, ready: true, live: 2 }));
    }
    assert_eq!(scheduler.stats().switches, 140);
    assert_eq!(pair.join().unwrap(), 1000);
    assert!(scheduler.stats().switches >= 2000, "each hand-over is counted");
}

#[test]
fn a_fiber_that_becomes_urgent_goes_before_those_that_are_run_by_a_waiting_one() {
    let scheduler = scheduler();
    let (log, urgent) = (Log::default(), Rc::new(Baton::new()));
    let waiter = {
        let (log, urgent) = (log.clone(), urgent.clone());
        scheduler.spawn(move || {
            urgent.wait();
            log.borrow_mut().push("urgent");
        })
    };
    for name in ["a", "b", "c"] {
        let (log, urgent) = (log.clone(), urgent.clone());
        scheduler
            .spawn(move || {
                yield_now();
                log.borrow_mut().push(name);
                if name == "b" {
                    urgent.post_urgent();
                }
                yield_now();
                log.borrow_mut().push(name);
            })
            .detach();
    }
    waiter.join().unwrap();
    while scheduler.turn(100).ready {}
    assert_eq!(*log.borrow(), ["a", "b", "urgent", "c", "a", "b", "c"]);
}

#[test]
fn new_fibers_take_their_place_in_the_order() {
    let scheduler = scheduler();
    let log = Log::default();
    let body = |name: &'static str, log: &Log, then: Option<&'static str>| {
        let log = log.clone();
        move || {
            yield_now();
            log.borrow_mut().push(name);
            if let Some(child) = then {
                let log = log.clone();
                spawn(move || log.borrow_mut().push(child)).detach();
            }
            yield_now();
            log.borrow_mut().push(name);
        }
    };
    scheduler.spawn(body("a", &log, Some("new"))).detach();
    scheduler.spawn(body("b", &log, None)).detach();
    while scheduler.turn(100).ready {}
    assert_eq!(*log.borrow(), ["a", "b", "new", "a", "b"]);
}

#[test]
fn a_fiber_may_end_panic_or_be_cancelled_while_a_waiting_one_runs_it() {
    let scheduler = scheduler();
    let outcome = scheduler.run(|| {
        let starts = Rc::new(Baton::new());
        let ends: Vec<_> = ["returns", "panics", "is cancelled"]
            .map(|end| {
                let starts = starts.clone();
                spawn(move || {
                    // From the second turn on it is run by the fiber that waits for it.
                    yield_now();
                    yield_now();
                    match end {
                        "returns" => {}
                        "panics" => std::panic::resume_unwind(Box::new("on purpose")),
                        _ => starts.wait(),
                    }
                    end
                })
            })
            .into();
        (0..10).for_each(|_| yield_now());
        ends[2].cancel();
        ends.into_iter().map(JoinHandle::join).collect::<Vec<_>>()
    });
    assert!(matches!(outcome[0], Ok("returns")));
    assert!(matches!(&outcome[1], Err(JoinError::Panicked(panic)) if panic.is::<&str>()));
    assert!(matches!(outcome[2], Err(JoinError::Cancelled)));
    let stats = scheduler.stats();
    assert_eq!((stats.live, stats.panics), (0, 1));
    assert_eq!(stats.stacks[1].in_use, 0, "every stack came back");
    assert_eq!(hand_over(&scheduler, 10).join().unwrap(), 10, "the stacks serve again");
    assert_eq!(scheduler.stats().stacks[1].mapped, stats.stacks[1].mapped);
}

#[test]
fn a_fiber_that_runs_others_while_it_waits_can_be_cancelled_by_them() {
    let scheduler = scheduler();
    let log = Log::default();
    let waiter = {
        let log = log.clone();
        scheduler.spawn(move || {
            struct Left(Log);
            impl Drop for Left {
                fn drop(&mut self) {
                    self.0.borrow_mut().push("left");
                }
            }
            let _left = Left(log);
            yield_now();
            Baton::new().wait();
        })
    };
    let canceller = scheduler.spawn(move || {
        (0..5).for_each(|_| yield_now());
        waiter.cancel();
        waiter.join()
    });
    assert!(matches!(canceller.join().unwrap(), Err(JoinError::Cancelled)));
    assert_eq!(*log.borrow(), ["left"]);
}

#[test]
fn the_panic_of_a_fiber_that_nobody_joins_is_counted() {
    let scheduler = scheduler();
    scheduler.spawn(|| std::panic::resume_unwind(Box::new("on purpose"))).detach();
    while scheduler.turn(10).ready {}
    assert_eq!((scheduler.stats().panics, scheduler.stats().live), (1, 0));
}

/// Completions of I/O go first, and leave the others one place after so many of theirs.
#[test]
fn what_is_urgent_leaves_room_for_the_rest() {
    let scheduler = scheduler();
    let log = Log::default();
    // `limits::IO_SHARE`, one place in nine.
    let share = 8;
    let gates: Vec<_> = (0..2 * share + 1).map(|_| Rc::new(Baton::new())).collect();
    for gate in &gates {
        let (log, gate) = (log.clone(), gate.clone());
        scheduler
            .spawn(move || {
                gate.wait();
                log.borrow_mut().push("urgent");
            })
            .detach();
    }
    while scheduler.turn(100).ready {}
    for name in ["a", "b", "c"] {
        let log = log.clone();
        scheduler.spawn(move || log.borrow_mut().push(name)).detach();
    }
    for gate in &gates {
        gate.post_urgent();
    }
    while scheduler.turn(100).ready {}
    let block = |last| std::iter::repeat_n("urgent", share).chain([last]);
    let expected: Vec<_> = block("a").chain(block("b")).chain(["urgent", "c"]).collect();
    assert_eq!(*log.borrow(), expected);
}
