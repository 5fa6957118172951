//! Timers on a clock that the tests move, and two that check that the thread really sleeps.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use warpline_fiber::sync::channel;
use warpline_fiber::time::{Elapsed, Instant, Interval, ManualClock, every, now, once, sleep, sleep_precise, timeout};
use warpline_fiber::{Config, Scheduler, Wait};

const MS: Duration = Duration::from_millis(1);

fn with_clock() -> (Scheduler, ManualClock) {
    let clock = ManualClock::default();
    (Scheduler::new(Config { clock: clock.clock(), ..Config::default() }).unwrap(), clock)
}

/// Moves the clock on in steps and runs what is ready.
fn run_for(scheduler: &Scheduler, clock: &ManualClock, duration: Duration, step: Duration) {
    let end = scheduler.now() + duration;
    while scheduler.now() < end {
        clock.advance(step);
        while scheduler.turn(1000).ready {}
    }
}

#[test]
fn sleeps_end_in_the_order_of_their_times_never_early_and_at_most_a_tick_late() {
    let (scheduler, clock) = with_clock();
    let ended = Rc::new(RefCell::new(Vec::new()));
    for length in [70, 3, 3000, 25, 1, 400] {
        let ended = ended.clone();
        scheduler
            .spawn(move || {
                let start = now();
                if length == 25 {
                    sleep_precise(length * MS)
                } else {
                    sleep(length * MS)
                }
                ended.borrow_mut().push((length, now() - start));
            })
            .detach();
    }
    scheduler.turn(10);
    assert_eq!(scheduler.stats().timers, 6);
    let step = Duration::from_micros(10);
    run_for(&scheduler, &clock, 3001 * MS, step);
    let ended = ended.borrow();
    assert_eq!(ended.iter().map(|end| end.0).collect::<Vec<_>>(), [1, 3, 25, 70, 400, 3000]);
    let tick = Duration::from_nanos(1 << warpline_fiber::limits::TICK_BITS);
    for &(length, slept) in ended.iter() {
        assert!(slept >= length * MS, "{length} ms were {slept:?}");
        let late = slept - length * MS;
        assert!(late <= step + if length == 25 { Duration::ZERO } else { tick }, "{length} ms were {slept:?}");
    }
    assert_eq!(scheduler.stats().timers, 0);
    assert_eq!(scheduler.next_deadline(), None);
}

#[test]
fn callbacks_repeat_without_drift_skip_what_was_missed_and_can_be_cancelled_from_within() {
    let (scheduler, clock) = with_clock();
    let (ticks, onces) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (count, once_count) = (ticks.clone(), onces.clone());
    let handle = Rc::new(Cell::new(None));
    let own = handle.clone();
    let timer = every(10 * MS, move || {
        count.set(count.get() + 1);
        if count.get() == 12 {
            let own: warpline_fiber::time::TimerHandle = own.get().unwrap();
            own.cancel();
        }
    });
    handle.set(Some(timer));
    once(15 * MS, move || once_count.set(once_count.get() + 1));
    once(15 * MS, || panic!("ends its timer only"));
    once(15 * MS, || ()).cancel();
    run_for(&scheduler, &clock, 105 * MS, MS);
    assert_eq!((ticks.get(), onces.get()), (10, 1));
    run_for(&scheduler, &clock, 100 * MS, 100 * MS);
    assert_eq!(ticks.get(), 11, "ten periods in one step are one call");
    run_for(&scheduler, &clock, 100 * MS, MS);
    assert_eq!(ticks.get(), 12, "cancelled in its own callback");
    assert_eq!(scheduler.stats().timers, 0);
}

#[test]
fn a_timeout_drops_what_was_not_ready_and_leaves_no_timer() {
    let (scheduler, clock) = with_clock();
    let (send, receive) = channel(1);
    let fiber = scheduler.spawn(move || {
        let first = timeout(5 * MS, receive.recv());
        let second = timeout(5 * MS, receive.recv());
        (first, second, now())
    });
    scheduler.turn(10);
    run_for(&scheduler, &clock, 6 * MS, MS);
    scheduler.spawn(move || send.send(8).wait().unwrap()).detach();
    let (first, second, _) = fiber.join().unwrap();
    assert_eq!((first, second), (Err(Elapsed), Ok(Ok(8))));
    assert_eq!(scheduler.stats().timers, 0);
}

#[test]
fn an_interval_skips_ticks_that_nobody_waited_for() {
    let (scheduler, clock) = with_clock();
    let fiber = scheduler.spawn(|| {
        let mut interval = Interval::new(10 * MS);
        let first = interval.tick();
        sleep(35 * MS);
        [first, interval.tick(), interval.tick()]
    });
    scheduler.turn(1);
    run_for(&scheduler, &clock, 100 * MS, MS);
    let due = fiber.join().unwrap().map(Instant::as_nanos);
    assert_eq!(due, [10_000_000, 20_000_000, 50_000_000]);
}

#[test]
fn cancelled_sleeps_take_their_timers_along_by_the_thousands() {
    let (scheduler, _clock) = with_clock();
    for round in 0..3 {
        let fibers: Vec<_> = (0..5000u32)
            .map(|index| {
                scheduler
                    .spawn(move || if index % 2 == 0 { sleep(index * MS) } else { sleep_precise((index + 1) * MS) })
            })
            .collect();
        while scheduler.turn(1000).ready {}
        assert_eq!(scheduler.stats().timers, 4999, "round {round}: one did not sleep at all");
        fibers.iter().for_each(|fiber| fiber.cancel());
        fibers.into_iter().for_each(|fiber| drop(fiber.join()));
        assert_eq!(scheduler.stats().timers, 0);
    }
    assert_eq!(scheduler.next_deadline(), None);
}

#[test]
fn on_the_real_clock_the_thread_sleeps_until_the_timer() {
    let scheduler = Scheduler::new(Config::default()).unwrap();
    let slept = scheduler.run(|| {
        let start = now();
        sleep(20 * MS);
        sleep_precise(20 * MS);
        now() - start
    });
    assert!(slept >= 40 * MS, "{slept:?}");
    let switches = scheduler.stats().switches;
    assert!(switches < 50, "it slept and did not spin: {switches} switches");
}
