//! What a fiber may do wrong: overflow its stack, or hold its thread.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;
use warpline_fiber::{Builder, Config, HogConfig, Scheduler, StackClass};

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

#[test]
#[ignore = "ends its process: run by a_stack_overflow_is_reported_with_the_fibers_name"]
fn child_overflow() {
    let scheduler = Scheduler::new(Config::default()).unwrap();
    let builder = Builder::new().name("deep one").stack(StackClass::Medium);
    scheduler.spawn_with(builder, || recurse(0)).unwrap().join().unwrap();
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

#[test]
fn a_stack_overflow_is_reported_with_the_fibers_name() {
    use std::os::unix::process::ExitStatusExt as _;
    let (status, text) = in_child("child_overflow");
    assert!(text.contains("fiber 'deep one' has overflowed its stack"), "{text}");
    assert_eq!(status.signal(), Some(6), "it aborts");
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
