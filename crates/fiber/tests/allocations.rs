//! After warm-up nothing is allocated.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::cell::Cell;
use std::rc::Rc;
use warpline_fiber::{Baton, Scheduler, Wait, spawn, yield_now};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One round of everything that a fiber does.
fn round(ping: &Rc<Baton>, pong: &Rc<Baton>, sum: &Rc<Cell<u64>>) {
    for _ in 0..50 {
        let (ping, pong, sum) = (ping.clone(), pong.clone(), sum.clone());
        let echo = {
            let (ping, pong) = (ping.clone(), pong.clone());
            spawn(move || {
                ping.wait();
                pong.post();
                [1u64; 8]
            })
        };
        let caller = spawn(move || {
            ping.post();
            pong.wait();
            yield_now();
            sum.set(sum.get() + 1);
        });
        let dropped = spawn(yield_now);
        caller.join().unwrap();
        assert_eq!(echo.wait().unwrap(), [1; 8]);
        drop(dropped);
    }
}

#[test]
fn spawning_switching_waiting_and_joining_allocate_nothing_after_warm_up() {
    let scheduler = Scheduler::new(Default::default()).unwrap();
    let (changes, sum) = scheduler.run(|| {
        let (ping, pong, sum) = (Rc::default(), Rc::default(), Rc::new(Cell::new(0)));
        for _ in 0..4 {
            round(&ping, &pong, &sum);
        }
        let region = Region::new(GLOBAL);
        for _ in 0..2 {
            round(&ping, &pong, &sum);
        }
        (region.change(), sum.get())
    });
    assert_eq!(sum, 300);
    assert_eq!(changes.allocations + changes.reallocations, 0, "{changes:?}");
}
