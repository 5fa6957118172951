//! Cancellation of a fiber in every state that it can be in, and the end of a scheduler.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use warpline_fiber::{Baton, JoinError, Scheduler, check_cancelled, is_cancelled, shield, spawn, yield_now};

fn scheduler() -> Scheduler {
    Scheduler::new(Default::default()).unwrap()
}

/// Notes when it is dropped.
struct Noted(Rc<Cell<u32>>);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

fn assert_cancelled<T: std::fmt::Debug>(result: Result<T, JoinError>) {
    assert!(matches!(result, Err(JoinError::Cancelled)), "{result:?}");
}

#[test]
fn before_it_ran_the_closure_is_dropped_and_no_stack_is_taken() {
    let (scheduler, drops) = (scheduler(), Rc::new(Cell::new(0)));
    let noted = Noted(drops.clone());
    let handle = scheduler.spawn(move || drop(noted));
    handle.cancel();
    assert_cancelled(handle.join());
    assert_eq!(drops.get(), 1);
    assert_eq!(scheduler.stats().stacks[1].mapped, 0);
}

#[test]
fn parked_the_stack_is_unwound_and_the_baton_is_as_new() {
    let (scheduler, drops, baton) = (scheduler(), Rc::new(Cell::new(0)), Rc::new(Baton::new()));
    let body = |baton: Rc<Baton>, noted: Noted| {
        move || {
            let _noted = noted;
            baton.wait();
        }
    };
    let handle = scheduler.spawn(body(baton.clone(), Noted(drops.clone())));
    scheduler.turn(1);
    handle.cancel();
    assert_cancelled(handle.join());
    assert_eq!(drops.get(), 1);
    let second = scheduler.spawn(body(baton.clone(), Noted(drops.clone())));
    scheduler.turn(1);
    baton.post();
    second.join().unwrap();
    assert_eq!(drops.get(), 2);
}

#[test]
fn a_post_that_comes_before_the_unwinding_wins_and_the_next_wait_unwinds() {
    let (scheduler, baton, reached) = (scheduler(), Rc::new(Baton::new()), Rc::new(Cell::new(0)));
    let handle = {
        let (baton, reached) = (baton.clone(), reached.clone());
        scheduler.spawn(move || {
            baton.wait();
            reached.set(1);
            baton.wait();
            reached.set(2);
        })
    };
    scheduler.turn(1);
    handle.cancel();
    baton.post();
    assert_cancelled(handle.join());
    assert_eq!(reached.get(), 1);
}

#[test]
fn ready_it_unwinds_at_its_next_wait() {
    let (scheduler, steps) = (scheduler(), Rc::new(Cell::new(0)));
    let handle = {
        let steps = steps.clone();
        scheduler.spawn(move || {
            loop {
                steps.set(steps.get() + 1);
                yield_now();
            }
        })
    };
    scheduler.turn(3);
    handle.cancel();
    assert_cancelled(handle.join());
    assert_eq!(steps.get(), 4, "the yield that was under way returns; the next one unwinds");
}

#[test]
fn running_it_sees_the_flag() {
    let scheduler = scheduler();
    let own: Rc<RefCell<Option<warpline_fiber::JoinHandle<()>>>> = Rc::default();
    let handle = {
        let own = own.clone();
        scheduler.spawn(move || {
            assert!(!is_cancelled());
            check_cancelled();
            own.borrow().as_ref().unwrap().cancel();
            assert!(is_cancelled());
            check_cancelled();
            unreachable!("the check unwinds");
        })
    };
    *own.borrow_mut() = Some(handle);
    scheduler.turn(1);
    let handle = own.borrow_mut().take().unwrap();
    assert_cancelled(handle.join());
}

#[test]
fn joining_the_joined_fiber_goes_on() {
    let (scheduler, baton) = (scheduler(), Rc::new(Baton::new()));
    let done = Rc::new(Cell::new(false));
    let joiner = {
        let (baton, done) = (baton.clone(), done.clone());
        scheduler.spawn(move || {
            let inner = spawn(move || {
                baton.wait();
                done.set(true);
            });
            inner.join().unwrap();
        })
    };
    scheduler.turn(2);
    joiner.cancel();
    assert_cancelled(joiner.join());
    baton.post();
    scheduler.turn(10);
    assert!(done.get());
}

#[test]
fn finished_nothing_happens() {
    let scheduler = scheduler();
    let handle = scheduler.spawn(|| 5);
    scheduler.turn(1);
    handle.cancel();
    assert_eq!(handle.join().unwrap(), 5);
}

#[test]
fn shielded_it_waits_on_and_unwinds_afterwards() {
    let (scheduler, baton, reached) = (scheduler(), Rc::new(Baton::new()), Rc::new(Cell::new(0)));
    let handle = {
        let (baton, reached) = (baton.clone(), reached.clone());
        scheduler.spawn(move || {
            shield(|| {
                shield(yield_now);
                baton.wait();
                reached.set(1);
            });
            yield_now();
            reached.set(2);
        })
    };
    scheduler.turn(10);
    handle.cancel();
    scheduler.turn(10);
    assert!(!handle.is_finished());
    baton.post();
    assert_cancelled(handle.join());
    assert_eq!(reached.get(), 1);
}

