//! What a worker knows of its own load.

use crate::limits::{ASK_EVERY, AVERAGE_SHARE};
use crate::scaling::ScalingPolicy;
use std::time::Duration;
use warpline_proto::{Instant, Pressure};

/// Numbers that only the worker writes; it publishes them with its counters.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// When a look brought something last, and how many datagrams; nothing if the worker has slept since.
    last_look: Option<(Instant, u64)>,
    delay: Duration,
    /// What a datagram takes of a worker's time that does not sleep, everything included: a running average.
    each: Duration,
    queue: u64,
    asked: Option<Instant>,
}

/// What a worker that does not keep up finds behind what it takes at a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backlog {
    /// What it took had waited for so long.
    Waited(Duration),
    /// It left so many datagrams.
    Left(u64),
}

/// A running average with one more sample.
fn follow(average: Duration, sample: Duration) -> Duration {
    average - average / AVERAGE_SHARE + sample / AVERAGE_SHARE
}

impl Signals {
    /// A look at `began` found `count` datagrams, which were handled by `ended`. Where a worker does not keep up the `backlog` is known:
    /// how long they had waited or how many wait behind them, each of which says the other. One that takes everything at each look finds what came since the look
    /// before, and that has waited half of the time since then, on average. What is handled waits for half of what is handled with it.
    #[inline]
    pub(crate) fn looked(&mut self, began: Instant, ended: Instant, backlog: Option<Backlog>, count: u64) {
        let since = self.last_look.map_or(Duration::ZERO, |(last, _)| began - last);
        if let Some((_, before @ 1..)) = self.last_look {
            self.each = follow(self.each, since / u32::try_from(before).unwrap_or(u32::MAX));
        }
        let (waited, behind) = match backlog {
            None => (since / 2, 0),
            Some(Backlog::Waited(waited)) => (waited, waited.as_nanos() / self.each.as_nanos().max(1)),
            Some(Backlog::Left(left)) => {
                (self.each.saturating_mul(u32::try_from(left).unwrap_or(u32::MAX)), left.into())
            }
        };
        self.delay = follow(self.delay, waited + (ended - began) / 2);
        self.queue = count.max(u64::try_from(behind).unwrap_or(u64::MAX));
        self.last_look = Some((began, count));
    }

    /// The worker has slept, so what comes next has not waited for it; nothing was there when it fell asleep.
    pub(crate) fn slept(&mut self) {
        self.last_look = None;
        self.queue = 0;
    }

    pub(crate) fn delay(&self) -> Duration {
        self.delay
    }

    /// What that delay means for connections that are not there yet, `shed` being the delay at which there are to be no more.
    #[inline]
    pub(crate) fn pressure(&self, shed: Duration) -> Pressure {
        match self.delay {
            _ if shed.is_zero() => Pressure::None,
            delay if delay > shed => Pressure::Shed,
            delay if delay > shed / 2 => Pressure::Validate,
            _ => Pressure::None,
        }
    }

    pub(crate) fn queue(&self) -> u64 {
        self.queue
    }

    /// Whether to ask for another worker, at most every now and then.
    #[inline]
    pub(crate) fn asks(&mut self, policy: Option<&ScalingPolicy>, now: Instant) -> bool {
        let pressed = policy.is_some_and(|policy| policy.is_pressed(self.delay, self.queue));
        let asks = pressed && self.asked.is_none_or(|asked| now - asked >= ASK_EVERY);
        if asks {
            self.asked = Some(now);
        }
        asks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Instant {
        Instant::from_nanos(us * 1_000)
    }

    #[test]
    fn the_average_follows_the_delay_and_sleep_is_no_delay() {
        let mut signals = Signals::default();
        for turn in 0..200 {
            signals.looked(at(turn * 4_000), at(turn * 4_000 + 4_000), None, 900);
        }
        let delay = signals.delay();
        assert!(delay > Duration::from_micros(3_900) && delay <= Duration::from_micros(4_000), "{delay:?}");
        assert_eq!(signals.queue(), 900);
        for turn in 0..200 {
            signals.slept();
            signals.looked(at(1_000_000 + turn * 4_000), at(1_000_020 + turn * 4_000), None, 1);
        }
        assert!(signals.delay() < Duration::from_micros(12), "{:?}", signals.delay());
    }

    #[test]
    fn what_has_waited_in_the_socket_counts_and_tells_how_much_waits_behind_it() {
        let (mut signals, policy) = (Signals::default(), ScalingPolicy::default());
        // Short turns of 16 datagrams each, 10 µs a datagram, and a socket in which they wait for 50 ms.
        for turn in 0..200 {
            let (began, ended) = (at(turn * 160), at(turn * 160 + 100));
            signals.looked(began, ended, Some(Backlog::Waited(Duration::from_millis(50))), 16);
        }
        let delay = signals.delay();
        assert!(delay > Duration::from_millis(49) && delay < Duration::from_millis(51), "{delay:?}");
        assert!((4_900..=5_100).contains(&signals.queue()), "{}", signals.queue());
        assert!(signals.queue() >= policy.grow_queue && signals.asks(Some(&policy), at(1_000_000)));
        assert_eq!(signals.pressure(Duration::from_millis(60)), Pressure::Validate);
        assert_eq!(signals.pressure(Duration::from_millis(40)), Pressure::Shed);
    }

    #[test]
    fn what_is_left_in_a_ring_tells_how_long_it_waits() {
        let (mut signals, policy) = (Signals::default(), ScalingPolicy::default());
        // 10 µs a datagram, and 3,000 in the ring: 30 ms.
        for turn in 0..200 {
            let (began, ended) = (at(turn * 640), at(turn * 640 + 600));
            signals.looked(began, ended, Some(Backlog::Left(3_000)), 64);
        }
        let delay = signals.delay();
        assert!(delay > Duration::from_millis(29) && delay < Duration::from_millis(31), "{delay:?}");
        assert_eq!(signals.queue(), 3_000);
        assert!(signals.asks(Some(&policy), at(1_000_000)));
    }

    #[test]
    fn a_late_worker_asks_for_proof_first_and_then_takes_no_more() {
        let (mut signals, shed) = (Signals::default(), Duration::from_millis(2));
        let mut seen = Vec::new();
        for turn in 0..100 {
            signals.looked(at(turn * 4_000), at(turn * 4_000 + 4_000), None, 900);
            seen.push(signals.pressure(shed));
            assert_eq!(signals.pressure(Duration::ZERO), Pressure::None);
        }
        assert!(seen.is_sorted() && seen.contains(&Pressure::Validate));
        assert_eq!((seen.first(), seen.last()), (Some(&Pressure::None), Some(&Pressure::Shed)));
        signals.slept();
        for turn in 0..60 {
            signals.slept();
            signals.looked(at(9_000_000 + turn), at(9_000_000 + turn), None, 1);
        }
        assert_eq!(signals.pressure(shed), Pressure::None, "it recovers");
    }

    #[test]
    fn a_pressed_worker_asks_now_and_then() {
        let policy = ScalingPolicy::default();
        let mut signals = Signals::default();
        assert!(!signals.asks(Some(&policy), at(0)));
        signals.looked(at(1), at(2), None, policy.grow_queue);
        assert!(!signals.asks(None, at(3)), "nobody would hear it");
        let asked: Vec<u64> = (0..2_000).filter(|ms| signals.asks(Some(&policy), at(ms * 1_000 + 10))).collect();
        assert_eq!(asked, [0, 500, 1_000, 1_500]);
    }
}
