//! Whether there should be more workers, or fewer.

use std::ops::RangeInclusive;
use std::time::Duration;

/// When the number of workers changes by itself. Any worker may ask for growth; only the coordinator shrinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalingPolicy {
    /// A worker asks for growth when its running average of the time from a datagram's arrival until it is handled is
    /// above this.
    pub grow_delay: Duration,
    /// … or when at least so many datagrams wait for it.
    pub grow_queue: u64,
    /// One worker is removed when all together are so little at work that the others would not be busier than this, in
    /// percent of their time. Time that a worker spins or polls counts as work.
    pub shrink_percent: u32,
    /// … for so long.
    pub patience: Duration,
    /// Least time between two changes: the effect of the last one has to show first.
    pub cooldown: Duration,
}

impl Default for ScalingPolicy {
    /// Grow above 1 ms or 2,048 datagrams, at most every 2 s; shrink after 10 s below 50 %.
    fn default() -> Self {
        Self {
            grow_delay: Duration::from_millis(1),
            grow_queue: 2_048,
            shrink_percent: 50,
            patience: Duration::from_secs(10),
            cooldown: Duration::from_secs(2),
        }
    }
}

impl ScalingPolicy {
    /// Whether a worker with these numbers asks for growth.
    pub(crate) fn is_pressed(&self, delay: Duration, queue: u64) -> bool {
        delay > self.grow_delay || queue >= self.grow_queue
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Stay,
    Grow,
    Shrink,
}

/// Watches how much of their time the workers are at work.
#[derive(Debug)]
pub(crate) struct Judge {
    policy: ScalingPolicy,
    /// When the last change was.
    changed: Duration,
    /// Since when there is one worker too many.
    calm_since: Option<Duration>,
}

impl Judge {
    pub(crate) fn new(policy: ScalingPolicy) -> Self {
        Self { policy, changed: Duration::ZERO, calm_since: None }
    }

    pub(crate) fn policy(&self) -> &ScalingPolicy {
        &self.policy
    }

    /// Whether another change may come at `now`, which counts from any start.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        now.saturating_sub(self.changed) >= self.policy.cooldown
    }

    /// There was a change.
    pub(crate) fn changed(&mut self, now: Duration) {
        self.changed = now;
        self.calm_since = None;
    }

    /// Judges at `now`: `pressed` says that a worker has asked for growth since the last time; there may be as many `workers` as the
    /// range says; together they were at work `busy_percent` of one worker's time (so `workers` × 100 at most).
    pub(crate) fn judge(
        &mut self,
        now: Duration,
        pressed: bool,
        workers: usize,
        range: RangeInclusive<usize>,
        busy: u64,
    ) -> Verdict {
        let others = (workers as u64).saturating_sub(1);
        let calm = !pressed && workers > *range.start() && busy < others * u64::from(self.policy.shrink_percent);
        self.calm_since = if calm { self.calm_since.or(Some(now)) } else { None };
        if !self.is_due(now) {
            return Verdict::Stay;
        }
        if pressed && workers < *range.end() {
            return Verdict::Grow;
        }
        match self.calm_since {
            Some(since) if now.saturating_sub(since) >= self.policy.patience => Verdict::Shrink,
            _ => Verdict::Stay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_worker_is_pressed_by_delay_or_by_a_long_queue() {
        let policy = ScalingPolicy::default();
        assert!(!policy.is_pressed(Duration::from_millis(1), 2_047));
        assert!(policy.is_pressed(Duration::from_micros(1_001), 0) && policy.is_pressed(Duration::ZERO, 2_048));
    }

    #[test]
    fn growth_waits_for_the_last_change_to_show_and_ends_at_the_most() {
        let mut judge = Judge::new(ScalingPolicy::default());
        judge.changed(at(10));
        assert_eq!(judge.judge(at(11), true, 1, 1..=4, 100), Verdict::Stay);
        assert_eq!(judge.judge(at(12), true, 1, 1..=4, 100), Verdict::Grow);
        assert_eq!(judge.judge(at(12), true, 4, 1..=4, 400), Verdict::Stay);
        assert_eq!(judge.judge(at(12), false, 1, 1..=4, 100), Verdict::Stay);
    }

    #[test]
    fn shrinking_takes_patience_and_room_in_the_others() {
        let mut judge = Judge::new(ScalingPolicy::default());
        judge.changed(at(0));
        // Three workers at work 99 % of one: two would be so for less than 50 %.
        for second in 5..15 {
            assert_eq!(judge.judge(at(second), false, 3, 1..=4, 99), Verdict::Stay, "second {second}");
        }
        assert_eq!(judge.judge(at(15), false, 3, 1..=4, 99), Verdict::Shrink);
        judge.changed(at(15));
        // Two at work 60 %: one would be so for more than 50 %.
        assert!((16..40).all(|second| judge.judge(at(second), false, 2, 1..=4, 60) == Verdict::Stay));
        // A moment of load begins the wait anew, and the last one stays.
        assert!((40..49).all(|second| judge.judge(at(second), false, 2, 1..=4, 10) == Verdict::Stay));
        assert_eq!(judge.judge(at(49), false, 2, 1..=4, 80), Verdict::Stay);
        assert_eq!(judge.judge(at(50), false, 2, 1..=4, 10), Verdict::Stay);
        assert_eq!(judge.judge(at(60), false, 2, 1..=4, 10), Verdict::Shrink);
        judge.changed(at(60));
        assert!((61..99).all(|second| judge.judge(at(second), false, 1, 1..=4, 0) == Verdict::Stay));
        assert!(
            (61..99).all(|second| judge.judge(at(second), false, 2, 2..=4, 0) == Verdict::Stay),
            "both have to stay"
        );
    }
}