#[test]
fn caught_it_is_cancelled_again_at_the_next_wait() {
    let scheduler = scheduler();
    let caught = Rc::new(Cell::new(0));
    let handle = {
        let caught = caught.clone();
        scheduler.spawn(move || {
            for _ in 0..3 {
                if catch_unwind(AssertUnwindSafe(yield_now)).is_err() {
                    caught.set(caught.get() + 1);
                }
            }
            yield_now();
        })
    };
    scheduler.turn(1);
    handle.cancel();
    assert_cancelled(handle.join());
    assert_eq!(caught.get(), 2);
}

/// Waits in its destructor, as a guard that hands something back would.
struct WaitsInDrop(Rc<Baton>, Rc<Cell<u32>>);

impl Drop for WaitsInDrop {
    fn drop(&mut self) {
        self.0.wait();
        self.1.set(self.1.get() + 1);
    }
}

#[test]
fn destructors_may_wait_while_others_are_cancelled() {
    let (scheduler, drops) = (scheduler(), Rc::new(Cell::new(0)));
    let gates = [Rc::new(Baton::new()), Rc::new(Baton::new())];
    let fibers: Vec<_> = gates
        .iter()
        .map(|gate| {
            let guard = WaitsInDrop(gate.clone(), drops.clone());
            scheduler.spawn(move || {
                let _guard = guard;
                Baton::new().wait();
            })
        })
        .collect();
    let plain = scheduler.spawn(|| Baton::new().wait());
    scheduler.turn(10);
    fibers[0].cancel();
    scheduler.turn(10);
    // The first fiber is parked in the middle of its unwinding now.
    fibers[1].cancel();
    plain.cancel();
    scheduler.turn(10);
    assert_eq!(drops.get(), 0);
    for gate in &gates {
        gate.post();
    }
    for fiber in fibers {
        assert_cancelled(fiber.join());
    }
    assert_cancelled(plain.join());
    assert_eq!(drops.get(), 2);
}

#[test]
fn a_cancellation_that_an_unwinding_held_back_comes_when_that_is_caught() {
    let (scheduler, drops) = (scheduler(), Rc::new(Cell::new(0)));
    let (gate, more) = (Rc::new(Baton::new()), Rc::new(Baton::new()));
    let catches = {
        let (guard, more) = (WaitsInDrop(gate.clone(), drops.clone()), more.clone());
        scheduler.spawn(move || {
            let unwound = catch_unwind(AssertUnwindSafe(move || {
                let _guard = guard;
                std::panic::resume_unwind(Box::new("caught"));
            }));
            assert!(unwound.is_err());
            more.wait();
        })
    };
    let plain = scheduler.spawn(|| Baton::new().wait());
    scheduler.turn(10);
    plain.cancel();
    scheduler.turn(10);
    assert!(!plain.is_finished(), "the thread unwinds, so it cannot be told whether this fiber does");
    gate.post();
    // The first fiber catches its panic and waits on: nothing else happens that could tell of it.
    scheduler.turn(10);
    scheduler.turn(10);
    assert_eq!(drops.get(), 1);
    assert!(plain.is_finished(), "nothing unwinds any more");
    assert_cancelled(plain.join());
    more.post();
    catches.join().unwrap();
}

#[test]
fn the_end_of_the_scheduler_unwinds_all_fibers() {
    let drops = Rc::new(Cell::new(0));
    let kept = {
        let scheduler = scheduler();
        for index in 0..100 {
            let noted = Noted(drops.clone());
            let body = move || {
                let _noted = noted;
                if index % 2 == 0 {
                    // What ends may start something new.
                    let _again = AtDrop;
                    Baton::new().wait();
                }
                loop {
                    yield_now();
                }
            };
            scheduler.spawn(body).detach();
        }
        scheduler.turn(50);
        scheduler.spawn(|| Baton::new().wait())
    };
    assert_eq!(drops.get(), 100);
    assert_cancelled(kept.join());

    struct AtDrop;
    impl Drop for AtDrop {
        fn drop(&mut self) {
            spawn(|| Baton::new().wait()).detach();
        }
    }
}

#[test]
fn a_fiber_that_cannot_end_is_leaked_with_its_memory() {
    let counted = Rc::new(());
    {
        let scheduler = scheduler();
        let inner = counted.clone();
        scheduler
            .spawn(move || {
                let _inner = inner;
                shield(|| Baton::new().wait());
            })
            .detach();
        scheduler.turn(1);
    }
    assert_eq!(Rc::strong_count(&counted), 2);
    // The thread can have a new scheduler.
    assert_eq!(scheduler().run(|| 1), 1);
}
