//! HyStart++ (RFC 9406): leaving slow start when the round-trip time rises, before packets are lost.

use core::time::Duration;

use crate::time::Instant;

const MIN_RTT_THRESH: Duration = Duration::from_millis(4);
const MAX_RTT_THRESH: Duration = Duration::from_millis(16);
const MIN_RTT_DIVISOR: u32 = 8;
const N_RTT_SAMPLE: u32 = 8;
const CSS_GROWTH_DIVISOR: u64 = 4;
const CSS_ROUNDS: u32 = 5;

/// Conservative slow start.
#[derive(Clone, Copy, Debug)]
struct Css {
    baseline_min_rtt: Duration,
    rounds: u32,
}

/// The rounds of the first slow start, and the least round-trip time of each.
#[derive(Clone, Copy, Debug)]
pub(super) struct HyStart {
    /// A packet sent at or after it ends the round.
    round_start: Instant,
    last_min_rtt: Duration,
    current_min_rtt: Duration,
    samples: u32,
    css: Option<Css>,
}

impl HyStart {
    pub(super) fn new() -> Self {
        Self {
            round_start: Instant::default(),
            last_min_rtt: Duration::MAX,
            current_min_rtt: Duration::MAX,
            samples: 0,
            css: None,
        }
    }

    /// Takes an acknowledgement in slow start. Returns by how much the bytes acknowledged are to be divided before the
    /// window grows by them; `None` when slow start is over.
    #[inline]
    pub(super) fn on_ack(&mut self, now: Instant, newest_sent_at: Instant, rtt: Option<Duration>) -> Option<u64> {
        // Packets of the round before do not speak for this one.
        if newest_sent_at >= self.round_start && !self.begin_round(now) {
            return None;
        }
        if let Some(rtt) = rtt {
            self.current_min_rtt = self.current_min_rtt.min(rtt);
            self.samples += 1;
        }
        if self.samples >= N_RTT_SAMPLE {
            self.judge();
        }
        Some(if self.css.is_some() { CSS_GROWTH_DIVISOR } else { 1 })
    }

    /// Ends the round and begins the next; false when it was the last of conservative slow start.
    fn begin_round(&mut self, now: Instant) -> bool {
        self.round_start = now;
        self.last_min_rtt = self.current_min_rtt;
        self.current_min_rtt = Duration::MAX;
        self.samples = 0;
        match &mut self.css {
            Some(css) => {
                css.rounds += 1;
                css.rounds < CSS_ROUNDS
            }
            None => true,
        }
    }

    #[inline]
    fn judge(&mut self) {
        match self.css {
            Some(css) if self.current_min_rtt < css.baseline_min_rtt => self.css = None,
            Some(_) => {}
            None if self.last_min_rtt == Duration::MAX => {}
            None => {
                let thresh = (self.last_min_rtt / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
                if self.current_min_rtt >= self.last_min_rtt + thresh {
                    self.css = Some(Css { baseline_min_rtt: self.current_min_rtt, rounds: 0 });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One round of ten acknowledgements with this round-trip time.
    fn round(h: &mut HyStart, now: &mut u64, rtt_ms: u64) -> Option<u64> {
        let rtt = Duration::from_millis(rtt_ms);
        let sent = *now;
        *now += rtt_ms * 1_000_000;
        let mut last = None;
        for i in 0..10 {
            let sent_at = Instant::from_nanos(sent + i);
            last = Some(h.on_ack(Instant::from_nanos(*now + i), sent_at, Some(rtt))?);
            if i == 9 {
                *now += 10;
            }
        }
        last
    }

    #[test]
    fn a_rising_rtt_ends_slow_start_after_five_rounds() {
        let (mut h, mut now) = (HyStart::new(), 0);
        for _ in 0..4 {
            assert_eq!(round(&mut h, &mut now, 40), Some(1));
        }
        assert_eq!(round(&mut h, &mut now, 44), Some(1), "below the threshold of 5 ms");
        assert_eq!(round(&mut h, &mut now, 50), Some(4));
        for _ in 0..4 {
            assert_eq!(round(&mut h, &mut now, 50), Some(4));
        }
        assert_eq!(round(&mut h, &mut now, 50), None);
    }

    #[test]
    fn a_passing_rise_goes_back_to_slow_start() {
        let (mut h, mut now) = (HyStart::new(), 0);
        for rtt in [40, 40] {
            round(&mut h, &mut now, rtt);
        }
        assert_eq!(round(&mut h, &mut now, 60), Some(4));
        assert_eq!(round(&mut h, &mut now, 60), Some(4));
        assert_eq!(round(&mut h, &mut now, 41), Some(1));
    }
}
