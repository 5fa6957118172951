//! HyStart++: leaving slow start when the round-trip time grows, before the queue overflows (RFC 9406).

use core::time::Duration;

use crate::time::Instant;

/// `MIN_RTT_THRESH`.
const MIN_RTT_THRESH: Duration = Duration::from_millis(4);
/// `MAX_RTT_THRESH`.
const MAX_RTT_THRESH: Duration = Duration::from_millis(16);
/// `MIN_RTT_DIVISOR`.
const MIN_RTT_DIVISOR: u32 = 8;
/// `N_RTT_SAMPLE`.
const N_RTT_SAMPLE: u32 = 8;
/// `CSS_GROWTH_DIVISOR`.
pub(super) const CSS_GROWTH_DIVISOR: u64 = 4;
/// `CSS_ROUNDS`.
const CSS_ROUNDS: u32 = 5;

/// What slow start should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Grow by what was acknowledged. (The sender paces, so that RFC 9406's `L` is infinite.)
    SlowStart,
    /// Conservative slow start: grow by a quarter of it.
    Conservative,
    /// Slow start is over.
    Exit,
}

/// State of conservative slow start.
#[derive(Clone, Copy, Debug)]
struct Css {
    baseline: Duration,
    rounds: u32,
}

/// The detector; used in the initial slow start only (RFC 9406 section 4.3).
#[derive(Clone, Debug)]
pub(super) struct HyStart {
    /// Packets sent from here on belong to the next round.
    round_ends: Option<Instant>,
    last_round_min: Option<Duration>,
    round_min: Option<Duration>,
    samples: u32,
    css: Option<Css>,
}

impl HyStart {
    pub(super) const fn new() -> Self {
        Self { round_ends: None, last_round_min: None, round_min: None, samples: 0, css: None }
    }

    /// True in conservative slow start.
    pub(super) fn is_conservative(&self) -> bool {
        self.css.is_some()
    }

    /// Takes the round-trip time of a packet sent at `sent_at`.
    #[inline]
    pub(super) fn on_ack(&mut self, now: Instant, sent_at: Instant, rtt: Duration) -> Verdict {
        if self.round_ends.is_none_or(|ends| sent_at >= ends) && self.next_round(now) {
            return Verdict::Exit;
        }
        self.round_min = Some(self.round_min.map_or(rtt, |min| min.min(rtt)));
        self.samples += 1;
        self.judge();
        if self.css.is_some() { Verdict::Conservative } else { Verdict::SlowStart }
    }

    /// Begins a round; true when it is one too many in conservative slow start.
    fn next_round(&mut self, now: Instant) -> bool {
        self.round_ends = Some(now);
        self.last_round_min = self.round_min.take();
        self.samples = 0;
        self.css.as_mut().is_some_and(|css| {
            css.rounds += 1;
            css.rounds >= CSS_ROUNDS
        })
    }

    fn judge(&mut self) {
        let (Some(round), true) = (self.round_min, self.samples >= N_RTT_SAMPLE) else { return };
        match self.css {
            // The growth was a false alarm.
            Some(css) if round < css.baseline => self.css = None,
            Some(_) => {}
            None => {
                let Some(last) = self.last_round_min else { return };
                if round >= last + (last / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH) {
                    self.css = Some(Css { baseline: round, rounds: 0 });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of ten samples each; the verdict of each round's last.
    fn run(rtts_ms: &[u64]) -> Vec<Verdict> {
        let mut hystart = HyStart::new();
        let mut now = Instant::default();
        let mut verdicts = Vec::new();
        for rtt in rtts_ms {
            let rtt = Duration::from_millis(*rtt);
            let sent_at = now;
            now += rtt;
            let mut verdict = Verdict::SlowStart;
            for _ in 0..10 {
                verdict = hystart.on_ack(now, sent_at, rtt);
                if verdict == Verdict::Exit {
                    break;
                }
            }
            verdicts.push(verdict);
        }
        verdicts
    }

    #[test]
    fn steady_rtt_stays_in_slow_start() {
        assert_eq!(run(&[50, 50, 51, 53, 55]), [Verdict::SlowStart; 5]);
    }

    #[test]
    fn growth_by_an_eighth_leads_out_after_five_rounds() {
        use Verdict::{Conservative, Exit, SlowStart};
        let verdicts = run(&[80, 80, 91, 91, 91, 91, 91, 91]);
        assert_eq!(
            verdicts,
            [SlowStart, SlowStart, Conservative, Conservative, Conservative, Conservative, Conservative, Exit]
        );
    }

    #[test]
    fn threshold_is_clamped() {
        use Verdict::{Conservative, SlowStart};
        // 2 ms: an eighth would be 250 us; 4 ms are asked for.
        assert_eq!(run(&[2, 2, 5, 2, 6]), [SlowStart, SlowStart, SlowStart, SlowStart, Conservative]);
        // 400 ms: an eighth would be 50 ms; 16 ms are enough.
        assert_eq!(run(&[400, 415, 431]), [SlowStart, SlowStart, Conservative]);
    }

    #[test]
    fn a_false_alarm_resumes() {
        use Verdict::{Conservative, SlowStart};
        assert_eq!(run(&[80, 95, 94, 94]), [SlowStart, Conservative, SlowStart, SlowStart]);
    }
}
