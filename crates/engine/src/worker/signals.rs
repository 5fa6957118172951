//! What a worker knows of its own load.

use crate::limits::{ASK_EVERY, DELAY_SHARE};
use crate::scaling::ScalingPolicy;
use std::time::Duration;
use warpline_proto::{Instant, Pressure};

/// Numbers that only the worker writes; it publishes them with its counters.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// When the socket was looked at last, unless the worker has slept since.
    last_look: Option<Instant>,
    delay: Duration,
    queue: u64,
    asked: Option<Instant>,
}

impl Signals {
    /// A look at `began` found `queue` datagrams, which were handled by `ended`. Without sleep in between a datagram has
    /// waited half of the time since the look before, on average, and then half of the time that handling all took.
    #[inline]
    pub(crate) fn looked(&mut self, began: Instant, ended: Instant, queue: u64) {
        self.queue = queue;
        let waited = self.last_look.map_or(Duration::ZERO, |last| began - last);
        let sample = (waited + (ended - began)) / 2;
        self.delay = self.delay - self.delay / DELAY_SHARE + sample / DELAY_SHARE;
        self.last_look = Some(began);
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
            signals.looked(at(turn * 4_000), at(turn * 4_000 + 4_000), 900);
        }
        let delay = signals.delay();
        assert!(delay > Duration::from_micros(3_900) && delay <= Duration::from_micros(4_000), "{delay:?}");
        assert_eq!(signals.queue(), 900);
        for turn in 0..200 {
            signals.slept();
            signals.looked(at(1_000_000 + turn * 4_000), at(1_000_020 + turn * 4_000), 1);
        }
        assert!(signals.delay() < Duration::from_micros(12), "{:?}", signals.delay());
    }

    #[test]
    fn a_late_worker_asks_for_proof_first_and_then_takes_no_more() {
        let (mut signals, shed) = (Signals::default(), Duration::from_millis(2));
        let mut seen = Vec::new();
        for turn in 0..100 {
            signals.looked(at(turn * 4_000), at(turn * 4_000 + 4_000), 900);
            seen.push(signals.pressure(shed));
            assert_eq!(signals.pressure(Duration::ZERO), Pressure::None);
        }
        assert!(seen.is_sorted() && seen.contains(&Pressure::Validate));
        assert_eq!((seen.first(), seen.last()), (Some(&Pressure::None), Some(&Pressure::Shed)));
        signals.slept();
        for turn in 0..60 {
            signals.slept();
            signals.looked(at(9_000_000 + turn), at(9_000_000 + turn), 1);
        }
        assert_eq!(signals.pressure(shed), Pressure::None, "it recovers");
    }

    #[test]
    fn a_pressed_worker_asks_now_and_then() {
        let policy = ScalingPolicy::default();
        let mut signals = Signals::default();
        assert!(!signals.asks(Some(&policy), at(0)));
        signals.looked(at(1), at(2), policy.grow_queue);
        assert!(!signals.asks(None, at(3)), "nobody would hear it");
        let asked: Vec<u64> = (0..2_000).filter(|ms| signals.asks(Some(&policy), at(ms * 1_000 + 10))).collect();
        assert_eq!(asked, [0, 500, 1_000, 1_500]);
    }
}
