//! What a fiber may do wrong: overflow its stack, or hold its thread.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;
use warpline_fiber::limits::GUARD_BYTES;
use warpline_fiber::{Baton, Builder, Config, HogConfig, Scheduler, StackClass, yield_now};

/// Runs one of the ignored tests of this file in a process of its own and returns its standard error.
fn in_child(test: &str) -> (std::process::ExitStatus, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[expect(unconditional_recursion, reason = "it is to overflow")]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 32]);
    recurse(depth + 1) + frame[7]
}

/// A frame that reaches from the middle of a stack to beyond its guard: only the compiler's probes, a touch per page from
/// the top, can find the guard before the memory below is written to, which is the next stack's.
#[inline(never)]
fn leaps<const BYTES: usize>() -> u8 {
    let mut frame = [0u8; BYTES];
    // The lowest byte: without probes this would be all that is touched.
    std::hint::black_box(&mut frame)[0] = 1;
    frame[0]
}

const SMALL_AND_GUARD: usize = (16 << 10) + GUARD_BYTES + 4096;
const MEDIUM_AND_GUARD: usize = (128 << 10) + GUARD_BYTES + 4096;
const LARGE_AND_GUARD: usize = (2 << 20) + GUARD_BYTES + 4096;

fn overflow(class: StackClass, body: impl FnOnce() + 'static) {
    let scheduler = Scheduler::new(Config::default()).unwrap();
    // The stack below is another fiber's, and mapped.
    let neighbour = scheduler.spawn_with(Builder::new().stack(class), || Baton::new().wait()).unwrap();
    scheduler.turn(10);
    scheduler.spawn_with(Builder::new().name("deep one").stack(class), body).unwrap().join().unwrap();
    drop(neighbour);
}

#[test]
#[ignore = "ends its process: run by a_stack_overflow_is_reported_with_the_fibers_name"]
fn child_overflow_small() {
    overflow(StackClass::Small, || assert!(recurse(0) > 0));
}

#[test]
#[ignore = "ends its process: run by a_stack_overflow_is_reported_with_the_fibers_name"]
fn child_overflow_medium() {
    overflow(StackClass::Medium, || assert!(recurse(0) > 0));
}

#[test]
#[ignore = "ends its process: run by a_stack_overflow_is_reported_with_the_fibers_name"]
fn child_overflow_large() {
    overflow(StackClass::Large, || assert!(recurse(0) > 0));
}

#[test]
#[ignore = "ends its process: run by a_frame_that_is_larger_than_the_guard_does_not_get_past_it"]
fn child_leap_small() {
    overflow(StackClass::Small, || assert!(leaps::<SMALL_AND_GUARD>() > 0));
}

#[test]
#[ignore = "ends its process: run by a_frame_that_is_larger_than_the_guard_does_not_get_past_it"]
fn child_leap_medium() {
    overflow(StackClass::Medium, || assert!(leaps::<MEDIUM_AND_GUARD>() > 0));
}

#[test]
#[ignore = "ends its process: run by a_frame_that_is_larger_than_the_guard_does_not_get_past_it"]
fn child_leap_large() {
    overflow(StackClass::Large, || assert!(leaps::<LARGE_AND_GUARD>() > 0));
}

#[test]
#[ignore = "ends its process: run by a_fiber_that_is_run_by_another_one_is_the_one_that_is_named"]
fn child_hosted() {
    let scheduler = Scheduler::new(Config::default()).unwrap();
    let deep = Builder::new().name("deep one");
    let deep = scheduler
        .spawn_with(deep, || {
            // Once every fiber has begun, those that wait run the others.
            (0..10).for_each(|_| yield_now());
            assert!(recurse(0) > 0)
        })
        .unwrap();
    let host = Builder::new().name("host");
    let host = scheduler.spawn_with(host, || (0..100).for_each(|_| yield_now())).unwrap();
    deep.join().unwrap();
    host.join().unwrap();
}

#[test]
#[ignore = "ends its process: run by other_faults_are_not_taken_for_overflows"]
fn child_fault() {
    let scheduler = Scheduler::new(Config::default()).unwrap();
    scheduler.run(|| {
        let nowhere = std::hint::black_box(8usize) as *const u32;
        // SAFETY: there is nothing safe about it: the fault is what the test is about.
        println!("{}", unsafe { nowhere.read_volatile() });
    });
}

#[test]
#[ignore = "ends its process: run by other_faults_are_not_taken_for_overflows"]
fn child_thread_overflow() {
    let _scheduler = Scheduler::new(Config::default()).unwrap();
    println!("{}", recurse(0));
}

/// Runs children that overflow, and wants each to name its fiber.
fn all_are_named(children: &[&str]) {
    use std::os::unix::process::ExitStatusExt as _;
    for child in children {
        let (status, text) = in_child(child);
        assert!(text.contains("fiber 'deep one' has overflowed its stack"), "{child}: {text}");
        assert_eq!(status.signal(), Some(6), "{child}: it aborts");
    }
}

#[test]
fn a_stack_overflow_is_reported_with_the_fibers_name() {
    all_are_named(&["child_overflow_small", "child_overflow_medium", "child_overflow_large"]);
}

#[test]
fn a_frame_that_is_larger_than_the_guard_does_not_get_past_it() {
    all_are_named(&["child_leap_small", "child_leap_medium", "child_leap_large"]);
}

#[test]
fn a_fiber_that_is_run_by_another_one_is_the_one_that_is_named() {
    all_are_named(&["child_hosted"]);
}

#[test]
fn other_faults_are_not_taken_for_overflows() {
    use std::os::unix::process::ExitStatusExt as _;
    let (status, text) = in_child("child_fault");
    assert!(!text.contains("overflowed"), "{text}");
    assert!(matches!(status.signal(), Some(7 | 11)), "the fault ends the process as ever: {status}");
    let (status, text) = in_child("child_thread_overflow");
    assert!(
        !text.contains("fiber '") && text.contains("has overflowed its stack"),
        "the standard library's report: {text}"
    );
    assert_eq!(status.signal(), Some(6));
}

#[inline(never)]
fn computes_for_ever(reported: &mpsc::Receiver<(String, Duration, String)>) -> (String, Duration, String) {
    loop {
        if let Ok(report) = reported.try_recv() {
            return report;
        }
    }
}

#[test]
fn a_fiber_that_holds_its_thread_is_named() {
    let (send, receive) = mpsc::channel();
    let limit = Duration::from_millis(40);
    let hog = HogConfig::new(limit).report(move |report| {
        // The test is over after the first one.
        let _ = send.send((report.name.clone(), report.held, report.backtrace.clone()));
    });
    let scheduler = Scheduler::new(Config { hog: Some(hog), ..Config::default() }).unwrap();
    let fiber = scheduler.spawn_with(Builder::new().name("glutton"), move || computes_for_ever(&receive)).unwrap();
    let (name, held, backtrace) = fiber.join().unwrap();
    assert_eq!(name, "glutton");
    assert!(held >= limit);
    assert!(backtrace.contains("computes_for_ever"), "{backtrace}");
}
