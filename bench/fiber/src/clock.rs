//! What reading the clock costs, and how far it drifts.

use crate::{Contender, contender, timed};
use std::hint::black_box;
use std::time::{Duration, Instant};
use warpline_fiber::time::Clock;

pub fn read() -> Vec<Contender> {
    let clock = Clock::default();
    vec![
        contender("warpline clock", move |n| {
            timed(|| {
                for _ in 0..n {
                    black_box(clock.now());
                }
            })
        }),
        contender("std::time::Instant, read by a thread", |n| {
            timed(|| {
                for _ in 0..n {
                    black_box(Instant::now());
                }
            })
        }),
    ]
}

/// Shows how far the clock is from `CLOCK_MONOTONIC` after a while, in parts of a million.
pub fn drift(length: Duration) -> Option<f64> {
    let clock = Clock::default();
    let pair = || {
        // The reading between the two that lie closest together.
        let best = (0..1000).map(|_| {
            let before = Instant::now();
            let ours = clock.now();
            let after = Instant::now();
            (after - before, before + (after - before) / 2, ours)
        });
        best.min_by_key(|reading| reading.0).map(|reading| (reading.1, reading.2))
    };
    let (system, ours) = pair()?;
    std::thread::sleep(length);
    let (system_end, ours_end) = pair()?;
    let (system, ours) = ((system_end - system).as_nanos() as f64, (ours_end - ours).as_nanos() as f64);
    let drift = (ours - system) / system * 1e6;
    println!("\nclock drift over {length:?}: {drift:+.3} parts in a million");
    Some(drift)
}
