//! HyStart++: leaving slow start before it overshoots (RFC 9406).

use core::time::Duration;

use crate::time::Instant;

/// RTT samples in a round before its delay is judged.
const SAMPLES_MIN: u32 = 8;
const THRESH_MIN: Duration = Duration::from_millis(4);
const THRESH_MAX: Duration = Duration::from_millis(16);
const THRESH_DIVISOR: u32 = 8;
/// Growth in conservative slow start is this much slower.
const CSS_GROWTH_DIVISOR: u64 = 4;
/// Rounds of conservative slow start.
const CSS_ROUNDS: u32 = 5;

/// What the sender is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Grow by this many bytes.
    Grow(u64),
    /// Slow start is over.
    Exit,
}

/// Watches the RTT of each round of slow start.
#[derive(Clone, Copy, Debug)]
pub(super) struct HyStart {
    /// The round ends when a packet sent after this moment is acknowledged.
    round_ends: Instant,
    last_round_min: Option<Duration>,
    round_min: Option<Duration>,
    samples: u32,
    css: Option<Css>,
}

/// Conservative slow start.
#[derive(Clone, Copy, Debug)]
struct Css {
    /// The round's RTT when it began: below it, slow start goes on after all.
    baseline: Duration,
    rounds: u32,
}

impl Default for HyStart {
    fn default() -> Self {
        Self { round_ends: Instant::default(), last_round_min: None, round_min: None, samples: 0, css: None }
    }
}

impl HyStart {
    /// `acked` bytes were acknowledged; the newest packet among them was sent at `sent_at`.
    pub(super) fn on_ack(&mut self, now: Instant, sent_at: Instant, latest_rtt: Duration, acked: u64) -> Verdict {
        if sent_at > self.round_ends {
            // A new round begins with the packets sent from now on.
            self.round_ends = now;
            self.last_round_min = self.round_min.take();
            self.samples = 0;
            if let Some(css) = &mut self.css {
                css.rounds += 1;
                if css.rounds >= CSS_ROUNDS {
                    return Verdict::Exit;
                }
            }
        }
        self.round_min = Some(self.round_min.map_or(latest_rtt, |min| min.min(latest_rtt)));
        self.samples += 1;
        self.judge();
        Verdict::Grow(if self.css.is_some() { acked / CSS_GROWTH_DIVISOR } else { acked })
    }

    fn judge(&mut self) {
        let (Some(current), true) = (self.round_min, self.samples >= SAMPLES_MIN) else { return };
        match self.css {
            Some(css) if current < css.baseline => self.css = None,
            Some(_) => {}
            None => {
                let Some(last) = self.last_round_min else { return };
                let thresh = (last / THRESH_DIVISOR).clamp(THRESH_MIN, THRESH_MAX);
                if current >= last + thresh {
                    self.css = Some(Css { baseline: current, rounds: 0 });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    /// Rounds of ten samples each with a given RTT.
    fn rounds(h: &mut HyStart, from: u64, rtts: &[u64]) -> Vec<Verdict> {
        let mut now = from;
        let mut out = Vec::new();
        for rtt in rtts {
            now += rtt;
            for i in 0..10 {
                out.push(h.on_ack(at(now + i), at(now + i - rtt), Duration::from_millis(*rtt), 1000));
            }
            now += 10;
        }
        out
    }

    #[test]
    fn growing_delay_slows_growth_and_ends_slow_start() {
        let mut h = HyStart::default();
        let steady = rounds(&mut h, 100, &[50, 50, 50]);
        assert!(steady.iter().all(|v| *v == Verdict::Grow(1000)));
        let queueing = rounds(&mut h, 500, &[60, 70, 75, 80, 85, 90, 95]);
        assert!(queueing.contains(&Verdict::Grow(250)) && queueing.contains(&Verdict::Exit));
    }

    #[test]
    fn a_passing_bump_does_not_end_it() {
        let mut h = HyStart::default();
        let verdicts = rounds(&mut h, 100, &[50, 60, 50, 50, 50, 50, 50, 50, 50]);
        assert!(!verdicts.contains(&Verdict::Exit));
        assert_eq!(verdicts.last(), Some(&Verdict::Grow(1000)));
    }
}
